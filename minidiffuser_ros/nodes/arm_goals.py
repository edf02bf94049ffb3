"""The goals of the arm node: from an action's request to the executor, and from its outcome to the action's result."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

from rclpy.action import CancelResponse
from rclpy.action.server import ServerGoalHandle

from minidiffuser_ros.action import ExecuteKeypose, Gripper
from minidiffuser_ros.arm.executor import KeyposeExecutor
from minidiffuser_ros.arm.kinematics import BASE_FRAME
from minidiffuser_ros.arm.outcome import MOVING, OnPhase, Outcome, codes_of_error
from minidiffuser_ros.arm.settings import MotionSettings
from minidiffuser_ros.bridge.conversions import keypose_to_message, stamp_from_ns
from minidiffuser_ros.bridge.motions import goal_from_message
from minidiffuser_ros.bridge.parameters import NodeParameters
from minidiffuser_ros.contract.errors import GoalRejectedError, MinidiffuserError, MotionError
from minidiffuser_ros.contract.refusal import Reason, Refusal


class GoalRunner:
    """Runs goals one at a time and lets their actions end accordingly.

    began: called when a goal starts to move. ended: called with every outcome before the action's client hears of it.
    last: how the goal before ended.
    """

    def __init__(
        self,
        goals: KeyposeExecutor,
        motion: NodeParameters[MotionSettings],
        began: Callable[[], None],
        ended: Callable[[Outcome], None],
    ) -> None:
        self.goals = goals
        self._motion, self._began, self._ended = motion, began, ended
        self.last: Outcome | None = None
        self._cancelled: set[bytes] = set()
        self._gripper_goal: ServerGoalHandle | None = None

    def execute_keypose(self, handle: ServerGoalHandle) -> ExecuteKeypose.Result:
        """Run a goal of `~/execute_keypose`."""

        def run(on_phase: OnPhase) -> Outcome:
            return self.goals.execute(goal_from_message(handle.request.keypose), self._motion.value.speed, on_phase)

        def tell(phase: str) -> None:
            handle.publish_feedback(ExecuteKeypose.Feedback(phase=phase))

        outcome = self._run(run, handle, tell)
        result = ExecuteKeypose.Result(success=outcome.success, message=outcome.message)
        if outcome.reached is not None:
            result.reached = keypose_to_message(outcome.reached, BASE_FRAME, outcome.settled_ns)
        result.position_error, result.rotation_error_deg = outcome.position_error, outcome.rotation_error_deg
        result.codes, result.attempts, result.width = list(outcome.codes), outcome.attempts, outcome.width
        result.duration_s, result.settled_at = outcome.duration_s, stamp_from_ns(outcome.settled_ns)
        return result

    def drive_gripper(self, handle: ServerGoalHandle) -> Gripper.Result:
        """Run a goal of `~/gripper`."""
        self._gripper_goal = handle
        outcome = self._run(lambda on_phase: self.goals.drive_gripper(handle.request.opening, on_phase), handle)
        self._gripper_goal = None
        return Gripper.Result(success=outcome.success, message=outcome.message, width=outcome.width)

    def home(self) -> Outcome:
        """Go home."""
        return self._run(lambda on_phase: self.goals.home(self._motion.value.speed, on_phase))

    def cancel(self, handle: ServerGoalHandle) -> CancelResponse:
        """Brake; the goal ends as cancelled."""
        self._cancelled.add(bytes(handle.goal_id.uuid))
        self.goals.halt()
        return CancelResponse.ACCEPT

    def halt_and_wait(self, timeout_s: float = 4.0) -> bool:
        """Brake and wait for the running goal to end; returns whether it did."""
        deadline = time.monotonic() + timeout_s
        while self.goals.busy and time.monotonic() < deadline:
            self.goals.halt()
            time.sleep(0.02)
        return not self.goals.busy

    def tell_width(self, width: float) -> None:
        """Feedback of a running gripper goal: the distance between the fingers in metres."""
        handle = self._gripper_goal
        if handle is not None and handle.is_active:
            handle.publish_feedback(Gripper.Feedback(width=width))

    def _run(
        self,
        run: Callable[[OnPhase], Outcome],
        handle: ServerGoalHandle | None = None,
        tell: OnPhase = lambda phase: None,
    ) -> Outcome:
        goal_id = bytes(handle.goal_id.uuid) if handle is not None else b""

        def on_phase(phase: str) -> None:
            tell(phase)
            if goal_id in self._cancelled:
                raise MotionError(Refusal(Reason.CANCELLED, "cancelled"))
            if phase == MOVING:
                if self._motion.value.dry_run:
                    raise GoalRejectedError(Refusal(Reason.DRY_RUN, "dry run: every check passed, and nothing moves"))
                self._began()

        try:
            outcome = run(on_phase)
        except MinidiffuserError as error:
            outcome = Outcome(False, str(error), codes=codes_of_error(error))
        if not outcome.success and goal_id in self._cancelled:
            others = [code for code in outcome.codes if code not in (Reason.CANCELLED, Reason.INTERRUPTED)]
            outcome = dataclasses.replace(outcome, codes=(str(Reason.CANCELLED), *others))
        self.last = outcome
        self._ended(outcome)
        if handle is not None:
            self._cancelled.discard(goal_id)
            if outcome.success:
                handle.succeed()
            elif handle.is_cancel_requested:
                handle.canceled()
            else:
                handle.abort()
        return outcome
