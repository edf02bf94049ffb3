"""A trained policy on the arm: `ros2 launch minidiffuser_ros policy.launch.py` runs the shipped one in simulation.

Arguments and nodes come from the table in `minidiffuser_ros/bringup_tables.py`; `--show-args` lists them.
"""

from launch import LaunchDescription

from minidiffuser_ros.bridge.launching import launch_description
from minidiffuser_ros.bringup import launched


def generate_launch_description() -> LaunchDescription:
    """Every argument of the bring-up, and its nodes."""
    return launch_description(*launched("policy"))
