"""`arm`: owns one Franka, real or simulated; executes keyposes after checking them, and says what it is doing."""

from __future__ import annotations

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
from minidiffuser_ros.arm.executor import KeyposeExecutor
from minidiffuser_ros.arm.franky_arm import FrankyArm
from minidiffuser_ros.arm.outcome import Outcome
from minidiffuser_ros.arm.servo import ServoReport
from minidiffuser_ros.arm.settings import ArmSettings, MotionSettings
from minidiffuser_ros.arm.watchdog import Deadman
from minidiffuser_ros.bridge.lifecycle import ManagedNode
from minidiffuser_ros.bridge.parameters import NodeParameters
from minidiffuser_ros.bridge.process import run_node
from minidiffuser_ros.bridge.qos import RELIABLE
from minidiffuser_ros.bridge.waitables import ActionServer
from minidiffuser_ros.contract.errors import MinidiffuserError
from minidiffuser_ros.contract.refusal import Reason, Refusal, codes_of
from minidiffuser_ros.msg import ArmStatus
from minidiffuser_ros.nodes.arm_goals import GoalRunner
from minidiffuser_ros.nodes.arm_health import Health
from minidiffuser_ros.nodes.arm_operator import OperatorControl
from minidiffuser_ros.nodes.arm_planning import PlanningSide
from minidiffuser_ros.nodes.arm_state import StatePublisher
from minidiffuser_ros.nodes.arm_status import BLOCKING, StatusBoard
from minidiffuser_ros.srv import CheckKeypose, SetSpeed

NOT_CONFIGURED = Refusal(Reason.NOT_ACTIVE, "the arm node is not configured")
DRY_RUN = [Refusal(Reason.DRY_RUN, "dry run: nothing moves")]


class ArmNode(ManagedNode):
    """One arm. Actions `~/execute_keypose ~/gripper`, services `~/stop ~/recover ~/home ~/set_speed ~/check_keypose`.

    Follows `twist_command`, or gives way after `~/guide`, while `enable` is true and no goal moves the arm. After
    `~/stop`, a reflex, a user stop or a lost connection nothing moves until `~/recover`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("arm", **kwargs)
        self._settings = NodeParameters(self, ArmSettings(), read_only=True)
        self._motion = NodeParameters(self, MotionSettings())
        self._arm: FrankyArm | None = None
        self._runner: GoalRunner | None = None
        self._servers: list[ActionServer] = []
        self._timer: Timer | None = None
        self._health: Health | None = None
        timeout_s = self._settings.value.enable_timeout_s
        self._deadman = Deadman(timeout_s) if timeout_s else None
        self._board = StatusBoard(self, self._motion)
        self._publisher = StatePublisher(self)
        self._planning = PlanningSide(self, self._settings.value)
        self._requests = ReentrantCallbackGroup()
        self.create_subscription(Bool, "enable", self._on_enable, RELIABLE, callback_group=self._requests)
        self._operator = OperatorControl(self, self._requests, self._objections_to_hands, self._on_hands)
        self._serve(Trigger, "~/stop", self._on_stop)
        self._serve(Trigger, "~/recover", self._on_recover)
        self._serve(Trigger, "~/home", self._on_home)
        self._serve(SetSpeed, "~/set_speed", self._on_set_speed)
        self._serve(CheckKeypose, "~/check_keypose", self._on_check_keypose)
        self._board.publish(ArmStatus.DISCONNECTED, "not configured")

    # -- lifecycle ------------------------------------------------------------------------------------------------

    def configure(self) -> None:
        """Connect, waiting for an arm that is not up yet, and begin to publish its state."""
        settings = self._settings.value
        self._board.publish(ArmStatus.DISCONNECTED, f"connecting to {settings.address}")
        self._arm = FrankyArm(settings.address, settings.franka, self.ended, settings.limits.arm)
        envelope = SafetyEnvelope(settings.limits)
        self._planning.start()
        routes = self._planning.routes(envelope)
        goals = KeyposeExecutor(
            self._arm, envelope, settings.execution, self._now_ns, self._objections, routes, settings.contact
        )
        runner = self._runner = GoalRunner(goals, self._motion, self._on_begin, self._on_end)
        self._operator.start(self._arm, goals, settings)
        self._board.settled_ns = self._now_ns()
        self._servers = [
            ActionServer(self, kind, name, execute, callback_group=self._requests, cancel_callback=runner.cancel)
            for kind, name, execute in (
                (ExecuteKeypose, "~/execute_keypose", runner.execute_keypose),
                (Gripper, "~/gripper", runner.drive_gripper),
            )
        ]
        self._health = Health(
            self,
            settings.address,
            settings.state_timeout_s,
            condition=lambda: self._board.condition(self._objections(), self._runner),
            stale=lambda reason: self._board.tell_stale(reason, self._runner),
        )
        self._health.feed(self._arm.state())
        # A steady clock: the arm must be watched while simulated time stands still.
        clock, group = Clock(clock_type=ClockType.STEADY_TIME), MutuallyExclusiveCallbackGroup()
        self._timer = self.create_timer(1.0 / settings.state_rate, self._on_timer, callback_group=group, clock=clock)
        self._board.publish(ArmStatus.STOPPED, "connected, not active")

    def activate(self) -> None:
        """Accept goals."""
        self._board.blocked = None
        self._board.publish(ArmStatus.IDLE, "ready")

    def deactivate(self) -> None:
        """Brake and wait until the running goal has ended."""
        self._halt_and_wait()
        self._board.publish(ArmStatus.STOPPED, self.stop_reason or "not active")

    def cleanup(self) -> None:
        """Let go of the arm."""
        if self._timer is not None:
            self.destroy_timer(self._timer)
        while self._servers:
            self._servers.pop().destroy()
        self._operator.close()
        self._planning.close()
        if self._health is not None:
            self._health.close()
        if self._arm is not None:
            self._arm.close()
        self._arm = self._runner = self._timer = self._health = None
        self._board.publish(ArmStatus.DISCONNECTED, self.stop_reason or "disconnected")

    # -- goals ----------------------------------------------------------------------------------------------------

    def _objections(self) -> list[str]:
        """Why nothing may move now, whatever the goal."""
        reasons: list[str] = [] if self.is_active else [Refusal(Reason.NOT_ACTIVE, "the arm node is not active")]
        if self._board.blocked is not None:
            reasons.append(self._board.blocked)
        if self._deadman is not None:
            reasons += self._deadman.reasons()
        return reasons + (self._health.reasons() if self._health is not None else [])

    def _on_begin(self) -> None:
        self._board.publish(ArmStatus.MOVING, "executing a goal")

    def _on_end(self, outcome: Outcome) -> None:
        self._board.settled_ns = outcome.settled_ns or self._board.settled_ns
        if Reason.CONNECTION_LOST in outcome.codes:
            self._board.block(Refusal(Reason.CONNECTION_LOST, outcome.message))
        self._board.tell(outcome.message, outcome.codes, self._runner)

    # -- an operator's hands ------------------------------------------------------------------------------------------

    def _objections_to_hands(self) -> list[str]:
        return self._objections() + DRY_RUN[: self._motion.value.dry_run]

    def _on_hands(self, report: ServoReport) -> None:
        if report.ended:
            self._board.settled_ns = self._now_ns()
        if report.lost:
            self._board.block(Refusal(Reason.CONNECTION_LOST, report.message))
        self._board.tell(report.message, (), self._runner)

    def _halt_and_wait(self) -> bool:
        """Brake, for a reason that `_objections` tells by now; returns whether all has ended."""
        goals_ended = self._runner is None or self._runner.halt_and_wait()
        return self._operator.wait() and goals_ended

    # -- services -------------------------------------------------------------------------------------------------

    def _on_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._board.blocked = Refusal(Reason.STOPPED, "the arm was stopped: call ~/recover before the next motion")
        response.success = self._halt_and_wait()
        response.message = "the arm stands still" if response.success else "the arm is still braking"
        self._board.publish(ArmStatus.STOPPED, self._board.blocked, codes_of([self._board.blocked]))
        return response

    def _on_recover(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        moving = self._runner is not None and (self._runner.goals.busy or self._runner.goals.lent)
        if self._arm is None or moving:
            response.message = "nothing to recover: the arm is not configured, or it is moving"
            return response
        try:
            self._arm.recover()
            if self._health is not None:
                self._health.feed(self._arm.state())
        except MinidiffuserError as error:
            response.message = str(error)
            return response
        self._board.blocked, self._board.settled_ns = None, self._now_ns()
        response.success, response.message = True, "recovered"
        self._board.publish(ArmStatus.IDLE if self.is_active else ArmStatus.STOPPED, response.message)
        return response

    def _on_home(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        outcome = self._runner.home() if self._runner else Outcome(False, NOT_CONFIGURED)
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
        if self._runner is None:
            response.message, response.codes = NOT_CONFIGURED, codes_of([NOT_CONFIGURED])
            return response
        return self._planning.check(self._runner.goals, self._motion.value.speed, request, response)

    # -- state ----------------------------------------------------------------------------------------------------

    def _on_timer(self) -> None:
        arm, runner, health = self._arm, self._runner, self._health
        if arm is None or runner is None or health is None:
            return
        if runner.goals.busy and self._objections():
            runner.goals.halt()
        try:
            state = arm.state()
        except MinidiffuserError as error:
            self._board.block(Refusal(Reason.CONNECTION_LOST, str(error)))
            return
        health.feed(state)
        self._publisher.publish(state, runner.goals.opening_asked, self._now_ns())
        runner.tell_width(state.width)
        if state.mode in BLOCKING:
            self._board.block(BLOCKING[state.mode])

    def _on_enable(self, message: Bool) -> None:
        if self._deadman is not None:
            self._deadman.hold(message.data)

    def _serve(self, kind: Any, name: str, callback: Callable[[Any, Any], Any]) -> None:
        self.create_service(kind, name, callback, callback_group=self._requests)

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)


def main() -> int:
    """Run the node; returns the exit code."""
    return run_node(ArmNode)
