"""What every launch file does: declare the arguments of a bring-up and start the nodes that they lead to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, List  # noqa: UP035  # launch knows the types of `typing` only

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable, Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue


def launch_description(
    arguments: Sequence[Any], plan: Callable[[Mapping[str, str]], Sequence[Any]], environment: Mapping[str, str]
) -> LaunchDescription:
    """Every argument of a bring-up (`bringup_tables.Argument`), and the nodes (`bringup.PlannedNode`) of its plan."""

    def start_nodes(context: LaunchContext) -> list[Node]:
        """The nodes for the values that the arguments have now."""
        values = {argument.name: LaunchConfiguration(argument.name).perform(context) for argument in arguments}
        return [action(node) for node in plan(values)]

    declared = [
        DeclareLaunchArgument(
            argument.name,
            default_value=argument.default,
            description=argument.description,
            choices=list(argument.choices) or None,
        )
        for argument in arguments
    ]
    variables = [SetEnvironmentVariable(name, value) for name, value in environment.items()]
    return LaunchDescription([*declared, *variables, OpaqueFunction(function=start_nodes)])


def action(node: Any) -> Node:
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
