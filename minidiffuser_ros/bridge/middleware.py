"""What carries the messages."""

from __future__ import annotations

from rclpy.utilities import get_rmw_implementation_identifier


def middleware() -> str:
    """Name of ROS's middleware in force, such as `rmw_fastrtps_cpp`."""
    return str(get_rmw_implementation_identifier())
