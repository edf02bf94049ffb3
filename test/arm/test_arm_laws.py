"""What every `Arm` keeps to, asked of both there are: the Franka driver on franky-sim, and the stepped simulation."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.interpolate import CubicSpline
from simulated_franka import start_franka

from minidiffuser_ros.arm.franky_arm import FrankyArm
from minidiffuser_ros.arm.kinematics import HOME_JOINTS, FrankaKinematics
from minidiffuser_ros.arm.protocol import Arm, ArmMode, ArmState
from minidiffuser_ros.contract.errors import MotionError
from minidiffuser_ros.contract.refusal import Reason, codes_of
from minidiffuser_ros.simulation.stepped_franka import SteppedFranka
from minidiffuser_ros.simulation.tabletop import Tabletop

HOME = np.array(HOME_JOINTS)
# A way that no straight segment approximates.
BEND = HOME + np.array([np.zeros(7), [0.3, 0.2, -0.1, 0.1, 0, 0.2, 0.1], [0.6, 0.1, 0.2, -0.3, 0.2, 0, 0.3]])


@dataclass(frozen=True)
class Path:
    times_s: np.ndarray
    joints: np.ndarray
    velocities: np.ndarray


def bent_path(duration_s: float) -> Path:
    """From home along a curve, at rest at both ends."""
    fraction = np.linspace(0.0, 1.0, 201)
    smooth = fraction**3 * (10.0 - 15.0 * fraction + 6.0 * fraction**2)
    way = CubicSpline(fraction * duration_s, CubicSpline([0, 1, 2], BEND)(2 * smooth), bc_type="clamped")
    times = fraction * duration_s
    return Path(times, way(times), way(times, 1))


@contextmanager
def franky_arm() -> Iterator[Arm]:
    server = start_franka(7)
    try:
        arm = FrankyArm(server.address)
        yield arm
        arm.close()
    finally:
        server.kill()


@contextmanager
def stepped_arm() -> Iterator[Arm]:
    world = Tabletop()
    world.reset("push_button", 0)
    world.stage.clear()
    yield SteppedFranka(world.arm, pause_s=2e-4)


@pytest.fixture(scope="module", params=[franky_arm, stepped_arm])
def any_arm(request: pytest.FixtureRequest) -> Iterator[Arm]:
    with request.param() as arm:
        yield arm


@pytest.fixture
def arm(any_arm: Arm) -> Arm:
    """At home, at rest, open."""
    any_arm.move_joints(HOME, 0.8, threading.Event())
    rest(any_arm)
    return any_arm


def rest(arm: Arm) -> ArmState:
    """Wait for two readings that agree."""
    before, deadline = arm.state(), time.monotonic() + 5.0
    while True:
        time.sleep(0.05)
        state = arm.state()
        if np.abs(state.joints - before.joints).max() < 2e-4:
            return state
        assert time.monotonic() < deadline
        before = state


class Watched:
    """A motion in a thread of its own, and what the arm read meanwhile."""

    def __init__(self, arm: Arm, motion: Callable[[threading.Event], None]) -> None:
        self.arm, self.halt, self.error = arm, threading.Event(), None
        self.states: list[ArmState] = []
        self._motion = motion
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._motion(self.halt)
        except MotionError as error:
            self.error = error

    def watch(self, until: Callable[[], bool] = lambda: False) -> None:
        while self._thread.is_alive() and not until():
            self.states.append(self.arm.state())
            time.sleep(0.001)

    def travelled(self) -> float:
        return float(np.abs(self.states[-1].joints - self.states[0].joints).max()) if self.states else 0.0

    def joints(self) -> np.ndarray:
        return np.array([state.joints for state in self.states])


def test_a_line_is_straight_and_ends_where_it_was_asked_to(arm: Arm) -> None:
    start = arm.state().tool
    target = start.copy()
    target[:3, 3] += [0.15, -0.2, -0.1]
    motion = Watched(arm, lambda halt: arm.move_line(target, 0.3, halt))
    motion.watch()
    assert motion.error is None
    np.testing.assert_allclose(rest(arm).tool[:3, 3], target[:3, 3], atol=3e-3)
    way = target[:3, 3] - start[:3, 3]
    along = way / np.linalg.norm(way)
    tools = np.array([state.tool[:3, 3] for state in motion.states]) - start[:3, 3]
    assert np.abs(tools - np.outer(tools @ along, along)).max() < 6e-3
    assert any(state.mode is ArmMode.MOVING for state in motion.states)


def test_joints_arrive_where_they_were_asked_to(arm: Arm) -> None:
    arm.move_joints(BEND[1], 0.5, threading.Event())
    np.testing.assert_allclose(rest(arm).joints, BEND[1], atol=3e-3)
    assert arm.state().mode is ArmMode.IDLE


def test_a_path_is_followed_closely_and_without_stopping(arm: Arm) -> None:
    path = bent_path(4.0)
    motion = Watched(arm, lambda halt: arm.move_path(path, halt))
    motion.watch()
    assert motion.error is None
    np.testing.assert_allclose(rest(arm).joints, BEND[-1], atol=3e-3)
    fine = CubicSpline(path.times_s, path.joints)(np.linspace(0.0, 4.0, 2001))
    nearest = np.array([np.abs(fine - joints).max(axis=1).min() for joints in motion.joints()])
    assert nearest.max() < 0.015
    progress = np.linalg.norm(motion.joints() - HOME, axis=1)
    middle = [
        np.linalg.norm(state.velocities)
        for state, done in zip(motion.states, progress, strict=True)
        if 0.2 < done / progress[-1] < 0.8
    ]
    assert len(middle) > 3
    assert min(middle) > 0.05


def test_a_path_that_begins_elsewhere_or_is_none_is_refused_and_nothing_moves(arm: Arm) -> None:
    path = bent_path(3.0)
    broken = np.full_like(path.joints, np.nan)
    for wrong in (
        Path(path.times_s, path.joints + 0.1, path.velocities),
        Path(path.times_s, broken, path.velocities),
        Path(path.times_s[::-1], path.joints, path.velocities),
        Path(path.times_s[:1], path.joints[:1], path.velocities[:1]),
    ):
        with pytest.raises(MotionError) as refused:
            arm.move_path(wrong, threading.Event())
        assert codes_of([refused.value.reason]) == [Reason.NO_TRAJECTORY]
    np.testing.assert_allclose(arm.state().joints, HOME, atol=3e-3)


def motions(arm: Arm) -> dict[str, Callable[[threading.Event], None]]:
    low = FrankaKinematics().forward(HOME)
    low[:3, 3] += [0.2, 0.25, -0.2]
    return {
        "line": lambda halt: arm.move_line(low, 0.05, halt),
        "joints": lambda halt: arm.move_joints(BEND[-1], 0.05, halt),
        "path": lambda halt: arm.move_path(bent_path(20.0), halt),
    }


@pytest.mark.parametrize("kind", ["line", "joints", "path"])
def test_a_halt_ends_every_motion_on_its_way_and_the_next_one_runs(arm: Arm, kind: str) -> None:
    motion = Watched(arm, motions(arm)[kind])
    motion.watch(until=lambda: motion.travelled() > 0.02)
    motion.halt.set()
    halted = time.monotonic()
    motion.watch()
    assert time.monotonic() - halted < 2.0
    assert motion.error is not None
    assert codes_of([motion.error.reason]) == [Reason.INTERRUPTED]
    stopped = rest(arm)
    assert stopped.mode is ArmMode.IDLE
    assert 0.02 < np.abs(stopped.joints - HOME).max() < 0.3
    arm.move_joints(HOME, 0.8, threading.Event())


@pytest.mark.parametrize("kind", ["line", "joints", "path"])
def test_a_motion_that_is_halted_before_it_begins_moves_nothing(arm: Arm, kind: str) -> None:
    halt = threading.Event()
    halt.set()
    with pytest.raises(MotionError) as halted:
        motions(arm)[kind](halt)
    assert codes_of([halted.value.reason]) == [Reason.INTERRUPTED]
    np.testing.assert_allclose(rest(arm).joints, HOME, atol=3e-3)


def test_the_fingers_close_and_open_and_tell_their_distance(arm: Arm) -> None:
    halt = threading.Event()
    assert arm.drive_gripper(0.0, halt) < 0.004
    assert arm.drive_gripper(1.0, halt) > 0.076
    assert arm.state().width > 0.076


def test_fingers_that_are_halted_on_their_way_take_the_next_command(arm: Arm) -> None:
    arm.drive_gripper(1.0, threading.Event())
    halt = threading.Event()

    def halt_half_closed() -> None:
        while arm.state().width > 0.06:
            time.sleep(1e-3)
        halt.set()

    watching = threading.Thread(target=halt_half_closed)
    watching.start()
    with pytest.raises(MotionError) as halted:
        arm.drive_gripper(0.0, halt)
    watching.join()
    assert codes_of([halted.value.reason]) == [Reason.INTERRUPTED]
    assert arm.state().width > 0.004, "closed before it was halted"
    assert arm.drive_gripper(1.0, threading.Event()) > 0.076


def test_a_motion_without_a_trajectory_fails_with_a_code_and_the_arm_stays_usable(arm: Arm) -> None:
    with pytest.raises(MotionError) as failed:
        arm.move_joints(np.full(7, np.nan), 0.5, threading.Event())
    assert codes_of([failed.value.reason]) == [Reason.NO_TRAJECTORY]
    arm.move_joints(BEND[1], 0.8, threading.Event())
