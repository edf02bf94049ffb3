"""An operator's hands on the arm node: `twist_command`, the deadman `enable`, and the service `~/guide`."""

from __future__ import annotations

from collections.abc import Callable

from geometry_msgs.msg import TwistStamped
from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from std_msgs.msg import Bool
from std_srvs.srv import SetBool

from minidiffuser_ros.arm.executor import KeyposeExecutor
from minidiffuser_ros.arm.franky_arm import FrankyArm
from minidiffuser_ros.arm.guide import HandGuide
from minidiffuser_ros.arm.servo import Servo, ServoReport
from minidiffuser_ros.arm.settings import ArmSettings
from minidiffuser_ros.arm.twist import TwistLimiter
from minidiffuser_ros.arm.watchdog import Deadman
from minidiffuser_ros.bridge.conversions import stamp_to_ns, twist_from_message
from minidiffuser_ros.bridge.qos import RELIABLE, SENSOR_DATA
from minidiffuser_ros.contract.errors import MinidiffuserError


class OperatorControl:
    """Listens from the start, and hands over what comes while there is an arm.

    objections: why nothing may move now. tell: what servo and guide report.
    """

    def __init__(
        self,
        node: Node,
        group: CallbackGroup,
        objections: Callable[[], list[str]],
        tell: Callable[[ServoReport], None],
    ) -> None:
        self._node, self._objections, self._tell = node, objections, tell
        self._deadman = Deadman()
        self._servo: Servo | None = None
        self._guide: HandGuide | None = None
        node.create_subscription(TwistStamped, "twist_command", self._on_twist, SENSOR_DATA, callback_group=group)
        node.create_subscription(Bool, "enable", self._on_enable, RELIABLE, callback_group=group)
        node.create_service(SetBool, "~/guide", self._on_guide, callback_group=group)

    def start(self, arm: FrankyArm, goals: KeyposeExecutor, settings: ArmSettings) -> None:
        """From now on there is an arm."""
        limiter = TwistLimiter(settings.limits, settings.servo)
        self._deadman.timeout_s = settings.servo.enable_timeout_s
        self._servo = Servo(arm, goals, limiter, self._deadman, self._objections, self._tell)
        self._guide = HandGuide(arm, goals, self._deadman, self._objections, self._tell)

    def wait(self, timeout_s: float = 4.0) -> bool:
        """Take the hands off and wait until the arm stands still; returns whether it does. Object first."""
        stopped = self._guide is None or self._guide.stop(timeout_s)
        return (self._servo is None or self._servo.wait(timeout_s)) and stopped

    def close(self) -> None:
        """There is no arm any more."""
        if self._guide is not None:
            self._guide.stop()
        if self._servo is not None:
            self._servo.close()
        self._servo = self._guide = None

    def _on_twist(self, message: TwistStamped) -> None:
        servo, stamp_ns = self._servo, stamp_to_ns(message.header.stamp)
        if servo is not None:
            age_s = 1e-9 * (self._node.get_clock().now().nanoseconds - stamp_ns) if stamp_ns else 0.0
            servo.command(twist_from_message(message, age_s))

    def _on_enable(self, message: Bool) -> None:
        self._deadman.hold(message.data)

    def _on_guide(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        guide = self._guide
        if guide is None:
            response.message = "the arm node is not configured"
            return response
        try:
            if request.data:
                guide.start()
            response.success = request.data or guide.stop()
            response.message = "the arm gives way" if request.data else "the arm stands still"
        except MinidiffuserError as error:
            response.message = str(error)
        return response
