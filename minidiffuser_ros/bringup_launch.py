"""What every launch file does: declare the arguments of a bring-up and start the nodes that they lead to."""

from __future__ import annotations

from functools import partial
from typing import Any, List  # noqa: UP035  # launch knows the types of `typing` only

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable, Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from minidiffuser_ros.bringup import PlannedNode, node_environment, plan
from minidiffuser_ros.bringup_tables import BRINGUPS


def launch_description(bringup: str) -> LaunchDescription:
    """Every argument of the bring-up, and its nodes."""
    arguments = [
        DeclareLaunchArgument(
            argument.name,
            default_value=argument.default,
            description=argument.description,
            choices=list(argument.choices) or None,
        )
        for argument in BRINGUPS[bringup].arguments
    ]
    environment = [SetEnvironmentVariable(name, value) for name, value in node_environment().items()]
    return LaunchDescription([*arguments, *environment, OpaqueFunction(function=partial(start_nodes, bringup=bringup))])


def start_nodes(context: LaunchContext, bringup: str) -> list[Node]:
    """The nodes for the values that the arguments have now."""
    names = [argument.name for argument in BRINGUPS[bringup].arguments]
    return [action(node) for node in plan(bringup, {n: LaunchConfiguration(n).perform(context) for n in names})]


def action(node: PlannedNode) -> Node:
    """The launch action of one planned node; all end when one does."""
    # Without its type a serial number would become an integer.
    typed = {name: ParameterValue(value, value_type=_type_of(value)) for name, value in node.parameters.items()}
    return Node(
        package=node.package,
        executable=node.executable,
        name=node.name,
        namespace=node.namespace,
        parameters=[*node.files, typed],
        remappings=list(node.remaps),
        ros_arguments=["--log-level", node.log_level],
        output="screen",
        on_exit=Shutdown(reason=f"{node.name} ended"),
    )


def _type_of(value: Any) -> Any:
    return List[str] if isinstance(value, list) else type(value)  # noqa: UP006
