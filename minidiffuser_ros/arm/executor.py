"""One goal at a time on an arm: keyposes, home, the gripper; refused, halted, lent and told how it ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from minidiffuser_ros.arm.contact import ContactSettings
from minidiffuser_ros.arm.envelope import SafetyEnvelope
from minidiffuser_ros.arm.execution import KeyposeRun, Setup
from minidiffuser_ros.arm.execution_settings import ExecutionSettings
from minidiffuser_ros.arm.goal import KeyposeGoal
from minidiffuser_ros.arm.grip import Grip
from minidiffuser_ros.arm.kinematics import HOME_JOINTS
from minidiffuser_ros.arm.outcome import MOVING, OnPhase, Outcome, codes_of_error
from minidiffuser_ros.arm.protocol import Arm, ArmMode, ArmState
from minidiffuser_ros.arm.route import Route, RouteChoice
from minidiffuser_ros.arm.settling import settle
from minidiffuser_ros.contract.errors import ConnectionLostError, GoalRejectedError, MotionError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.contract.refusal import Reason, Refusal, codes_of
from minidiffuser_ros.geometry.transform import pose_of

HOME_TOLERANCE_RAD = 0.03


class KeyposeExecutor:
    """Runs one goal at a time on an arm. `halt` ends the running one from another thread."""

    def __init__(
        self,
        arm: Arm,
        envelope: SafetyEnvelope,
        settings: ExecutionSettings | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
        objections: Callable[[], list[str]] = list,
        routes: RouteChoice | None = None,
        contact: ContactSettings | None = None,
    ) -> None:
        """`objections` answers with the reasons why nothing may move now, apart from the goal itself."""
        self.arm = arm
        self.envelope = envelope
        self.settings = settings or ExecutionSettings()
        self._clock_ns = clock_ns
        self._objections = objections
        self._grip = Grip(arm, self.settings)
        self._routes = routes or RouteChoice(envelope)
        self._contact = contact or ContactSettings()
        self._settled_ns = 0
        self._claims = threading.Lock()  # guards the next three
        self._busy = self._moves = False  # a goal runs; it moves the arm itself
        self._lent = ""
        self._halt = threading.Event()

    @property
    def busy(self) -> bool:
        """Whether a goal is running."""
        return self._busy

    @property
    def opening_asked(self) -> float | None:
        """Of the gripper, in [0, 1]; None before its first command."""
        return self._grip.opening_asked

    @property
    def lent(self) -> str:
        """What the arm does in somebody else's hands; empty while it is in nobody's."""
        return self._lent

    def lend(self, doing: str) -> None:
        """Leave the arm to somebody else, who `doing` ("follows …"): goals that move it are refused meanwhile.

        The gripper still obeys. Raises GoalRejectedError while a goal moves the arm, or somebody else has it.
        """
        with self._claims:
            if self._busy and self._moves:
                raise GoalRejectedError(Refusal(Reason.BUSY, "a goal is moving the arm: wait for it or cancel it"))
            if self._lent:
                raise GoalRejectedError(Refusal(Reason.LENT, f"the arm {self._lent}"))
            self._lent = doing

    def take_back(self) -> None:
        """End `lend`."""
        self._lent = ""

    def halt(self) -> None:
        """Let the running goal end as soon as the arm can brake; harmless when nothing runs."""
        self._halt.set()

    def route(self, goal: KeyposeGoal, speed: float) -> tuple[Route, ArmState]:
        """How the goal would be reached from where the arm is now, and that reading; nothing moves.

        Raises GoalRejectedError with every reason against it, ConnectionLostError.
        """
        state = self.arm.state()
        reasons = self.envelope.check_goal(goal, state, self._clock_ns(), self._must_be_newer_than())
        _refuse([*self._objections(), *self.envelope.check_speed(speed), *reasons])
        return self._routes.choose(goal, state, speed, self._grip.held_width), state

    def execute(self, goal: KeyposeGoal, speed: float, on_phase: OnPhase = lambda phase: None) -> Outcome:
        """Check, approach, move, settle, verify, drive the gripper, verify, retreat; once more where that may help.

        Raises GoalRejectedError before anything has moved, ConnectionLostError whenever the arm is gone; every
        other ending is an Outcome.
        """
        setup = Setup(
            self.arm,
            self.envelope,
            self._routes,
            self._grip,
            self.settings,
            self._contact,
            self._clock_ns,
            self._objections,
            self._must_be_newer_than(),
        )
        runs: list[KeyposeRun] = []

        def run(halt: threading.Event) -> str:
            runs.append(KeyposeRun(setup, goal, speed, halt, on_phase))
            return runs[0].run()

        return self._run(run, lambda: runs[0] if runs else None)

    def home(self, speed: float, on_phase: OnPhase = lambda phase: None) -> Outcome:
        """Go to the home posture, straight up first where the direct way would touch the table.

        Raises GoalRejectedError, ConnectionLostError as `execute` does.
        """

        def run(halt: threading.Event) -> str:
            home, state = np.array(HOME_JOINTS), self.arm.state()
            _refuse([*self.envelope.check_speed(speed), *self.envelope.check_mode(state)])
            if self.envelope.check_joint_path(state.joints, home):
                above = state.tool.copy()
                above[2, 3] += self.settings.home_lift_m
                _refuse(self.envelope.check_line(state, above))
                on_phase(MOVING)
                self.arm.prepare(self._contact.transit, self._contact.payload)
                self.arm.move_line(above, speed, halt)
                reasons = self.envelope.check_joint_path(settle(self.arm, self.settings).joints, home)
                if reasons:
                    raise MotionError(reasons[0])
            on_phase(MOVING)
            self.arm.prepare(self._contact.transit, self._contact.payload)
            self.arm.move_joints(home, speed, halt)
            state = settle(self.arm, self.settings)
            self._grip.check_kept(state.width)
            worst = float(np.abs(state.joints - home).max())
            if worst > HOME_TOLERANCE_RAD:
                text = f"the arm stopped {worst:.3f} rad from home: something is in its way"
                raise MotionError(Refusal(Reason.POSE_MISSED, text))
            return "at home"

        return self._run(run)

    def drive_gripper(self, opening: float, on_phase: OnPhase = lambda phase: None) -> Outcome:
        """Drive the gripper alone to `opening` [0, 1]. Raises GoalRejectedError, ConnectionLostError."""

        def run(halt: threading.Event) -> str:
            if not 0.0 <= opening <= 1.0:
                text = f"gripper opening must lie in [0, 1], got {opening:g}"
                raise GoalRejectedError(Refusal(Reason.BAD_OPENING, text))
            state = self.arm.state()
            if not self._led(state):
                _refuse(self.envelope.check_mode(state))
            on_phase(MOVING)
            return self._grip.drive(opening, halt)

        return self._run(run, moves=False)

    def _led(self, state: ArmState) -> bool:
        """Whether the arm is not at rest for a good reason: then the gripper obeys all the same."""
        return state.mode is ArmMode.GUIDED or bool(self._lent and state.mode is ArmMode.MOVING)

    def _run(
        self,
        run: Callable[[threading.Event], str],
        keypose_run: Callable[[], KeyposeRun | None] = lambda: None,
        moves: bool = True,
    ) -> Outcome:
        """One goal from its first check to the last reading; a failed motion is an outcome, too."""
        with self._claims:
            if self._busy:
                text = "the arm is busy with another goal: wait for it or cancel it"
                raise GoalRejectedError(Refusal(Reason.BUSY, text))
            if moves and self._lent:
                text = f"the arm {self._lent}: end that before asking for a goal"
                raise GoalRejectedError(Refusal(Reason.LENT, text))
            self._busy, self._moves = True, moves
        # In this order: a halt before this line is an objection by now, a halt after it ends the goal.
        self._halt = threading.Event()
        begin = time.monotonic()
        try:
            _refuse(self._objections())
            codes: tuple[str, ...] = ()
            try:
                success, message = True, run(self._halt)
            except MotionError as error:
                success, (message, codes) = False, self._failure(error)
            return self._outcome(success, message, codes, keypose_run(), time.monotonic() - begin)
        finally:
            self._busy = False

    def _must_be_newer_than(self) -> int:
        return self._settled_ns if self.settings.fresh_observation else 0

    def _failure(self, error: MotionError) -> tuple[str, tuple[str, ...]]:
        """Sentence and codes of a failed motion; of a halted one with what it was halted for."""
        codes = codes_of_error(error)
        reasons = self._objections() if str(Reason.INTERRUPTED) in codes else []
        return "; ".join([str(error), *reasons]), (*codes, *codes_of(reasons))

    def _outcome(
        self, success: bool, message: str, codes: tuple[str, ...], run: KeyposeRun | None, duration_s: float
    ) -> Outcome:
        attempts = run.attempts if run else 0
        try:
            state = self.arm.state()
            if self._led(state):  # it does not come to rest, and the pose is not ours to report
                return Outcome(success, message, width=state.width, duration_s=duration_s, codes=codes)
            state = settle(self.arm, self.settings, must=False)
        except ConnectionLostError:
            if success:
                raise
            return Outcome(success, message, duration_s=duration_s, codes=codes, attempts=attempts)
        self._settled_ns = self._clock_ns()
        # After a retreat the arm is elsewhere: the goal's errors are those found at the goal.
        judged = run.there if success and run and run.there else state
        position, quat = pose_of(judged.tool)
        distance, angle = run.goal.keypose.distance_to(position, quat) if run else (0.0, 0.0)
        reached = Keypose(position, quat, state.opening)
        return Outcome(
            success,
            message,
            reached,
            distance,
            angle,
            state.width,
            duration_s,
            self._settled_ns,
            codes,
            attempts,
        )


def _refuse(reasons: Sequence[str]) -> None:
    """Raises GoalRejectedError where there is a reason."""
    if reasons:
        raise GoalRejectedError(*reasons)
