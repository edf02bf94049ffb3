"""The twists of the arm node: from `twist_command` and `enable` to the servo."""

from __future__ import annotations

from collections.abc import Callable

from geometry_msgs.msg import TwistStamped
from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from std_msgs.msg import Bool

from minidiffuser_ros.arm.servo import Servo
from minidiffuser_ros.bridge.conversions import stamp_to_ns, twist_from_message
from minidiffuser_ros.bridge.qos import RELIABLE, SENSOR_DATA


class TwistInput:
    """Subscribes once; hands over to whichever servo there is."""

    def __init__(self, node: Node, group: CallbackGroup, servo: Callable[[], Servo | None]) -> None:
        self._node, self._servo = node, servo
        node.create_subscription(TwistStamped, "twist_command", self._on_twist, SENSOR_DATA, callback_group=group)
        node.create_subscription(Bool, "enable", self._on_enable, RELIABLE, callback_group=group)

    def _on_twist(self, message: TwistStamped) -> None:
        servo, stamp_ns = self._servo(), stamp_to_ns(message.header.stamp)
        if servo is not None:
            age_s = 1e-9 * (self._node.get_clock().now().nanoseconds - stamp_ns) if stamp_ns else 0.0
            servo.command(twist_from_message(message, age_s))

    def _on_enable(self, message: Bool) -> None:
        servo = self._servo()
        if servo is not None:
            servo.enable(message.data)
