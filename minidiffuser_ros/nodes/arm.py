"""`arm`: owns one Franka, real or simulated; executes keyposes after checking them, and says what it is doing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.parameter import Parameter
from rclpy.timer import Timer
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from minidiffuser_ros.action import ExecuteKeypose, Gripper
from minidiffuser_ros.arm.envelope import SafetyEnvelope
from minidiffuser_ros.arm.executor import KeyposeExecutor, Outcome
from minidiffuser_ros.arm.franky_arm import FrankyArm
from minidiffuser_ros.arm.kinematics import BASE_FRAME
from minidiffuser_ros.arm.protocol import ArmMode
from minidiffuser_ros.arm.servo import ServoReport
from minidiffuser_ros.arm.settings import ArmSettings, MotionSettings
from minidiffuser_ros.bridge.conversions import header, stamp_from_ns
from minidiffuser_ros.bridge.lifecycle import ManagedNode
from minidiffuser_ros.bridge.parameters import NodeParameters
from minidiffuser_ros.bridge.process import run_node
from minidiffuser_ros.bridge.qos import LATCHED, RELIABLE
from minidiffuser_ros.bridge.waitables import ActionServer
from minidiffuser_ros.contract.errors import MinidiffuserError
from minidiffuser_ros.msg import ArmStatus
from minidiffuser_ros.nodes.arm_goals import GoalRunner
from minidiffuser_ros.nodes.arm_operator import OperatorControl
from minidiffuser_ros.nodes.arm_state import StatePublisher
from minidiffuser_ros.srv import CheckKeypose, SetSpeed

NOT_CONFIGURED = "the arm node is not configured"


class ArmNode(ManagedNode):
    """One arm. Actions `~/execute_keypose ~/gripper`, services `~/stop ~/recover ~/home ~/set_speed ~/check_keypose`.

    Follows `twist_command`, or gives way after `~/guide`, while `enable` is true and no goal moves the arm; goals that
    come meanwhile are refused.
    After `~/stop`, a reflex or a lost connection nothing moves until `~/recover`. Refused goals end aborted with
    every reason.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("arm", **kwargs)
        self._settings = NodeParameters(self, ArmSettings(), read_only=True)
        self._motion = NodeParameters(self, MotionSettings())
        self._arm: FrankyArm | None = None
        self._runner: GoalRunner | None = None
        self._servers: list[ActionServer] = []
        self._timer: Timer | None = None
        self._blocked = ""  # why nothing moves until ~/recover
        self._enabled_at = float("-inf")
        self._settled_ns = 0
        self._status = self.create_publisher(ArmStatus, "~/status", LATCHED)
        self._publisher = StatePublisher(self)
        self._requests = ReentrantCallbackGroup()
        self.create_subscription(Bool, "enable", self._on_enable, RELIABLE, callback_group=self._requests)
        self._operator = OperatorControl(self, self._requests, self._objections_to_hands, self._on_hands)
        self._serve(Trigger, "~/stop", self._on_stop)
        self._serve(Trigger, "~/recover", self._on_recover)
        self._serve(Trigger, "~/home", self._on_home)
        self._serve(SetSpeed, "~/set_speed", self._on_set_speed)
        self._serve(CheckKeypose, "~/check_keypose", self._on_check_keypose)
        self._publish_status(ArmStatus.DISCONNECTED, "not configured")

    # -- lifecycle ------------------------------------------------------------------------------------------------

    def configure(self) -> None:
        """Connect, waiting for an arm that is not up yet, and begin to publish its state."""
        settings = self._settings.value
        self._publish_status(ArmStatus.DISCONNECTED, f"connecting to {settings.address}")
        self._arm = FrankyArm(settings.address, settings.franka, abandon=self.ended)
        envelope = SafetyEnvelope(settings.limits)
        goals = KeyposeExecutor(self._arm, envelope, settings.execution, self._now_ns, self._objections)
        runner = self._runner = GoalRunner(goals, self._motion, self._on_begin, self._on_end)
        self._operator.start(self._arm, goals, settings)
        self._settled_ns = self._now_ns()
        self._servers = [
            ActionServer(self, kind, name, execute, callback_group=self._requests, cancel_callback=runner.cancel)
            for kind, name, execute in (
                (ExecuteKeypose, "~/execute_keypose", runner.execute_keypose),
                (Gripper, "~/gripper", runner.drive_gripper),
            )
        ]
        # A steady clock: the arm must be watched while simulated time stands still.
        clock, group = Clock(clock_type=ClockType.STEADY_TIME), MutuallyExclusiveCallbackGroup()
        self._timer = self.create_timer(1.0 / settings.state_rate, self._on_timer, callback_group=group, clock=clock)
        self._publish_status(ArmStatus.STOPPED, "connected, not active")

    def activate(self) -> None:
        """Accept goals."""
        self._blocked = ""
        self._publish_status(ArmStatus.IDLE, "ready")

    def deactivate(self) -> None:
        """Brake and wait until the running goal has ended."""
        self._halt_and_wait()
        self._publish_status(ArmStatus.STOPPED, self.stop_reason or "not active")

    def cleanup(self) -> None:
        """Let go of the arm."""
        if self._timer is not None:
            self.destroy_timer(self._timer)
        while self._servers:
            self._servers.pop().destroy()
        self._operator.close()
        if self._arm is not None:
            self._arm.close()
        self._arm = self._runner = self._timer = None
        self._publish_status(ArmStatus.DISCONNECTED, self.stop_reason or "disconnected")

    # -- goals ----------------------------------------------------------------------------------------------------

    def _objections(self) -> list[str]:
        """Why nothing may move now, whatever the goal."""
        reasons = [] if self.is_active else ["the arm node is not active"]
        if self._blocked:
            reasons.append(self._blocked)
        timeout_s = self._settings.value.enable_timeout_s
        if timeout_s and time.monotonic() - self._enabled_at > timeout_s:
            reasons.append(f"`enable` was not true within the last {timeout_s:g} s")
        return reasons

    def _on_begin(self) -> None:
        self._publish_status(ArmStatus.MOVING, "executing a goal")

    def _on_end(self, outcome: Outcome, lost: str) -> None:
        self._settled_ns = outcome.settled_ns or self._settled_ns
        if lost:
            self._block(lost)
        self._tell(outcome.message)

    def _tell(self, message: str) -> None:
        """Publish the news in the state that the arm is in, unless it is stopped or lost: that stays to be read."""
        runner = self._runner
        if self.is_active and not self._blocked and runner is not None:
            moving = runner.goals.lent or runner.goals.busy
            self._publish_status(ArmStatus.MOVING if moving else ArmStatus.IDLE, message)

    # -- an operator's hands ------------------------------------------------------------------------------------------

    def _objections_to_hands(self) -> list[str]:
        return self._objections() + (["dry run: nothing moves"] if self._motion.value.dry_run else [])

    def _on_hands(self, report: ServoReport) -> None:
        if report.ended:
            self._settled_ns = self._now_ns()
        if report.lost:
            self._block(report.message)
        self._tell(report.message)

    def _halt_and_wait(self) -> bool:
        """Brake, for a reason that `_objections` tells by now; returns whether all has ended."""
        goals_ended = self._runner is None or self._runner.halt_and_wait()
        return self._operator.wait() and goals_ended

    # -- services -------------------------------------------------------------------------------------------------

    def _on_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._blocked = "the arm was stopped: call ~/recover before the next motion"
        response.success = self._halt_and_wait()
        response.message = "the arm stands still" if response.success else "the arm is still braking"
        self._publish_status(ArmStatus.STOPPED, self._blocked)
        return response

    def _on_recover(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        moving = self._runner is not None and (self._runner.goals.busy or self._runner.goals.lent)
        if self._arm is None or moving:
            response.message = "nothing to recover: the arm is not configured, or it is moving"
            return response
        try:
            self._arm.recover()
        except MinidiffuserError as error:
            response.message = str(error)
            return response
        self._blocked, self._settled_ns = "", self._now_ns()
        response.success, response.message = True, "recovered"
        self._publish_status(ArmStatus.IDLE if self.is_active else ArmStatus.STOPPED, response.message)
        return response

    def _on_home(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        outcome = self._runner.home() if self._runner is not None else Outcome(False, NOT_CONFIGURED)
        response.success, response.message = outcome.success, outcome.message
        return response

    def _on_set_speed(self, request: SetSpeed.Request, response: SetSpeed.Response) -> SetSpeed.Response:
        (answer,) = self.set_parameters([Parameter("speed", value=request.speed)])
        response.success = answer.successful
        response.message = f"speed is {self._motion.value.speed:g}" + (f"; {answer.reason}" if answer.reason else "")
        return response

    def _on_check_keypose(
        self, request: CheckKeypose.Request, response: CheckKeypose.Response
    ) -> CheckKeypose.Response:
        reasons = self._runner.check(request.keypose) if self._runner is not None else [NOT_CONFIGURED]
        response.success, response.message = not reasons, "; ".join(reasons) or "the goal would be accepted"
        return response

    # -- state ----------------------------------------------------------------------------------------------------

    def _on_timer(self) -> None:
        arm, runner = self._arm, self._runner
        if arm is None or runner is None:
            return
        if runner.goals.busy and self._objections():
            runner.goals.halt()
        try:
            state = arm.state()
        except MinidiffuserError as error:
            self._block(str(error))
            return
        self._publisher.publish(state, runner.goals.opening_asked, self._now_ns())
        runner.tell_width(state.width)
        if state.mode is ArmMode.ERROR:
            self._block("the arm is in a reflex: clear its way, then call ~/recover")

    def _on_enable(self, message: Bool) -> None:
        self._enabled_at = time.monotonic() if message.data else float("-inf")

    def _block(self, reason: str) -> None:
        if not self._blocked:
            self._blocked = reason
            self.get_logger().error(reason)
            self._publish_status(ArmStatus.ERROR, reason)

    def _serve(self, kind: Any, name: str, callback: Callable[[Any, Any], Any]) -> None:
        self.create_service(kind, name, callback, callback_group=self._requests)

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def _publish_status(self, state: int, message: str) -> None:
        motion = self._motion.value
        status = ArmStatus(state=state, message=message, speed=motion.speed, dry_run=motion.dry_run)
        status.header, status.settled_at = header(BASE_FRAME, self._now_ns()), stamp_from_ns(self._settled_ns)
        self._status.publish(status)


def main() -> int:
    """Run the node; returns the exit code."""
    return run_node(ArmNode)
