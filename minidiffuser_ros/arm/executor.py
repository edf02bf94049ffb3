"""Carry out a keypose: check, move in a straight line, let the arm settle, drive the gripper, verify.

A Franka says that a motion is over while it still lags behind by a degree, and a simulated one says so wherever
it ended: nothing is believed here but a reading of the arm at rest.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from minidiffuser_ros.arm.envelope import SafetyEnvelope
from minidiffuser_ros.arm.goal import KeyposeGoal
from minidiffuser_ros.arm.kinematics import HOME_JOINTS, MAX_GRIPPER_WIDTH
from minidiffuser_ros.arm.protocol import Arm, ArmMode, ArmState
from minidiffuser_ros.contract.errors import ConfigurationError, ConnectionLostError, GoalRejectedError, MotionError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.geometry.transform import pose_of, transform_from

OnPhase = Callable[[str], None]
CHECKING, MOVING, SETTLING, GRIPPER, VERIFYING = "checking", "moving", "settling", "gripper", "verifying"
SETTLE_PERIOD_S = 0.05
HOME_TOLERANCE_RAD = 0.03


@dataclass(frozen=True)
class ExecutionSettings:
    """Tolerances of an arrival, and how long the arm may take to come to rest after a motion."""

    position_tolerance_m: float = field(default=0.01, metadata={"unit": "m", "range": (1e-4, 0.1)})
    rotation_tolerance_deg: float = field(default=3.0, metadata={"unit": "degrees", "range": (0.1, 45.0)})
    width_tolerance_m: float = field(
        default=0.006,
        metadata={
            "description": "Wider than asked by more than this: something is held",
            "unit": "m",
            "range": (1e-3, 0.02),
        },
    )
    settle_timeout_s: float = field(
        default=2.0, metadata={"description": "Longest time to come to rest", "unit": "s", "range": (0.1, 30.0)}
    )
    settle_step_rad: float = field(
        default=4e-4,
        metadata={"description": "Joint motion in 50 ms that counts as rest", "unit": "rad", "range": (1e-5, 1e-2)},
    )
    home_lift_m: float = field(
        default=0.12,
        metadata={"description": "Rise before going home from low poses", "unit": "m", "range": (0.0, 0.4)},
    )

    def __post_init__(self) -> None:
        if min(self.position_tolerance_m, self.rotation_tolerance_deg, self.width_tolerance_m) <= 0.0:
            raise ConfigurationError("the tolerances of position, rotation and width must be positive")


@dataclass(frozen=True)
class Outcome:
    """How a goal ended. `reached` is what was read at rest, absent where the arm could not be read.

    width: metres between the fingers at the end; a grasp is judged by it. settled_ns: when the arm was at rest, on
    the executor's clock; 0 where nothing moved.
    """

    success: bool
    message: str
    reached: Keypose | None = None
    position_error: float = 0.0
    rotation_error_deg: float = 0.0
    width: float = 0.0
    duration_s: float = 0.0
    settled_ns: int = 0


class KeyposeExecutor:
    """Runs one goal at a time on an arm. `halt` ends the running one from another thread."""

    def __init__(
        self,
        arm: Arm,
        envelope: SafetyEnvelope,
        settings: ExecutionSettings | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
        objections: Callable[[], list[str]] = list,
    ) -> None:
        """`objections` answers with the reasons why nothing may move now, apart from the goal itself."""
        self.arm = arm
        self.envelope = envelope
        self.settings = settings or ExecutionSettings()
        self._clock_ns = clock_ns
        self._objections = objections
        self._gripped: tuple[float, float] | None = None  # opening asked for and width reached
        self.opening_asked: float | None = None  # of the gripper, in [0, 1]; None before its first command
        self._claims = threading.Lock()  # guards the next three
        self._busy = self._moves = False  # a goal runs; it moves the arm itself
        self._lent = ""
        self._halt = threading.Event()

    @property
    def busy(self) -> bool:
        """Whether a goal is running."""
        return self._busy

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
                raise GoalRejectedError("a goal is moving the arm: wait for it or cancel it")
            if self._lent:
                raise GoalRejectedError(f"the arm {self._lent}")
            self._lent = doing

    def take_back(self) -> None:
        """End `lend`."""
        self._lent = ""

    def halt(self) -> None:
        """Let the running goal end as soon as the arm can brake; harmless when nothing runs."""
        self._halt.set()

    def check(self, goal: KeyposeGoal) -> list[str]:
        """Every reason against a goal from where the arm is now. Raises ConnectionLostError."""
        return [*self._objections(), *self.envelope.check(goal, self.arm.state(), self._clock_ns())]

    def execute(self, goal: KeyposeGoal, speed: float, on_phase: OnPhase = lambda phase: None) -> Outcome:
        """Check, move, settle, drive the gripper, verify.

        Raises GoalRejectedError before anything has moved, ConnectionLostError whenever the arm is gone; every
        other ending is an Outcome.
        """
        keypose = goal.keypose

        def run() -> str:
            on_phase(CHECKING)
            state = self.arm.state()
            _refuse(self.envelope.check_speed(speed) + self.envelope.check(goal, state, self._clock_ns()))
            on_phase(MOVING)
            self.arm.move_line(transform_from(keypose.position, keypose.quat_wxyz), speed, self._halt)
            on_phase(SETTLING)
            self._verify_pose(keypose, self._settle())
            on_phase(GRIPPER)
            text = self._drive(keypose.opening)
            on_phase(VERIFYING)
            self._verify_pose(keypose, self._settle())
            return f"reached the keypose, {text}"

        return self._run(run, keypose)

    def home(self, speed: float, on_phase: OnPhase = lambda phase: None) -> Outcome:
        """Go to the home posture, straight up first where the direct way would touch the table.

        Raises GoalRejectedError, ConnectionLostError as `execute` does.
        """

        def run() -> str:
            home, state = np.array(HOME_JOINTS), self.arm.state()
            _refuse(self.envelope.check_speed(speed) + self.envelope.check_mode(state))
            if self.envelope.check_joint_path(state.joints, home):
                above = state.tool.copy()
                above[2, 3] += self.settings.home_lift_m
                _refuse(self.envelope.check_line(state, above))
                on_phase(MOVING)
                self.arm.move_line(above, speed, self._halt)
                reasons = self.envelope.check_joint_path(self._settle().joints, home)
                if reasons:
                    raise MotionError("; ".join(reasons))
            on_phase(MOVING)
            self.arm.move_joints(home, speed, self._halt)
            worst = float(np.abs(self._settle().joints - home).max())
            if worst > HOME_TOLERANCE_RAD:
                raise MotionError(f"the arm stopped {worst:.3f} rad from home: something is in its way")
            return "at home"

        return self._run(run, None)

    def drive_gripper(self, opening: float, on_phase: OnPhase = lambda phase: None) -> Outcome:
        """Drive the gripper alone to `opening` [0, 1]. Raises GoalRejectedError, ConnectionLostError."""

        def run() -> str:
            if not 0.0 <= opening <= 1.0:
                raise GoalRejectedError(f"gripper opening must lie in [0, 1], got {opening:g}")
            state = self.arm.state()
            if not self._led(state):
                _refuse(self.envelope.check_mode(state))
            on_phase(MOVING)
            return self._drive(opening)

        return self._run(run, None, moves=False)

    def _led(self, state: ArmState) -> bool:
        """Whether the arm is not at rest for a good reason: then the gripper obeys all the same."""
        return state.mode is ArmMode.GUIDED or bool(self._lent and state.mode is ArmMode.MOVING)

    def _run(self, run: Callable[[], str], keypose: Keypose | None, moves: bool = True) -> Outcome:
        """One goal from its first check to the last reading; a failed motion is an outcome, too."""
        with self._claims:
            if self._busy:
                raise GoalRejectedError("the arm is busy with another goal: wait for it or cancel it")
            if moves and self._lent:
                raise GoalRejectedError(f"the arm {self._lent}: end that before asking for a goal")
            self._busy, self._moves = True, moves
        # In this order: a halt before this line is an objection by now, a halt after it ends the goal.
        self._halt = threading.Event()
        begin = time.monotonic()
        try:
            _refuse(self._objections())
            try:
                success, message = True, run()
            except MotionError as error:
                success, message = False, str(error)
            return self._outcome(success, message, keypose, time.monotonic() - begin)
        finally:
            self._busy = False

    def _outcome(self, success: bool, message: str, keypose: Keypose | None, duration_s: float) -> Outcome:
        try:
            state = self.arm.state()
            if self._led(state):  # it does not come to rest, and the pose is not ours to report
                return Outcome(success, message, width=state.width, duration_s=duration_s)
            state = self._settle(must=False)
        except ConnectionLostError:
            if success:
                raise
            return Outcome(success, message, duration_s=duration_s)
        position, quat = pose_of(state.tool)
        distance, angle = keypose.distance_to(position, quat) if keypose else (0.0, 0.0)
        reached = Keypose(position, quat, state.opening)
        return Outcome(success, message, reached, distance, angle, state.width, duration_s, self._clock_ns())

    def _settle(self, must: bool = True) -> ArmState:
        """The first reading that equals the one before: the arm lags half a second behind its motions."""
        deadline = time.monotonic() + self.settings.settle_timeout_s
        before = self.arm.state()
        while True:
            time.sleep(SETTLE_PERIOD_S)
            state = self.arm.state()
            if np.abs(state.joints - before.joints).max() < self.settings.settle_step_rad:
                return state
            if time.monotonic() > deadline:
                if must:
                    raise MotionError(f"the arm did not come to rest within {self.settings.settle_timeout_s:g} s")
                return state
            before = state

    def _verify_pose(self, keypose: Keypose, state: ArmState) -> None:
        distance, angle = keypose.distance_to(*pose_of(state.tool))
        s = self.settings
        if distance > s.position_tolerance_m or angle > s.rotation_tolerance_deg:
            raise MotionError(
                f"the tool stopped {1e3 * distance:.0f} mm and {angle:.1f} degrees from the keypose, allowed are "
                f"{1e3 * s.position_tolerance_m:g} mm and {s.rotation_tolerance_deg:g}: something is in its way"
            )

    def _drive(self, opening: float) -> str:
        """Drive the gripper and say what the width means."""
        target, tolerance = opening * MAX_GRIPPER_WIDTH, self.settings.width_tolerance_m
        width = self.arm.state().width
        # The hand keeps the force and place of its last command: the same one again would only cost time.
        if self._gripped is None or self._gripped[0] != opening or abs(self._gripped[1] - width) > 0.25 * tolerance:
            self._gripped, self.opening_asked = None, opening  # for the case that this one is halted
            width = self.arm.drive_gripper(opening, self._halt)
            self._gripped = opening, width
        if width < target - tolerance:
            raise MotionError(f"the gripper opened to {1e3 * width:.0f} mm instead of {1e3 * target:.0f} mm")
        if width > target + tolerance:
            return f"the gripper holds something {1e3 * width:.0f} mm wide"
        return f"the gripper is at {1e3 * width:.0f} mm with nothing between the fingers"


def _refuse(reasons: Sequence[str]) -> None:
    """Raises GoalRejectedError where there is a reason."""
    if reasons:
        raise GoalRejectedError(*reasons)
