"""When twists are followed and when not, on an arm that follows exactly and moves only through kinematics."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from minidiffuser_ros.arm.envelope import SafetyEnvelope
from minidiffuser_ros.arm.execution_settings import ExecutionSettings
from minidiffuser_ros.arm.executor import KeyposeExecutor
from minidiffuser_ros.arm.goal import KeyposeGoal
from minidiffuser_ros.arm.kinematics import HOME_JOINTS, FrankaKinematics
from minidiffuser_ros.arm.protocol import ArmMode, ArmState
from minidiffuser_ros.arm.servo import Servo, ServoReport
from minidiffuser_ros.arm.twist import ServoSettings, TwistCommand, TwistLimiter
from minidiffuser_ros.arm.watchdog import Deadman
from minidiffuser_ros.contract.errors import ConnectionLostError, GoalRejectedError, MotionError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.geometry.rotation import POINTING_DOWN_WXYZ

FORWARD = np.array([0.1, 0.0, 0.0, 0.0, 0.0, 0.0])
SETTINGS = ServoSettings(twist_timeout_s=0.1, enable_timeout_s=0.1)


class KinematicArm:
    """Moves by one period with each twist. errors: raised by the next calls of `follow`."""

    def __init__(self) -> None:
        self.kinematics, self.joints, self.mode = FrankaKinematics(), np.array(HOME_JOINTS), ArmMode.IDLE
        self.errors: list[Exception] = []
        self.twists: list[np.ndarray] = []
        self.gate = threading.Event()
        self.width = 0.08

    def state(self) -> ArmState:
        kinematics = FrankaKinematics()
        return ArmState(self.joints.copy(), kinematics.forward(self.joints), self.width, self.mode)

    def follow(self, twist: np.ndarray, hold_s: float, dynamics: float) -> None:
        if self.errors:
            self.mode = ArmMode.IDLE
            raise self.errors.pop(0)
        self.mode = ArmMode.MOVING
        self.twists.append(twist)
        self.joints = self.joints + np.linalg.pinv(self.kinematics.jacobian(self.joints)) @ twist / SETTINGS.rate

    def end_following(self, dynamics: float) -> None:
        self.mode = ArmMode.IDLE

    def prepare(self, thresholds: object, payload: object) -> None: ...

    def move_path(self, path: object, halt: threading.Event) -> None: ...

    def move_line(self, tool: np.ndarray, speed: float, halt: threading.Event) -> None:
        self.gate.wait(5.0)

    def move_joints(self, joints: np.ndarray, speed: float, halt: threading.Event) -> None:
        self.joints = joints

    def drive_gripper(self, opening: float, halt: threading.Event) -> float:
        self.width = 0.08 * opening
        return self.width

    def recover(self) -> None: ...

    def close(self) -> None: ...


class Bench:
    """A servo, its arm, and what it has said."""

    def __init__(self) -> None:
        self.arm, self.objections, self.reports = KinematicArm(), list[str](), list[ServoReport]()
        settings = ExecutionSettings(settle_timeout_s=0.3)
        self.goals = KeyposeExecutor(self.arm, SafetyEnvelope(), settings)
        limiter = TwistLimiter(settings=SETTINGS)
        self.deadman = Deadman(SETTINGS.enable_timeout_s)
        self.servo = Servo(
            self.arm, self.goals, limiter, self.deadman, lambda: list(self.objections), self.reports.append
        )

    def send(self, seconds: float, twist: np.ndarray = FORWARD, enable: bool = True, frame: str = "") -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if enable:
                self.deadman.hold(True)
            self.servo.command(TwistCommand(twist, frame))
            time.sleep(0.02)

    def says(self, words: str, timeout_s: float = 3.0) -> ServoReport:
        return self.eventually(lambda: next((r for r in self.reports if words in r.message), None), timeout_s)

    def eventually(self, probe: Callable[[], object], timeout_s: float = 3.0) -> object:
        deadline = time.monotonic() + timeout_s
        while not (value := probe()):
            assert time.monotonic() < deadline, [r.message for r in self.reports]
            time.sleep(0.005)
        return value


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.arm.gate.set()
    assert bench.servo.close()


def goal() -> KeyposeGoal:
    return KeyposeGoal(Keypose(np.array([0.45, 0.0, 0.3]), np.array(POINTING_DOWN_WXYZ), 1.0))


def test_twists_are_followed_and_end_with_a_report_when_they_stop_coming(bench: Bench) -> None:
    start = bench.arm.state().tool[0, 3]
    bench.send(0.5)
    assert bench.servo.active
    ended = bench.says("no twist came within the last 0.1 s")
    assert ended.ended
    assert not bench.servo.active
    moved = bench.arm.state().tool[0, 3] - start
    assert 0.03 < moved < 0.07  # at most 0.5 s and the 0.1 s that the last twist counts


def test_without_the_deadman_nothing_moves(bench: Bench) -> None:
    bench.send(0.2, enable=False)
    assert not bench.arm.twists
    assert "`enable` was not true" in bench.says("not followed").message


def test_letting_go_ends_it_though_twists_go_on(bench: Bench) -> None:
    bench.send(0.2)
    bench.deadman.hold(False)
    bench.send(0.1, enable=False)
    bench.eventually(lambda: not bench.servo.active, 0.3)
    count = len(bench.arm.twists)
    bench.send(0.1, enable=False)
    assert len(bench.arm.twists) == count


@pytest.mark.parametrize(
    ("twist", "frame", "words"),
    [(np.full(6, np.nan), "", "not finite"), (FORWARD, "map", "frame 'map'")],
)
def test_a_twist_that_makes_no_sense_is_refused_and_stops_a_running_one(
    bench: Bench, twist: np.ndarray, frame: str, words: str
) -> None:
    bench.send(0.1, twist, frame=frame)
    assert not bench.arm.twists
    assert words in bench.says("not followed").message
    bench.reports.clear()
    bench.send(0.1)
    bench.send(0.1, twist, frame=frame)
    assert words in bench.says("stopped following").message
    assert all(np.isfinite(t).all() for t in bench.arm.twists)


def test_an_objection_ends_it_at_once(bench: Bench) -> None:
    bench.send(0.1)
    bench.objections.append("the arm was stopped")
    assert bench.servo.wait(0.5)
    bench.send(0.1)
    assert not bench.servo.active
    assert "the arm was stopped" in bench.says("not followed").message


def test_goals_are_refused_while_twists_are_followed_and_the_gripper_obeys(bench: Bench) -> None:
    sender = threading.Thread(target=bench.send, args=(0.6,))
    sender.start()
    bench.eventually(lambda: bench.servo.active)
    with pytest.raises(GoalRejectedError, match="follows twist_command"):
        bench.goals.execute(goal(), 0.3)
    with pytest.raises(GoalRejectedError, match="follows twist_command"):
        bench.goals.home(0.3)
    outcome = bench.goals.drive_gripper(0.0)
    assert outcome.success, outcome.message
    assert outcome.width == 0.0
    assert bench.servo.active
    sender.join()


def test_twists_are_refused_while_a_goal_moves_the_arm(bench: Bench) -> None:
    running = threading.Thread(target=bench.goals.execute, args=(goal(), 0.3))
    running.start()
    bench.eventually(lambda: bench.goals.busy)
    bench.send(0.2)
    assert not bench.arm.twists
    assert "a goal is moving the arm" in bench.says("not followed").message
    bench.arm.gate.set()
    running.join()


@pytest.mark.parametrize("mode", [ArmMode.STOPPED, ArmMode.GUIDED, ArmMode.ERROR])
def test_twists_are_refused_while_the_arm_is_not_free(bench: Bench, mode: ArmMode) -> None:
    bench.arm.mode = mode
    bench.send(0.2)
    assert not bench.arm.twists
    assert mode.value in bench.says("not followed").message


def test_an_arm_that_somebody_leads_by_its_own_button_refuses_goals_and_its_gripper_obeys(bench: Bench) -> None:
    bench.arm.mode = ArmMode.GUIDED
    with pytest.raises(GoalRejectedError, match="led by hand"):
        bench.goals.execute(goal(), 0.3)
    assert bench.goals.drive_gripper(0.0).success


def test_two_motions_that_cannot_be_planned_are_tried_again(bench: Bench) -> None:
    bench.arm.errors = [MotionError("no trajectory")] * 2
    bench.send(0.8)
    assert bench.arm.twists


def test_after_a_third_the_operator_has_to_let_go_first(bench: Bench) -> None:
    bench.arm.errors = [MotionError("no trajectory")] * 3
    bench.send(1.2)
    assert "let go and try again" in bench.says("no trajectory").message
    assert not bench.arm.twists
    time.sleep(0.2)
    bench.send(0.2)
    assert bench.arm.twists


def test_a_lost_arm_is_reported_as_lost(bench: Bench) -> None:
    bench.arm.errors = [ConnectionLostError("the arm stopped answering")]
    bench.send(0.1)
    assert bench.says("stopped answering").lost
    bench.eventually(lambda: not bench.servo.active)


def test_twists_of_zero_leave_the_arm_to_itself(bench: Bench) -> None:
    bench.send(0.2)
    bench.send(0.8, np.zeros(6))
    assert bench.says("it is zero").ended
    assert bench.arm.mode is ArmMode.IDLE
