"""Demonstrations by teleoperation: `ros2 launch minidiffuser_ros record.launch.py` waits for them in simulation.

With `operator:=scripted` the simulator's expert gives them. Arguments and nodes come from the table in
`minidiffuser_ros/bringup_tables.py`; `--show-args` lists them.
"""

from launch import LaunchDescription

from minidiffuser_ros.bridge.launching import launch_description
from minidiffuser_ros.bringup import launched


def generate_launch_description() -> LaunchDescription:
    """Every argument of the bring-up, and its nodes."""
    return launch_description(*launched("record"))
