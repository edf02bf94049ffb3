"""What a node tells `/diagnostics`, the topic that ROS's own tools collect the health of a robot from."""

from __future__ import annotations

import enum
from collections.abc import Mapping

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from minidiffuser_ros.bridge.conversions import stamp_from_ns


class Level(enum.Enum):
    """How bad it is."""

    OK = DiagnosticStatus.OK
    WARN = DiagnosticStatus.WARN
    ERROR = DiagnosticStatus.ERROR
    STALE = DiagnosticStatus.STALE


class Diagnostics:
    """One status of a node on `/diagnostics`; the name is relative to no namespace, as the aggregators expect it."""

    def __init__(self, node: Node, hardware_id: str = "", part: str = "") -> None:
        """part: what of the node it tells of, where a node has several statuses."""
        self._node, self._hardware_id = node, hardware_id
        self._suffix = f": {part}" if part else ""
        # Absolute by convention (REP 107): the aggregator listens in one place for all robots, told apart by name.
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)

    def tell(self, level: Level, message: str, values: Mapping[str, object] | None = None) -> None:
        """Publish one status of the node: a sentence, and what a person would look at."""
        status = DiagnosticStatus(
            level=level.value,
            name=self._node.get_fully_qualified_name().lstrip("/") + self._suffix,
            message=message,
            hardware_id=self._hardware_id,
            values=[KeyValue(key=key, value=str(value)) for key, value in (values or {}).items()],
        )
        array = DiagnosticArray(status=[status])
        array.header.stamp = stamp_from_ns(int(self._node.get_clock().now().nanoseconds))
        self._publisher.publish(array)
