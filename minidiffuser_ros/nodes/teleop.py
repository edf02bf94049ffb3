"""`teleop`: an operator's hands. Publishes twists and the deadman's heartbeat, and passes requests on.

The keyboard needs a terminal, which launch does not give its nodes: run it in one of its own,
`ros2 run minidiffuser_ros teleop` or `python -m minidiffuser_ros.nodes teleop`.
"""

from __future__ import annotations

import time
from typing import Any

from geometry_msgs.msg import TwistStamped
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.parameter import Parameter
from rclpy.timer import Timer
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool

from minidiffuser_ros.arm.kinematics import BASE_FRAME, TOOL_FRAME
from minidiffuser_ros.arm.teleop_handheld import Joystick, SpaceMouse
from minidiffuser_ros.arm.teleop_input import (
    FASTEST,
    SLOWEST,
    STEP,
    Device,
    Intent,
    Reading,
    TeleopSettings,
    twist_of,
)
from minidiffuser_ros.arm.teleop_keyboard import Keyboard, Terminal
from minidiffuser_ros.bridge.conversions import twist_to_message
from minidiffuser_ros.bridge.lifecycle import EXIT_USER_ERROR, ManagedNode
from minidiffuser_ros.bridge.parameters import NodeParameters
from minidiffuser_ros.bridge.process import run_node
from minidiffuser_ros.bridge.qos import LATCHED, RELIABLE, SENSOR_DATA
from minidiffuser_ros.contract.errors import ConnectionLostError
from minidiffuser_ros.msg import ArmStatus, RecorderStatus
from minidiffuser_ros.nodes.teleop_requests import SERVICES, GripperToggle, Requests

STATUS_PERIOD_S = 0.25
RECORDER_SILENT_S = 3.0  # it repeats its status twice a second
GUIDE_AFTER_S = 0.2
RECORDER_STATES = {
    RecorderStatus.IDLE: "idle",
    RecorderStatus.RECORDING: "RECORDING",
    RecorderStatus.SAVING: "saving",
    RecorderStatus.ERROR: "in trouble",
}


class TeleopNode(ManagedNode):
    """One operator with one device. Publishes `twist_command` while the deadman is held, and `enable` with it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("teleop", **kwargs)
        self._settings = NodeParameters(self, TeleopSettings())
        self._device: Device | None = None
        self._terminal: Terminal | None = None
        self._timer: Timer | None = None
        self._scale, self._frame = 1.0, BASE_FRAME
        self._held = self._guiding = self._arm_moved = False
        self._ask_guide_at = float("inf")
        self._opening = 1.0
        self._recorder: RecorderStatus | None = None
        self._recorder_seen_at = float("-inf")
        self._arm_says, self._shown_at = "", float("-inf")
        self._twist = self.create_publisher(TwistStamped, "twist_command", RELIABLE)
        self._enable = self.create_publisher(Bool, "enable", RELIABLE)
        group = ReentrantCallbackGroup()
        self._gripper = GripperToggle(self, group, self._note)
        self._requests = Requests(self, group, lambda: self._settings.value, self._note, self._say)
        self.create_subscription(JointState, "gripper_target", self._on_gripper, SENSOR_DATA, callback_group=group)
        self.create_subscription(ArmStatus, "arm/status", self._on_arm, LATCHED, callback_group=group)
        self.create_subscription(RecorderStatus, "recorder/status", self._on_recorder, LATCHED, callback_group=group)

    # -- lifecycle ------------------------------------------------------------------------------------------------

    def configure(self) -> None:
        """Open the device."""
        self._device = self._open()

    def activate(self) -> None:
        """Begin to read it."""
        if isinstance(self._device, Keyboard):
            self._device.terminal.show(self._device.help)
        clock, group = Clock(clock_type=ClockType.STEADY_TIME), MutuallyExclusiveCallbackGroup()
        period_s = 1.0 / self._settings.value.rate
        self._timer = self.create_timer(period_s, self._on_timer, callback_group=group, clock=clock)

    def deactivate(self) -> None:
        """Let go."""
        if self._timer is not None:
            self.destroy_timer(self._timer)
            self._timer = None
        self._publish(Reading())
        if self._guiding:
            self._set_guiding(False)

    def cleanup(self) -> None:
        """Give the device back."""
        if self._device is not None:
            self._device.close()
        self._device = self._terminal = None

    def _open(self) -> Device:
        settings = self._settings.value
        if settings.device == "joystick":
            return Joystick(settings.joystick)
        if settings.device == "spacemouse":
            return SpaceMouse()
        self._terminal = Terminal()
        return Keyboard(self._terminal, settings.key_hold_s, moves=settings.device == "keyboard")

    # -- motion and requests --------------------------------------------------------------------------------------

    def _on_timer(self) -> None:
        device = self._device
        if device is None or not self.is_active:
            return
        try:
            reading = device.read()
        except ConnectionLostError as error:
            self._publish(Reading())
            self.end(str(error), EXIT_USER_ERROR)
            return
        self._publish(reading)
        for intent in reading.intents:
            self._do(intent)
        if time.monotonic() >= self._ask_guide_at:
            self._ask_guide_at = float("inf")
            self._requests.send(Intent.GUIDE, self._guiding, refused=lambda: self._set_guiding(False))
        if time.monotonic() - self._shown_at > STATUS_PERIOD_S:
            self._show()

    def _publish(self, reading: Reading) -> None:
        """Twist and heartbeat while the deadman is held; one zero and one false when it is let go of."""
        if reading.held or self._held:
            settings, now_ns = self._settings.value, int(self.get_clock().now().nanoseconds)
            self._enable.publish(Bool(data=reading.held))
            linear, angular = self._scale * settings.linear, self._scale * settings.angular
            self._twist.publish(twist_to_message(twist_of(reading, linear, angular), self._frame, now_ns))
        elif self._guiding:
            self._enable.publish(Bool(data=True))
        self._held = reading.held

    def _do(self, intent: Intent) -> None:
        if intent is Intent.GRIPPER:
            self._gripper.toggle(self._opening)
        elif intent in (Intent.FASTER, Intent.SLOWER):
            change = STEP if intent is Intent.FASTER else 1.0 / STEP
            self._scale = min(FASTEST, max(SLOWEST, self._scale * change))
        elif intent is Intent.AXES:
            self._frame = TOOL_FRAME if self._frame == BASE_FRAME else BASE_FRAME
        elif intent is Intent.HELP and isinstance(self._device, Keyboard):
            self._device.terminal.show(self._device.help)
        elif intent is Intent.GUIDE:
            self._set_guiding(not self._guiding)
            # The arm must have heard of the deadman before it is asked to give way.
            self._ask_guide_at = time.monotonic() + (GUIDE_AFTER_S if self._guiding else 0.0)
        elif intent in SERVICES:
            self._requests.send(intent)

    def _set_guiding(self, guiding: bool) -> None:
        """Keep the deadman alive, or let it go."""
        self._guiding = guiding
        self._enable.publish(Bool(data=guiding))

    # -- what is told ---------------------------------------------------------------------------------------------

    def _on_gripper(self, message: JointState) -> None:
        if message.position:
            self._opening = float(message.position[0])

    def _on_arm(self, message: ArmStatus) -> None:
        moving = message.state == ArmStatus.MOVING
        self._arm_says = "" if moving else f"arm: {message.message}"
        if self._guiding and self._arm_moved and not moving:
            self._set_guiding(False)  # the arm has ended it
        self._arm_moved = moving

    def _on_recorder(self, message: RecorderStatus) -> None:
        self._recorder, self._recorder_seen_at = message, time.monotonic()

    def _note(self, text: str) -> None:
        """A sentence for the operator: above the status line, or in the log where there is no terminal."""
        if self._terminal is None:
            self.get_logger().info(text)
        else:
            self._terminal.show(text + "\n")

    def _say(self, instruction: str) -> None:
        """Take over the sentence of the scene for the episodes that follow."""
        self.set_parameters([Parameter("instruction", value=instruction)])

    def _show(self) -> None:
        self._shown_at = time.monotonic()
        if self._terminal is None:
            return
        settings, recorder = self._settings.value, self._recorder
        recording = "none"
        if recorder is not None and time.monotonic() - self._recorder_seen_at > RECORDER_SILENT_S:
            recording = "does not answer any more"
        elif recorder is not None:
            recording = RECORDER_STATES.get(recorder.state, "?")
            if recorder.state == RecorderStatus.RECORDING:
                recording += f" {recorder.duration_s:.0f} s, {recorder.keyposes} marks"
        parts = [
            f"recorder {recording}",
            f"gripper {'open' if self._opening > 0.5 else 'closed'}",
            f"{self._scale * settings.linear:.3f} m/s {self._scale * settings.angular:.2f} rad/s",
            "tool axes" if self._frame == TOOL_FRAME else "base axes",
            self._arm_says,
        ]
        self._terminal.status(" | ".join(part for part in parts if part))


def main() -> int:
    """Run the node; returns the exit code."""
    return run_node(TeleopNode)
