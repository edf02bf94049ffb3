"""Led by hand: a simulated arm gives way to a push on its hand, and stands still when nobody pushes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from simulated_franka import SimulatedFranka, start_franka

from minidiffuser_ros.arm.envelope import SafetyEnvelope
from minidiffuser_ros.arm.executor import KeyposeExecutor
from minidiffuser_ros.arm.franky_arm import FrankyArm
from minidiffuser_ros.arm.goal import KeyposeGoal
from minidiffuser_ros.arm.guide import HandGuide
from minidiffuser_ros.arm.protocol import ArmMode
from minidiffuser_ros.arm.servo import ServoReport
from minidiffuser_ros.arm.watchdog import Deadman
from minidiffuser_ros.contract.errors import GoalRejectedError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.geometry.rotation import POINTING_DOWN_WXYZ

PUSH_N = 10.0


class Bench:
    """A guide on a simulated arm; somebody keeps its deadman alive while `held`."""

    def __init__(self) -> None:
        self.franka: SimulatedFranka = start_franka(5)
        self.arm = FrankyArm(self.franka.address)
        self.goals = KeyposeExecutor(self.arm, SafetyEnvelope())
        self.objections, self.reports = list[str](), list[ServoReport]()
        self.deadman, self.held = Deadman(), threading.Event()
        told = self.reports.append
        self.guide = HandGuide(self.arm, self.goals, self.deadman, lambda: list(self.objections), told)
        self.closing = threading.Event()
        threading.Thread(target=self._hold, daemon=True).start()

    def _hold(self) -> None:
        while not self.closing.wait(0.05):
            if self.held.is_set():
                self.deadman.hold(True)

    def place(self) -> np.ndarray:
        return self.arm.state().tool[:3, 3]


@pytest.fixture(scope="module")
def module_bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.closing.set()
    bench.guide.stop()
    bench.franka.kill()


@pytest.fixture
def bench(module_bench: Bench) -> Bench:
    module_bench.objections.clear()
    module_bench.reports.clear()
    module_bench.held.set()
    time.sleep(0.1)
    return module_bench


def eventually(probe: Callable[[], object], timeout_s: float = 5.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not probe():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def goal() -> KeyposeGoal:
    return KeyposeGoal(Keypose(np.array([0.45, 0.0, 0.3]), np.array(POINTING_DOWN_WXYZ), 1.0))


def test_it_gives_way_to_a_push_and_stands_still_without_one(bench: Bench) -> None:
    bench.guide.start()
    time.sleep(0.3)
    before = bench.place()
    bench.franka.push(0.0, PUSH_N, 0.0)
    eventually(lambda: bench.place()[1] - before[1] > 0.05)
    bench.franka.push(0.0, 0.0, 0.0)
    time.sleep(1.5)
    left = bench.place()
    time.sleep(1.0)
    np.testing.assert_allclose(bench.place(), left, atol=2e-3)
    assert bench.guide.stop()
    assert bench.reports[-1].ended


def test_when_it_has_ended_the_arm_does_not_give_way(bench: Bench) -> None:
    before = bench.place()
    bench.franka.push(0.0, -PUSH_N, 0.0)
    time.sleep(0.7)
    np.testing.assert_allclose(bench.place(), before, atol=2e-3)
    bench.franka.push(0.0, 0.0, 0.0)
    assert bench.arm.state().mode is ArmMode.IDLE


def test_meanwhile_goals_are_refused_and_the_gripper_obeys(bench: Bench) -> None:
    bench.guide.start()
    with pytest.raises(GoalRejectedError, match="led by hand"):
        bench.goals.execute(goal(), 0.3)
    assert bench.goals.drive_gripper(0.5).success
    assert bench.guide.active
    assert bench.guide.stop()


def test_it_ends_when_the_deadman_is_let_go_of_and_goals_run_again(bench: Bench) -> None:
    bench.guide.start()
    bench.held.clear()
    eventually(lambda: not bench.guide.active, 3.0)
    assert "`enable` was not true" in bench.reports[-1].message
    outcome = bench.goals.execute(goal(), 0.5)
    assert outcome.success, outcome.message


def test_it_ends_on_an_objection(bench: Bench) -> None:
    bench.guide.start()
    bench.objections.append("the arm was stopped")
    eventually(lambda: not bench.guide.active, 3.0)
    assert "the arm was stopped" in bench.reports[-1].message


def test_it_does_not_begin_without_the_deadman_or_against_an_objection(bench: Bench) -> None:
    bench.objections.append("the arm was stopped")
    with pytest.raises(GoalRejectedError, match="stopped"):
        bench.guide.start()
    bench.objections.clear()
    bench.held.clear()
    time.sleep(0.4)
    with pytest.raises(GoalRejectedError, match="enable"):
        bench.guide.start()
    assert bench.arm.state().mode is ArmMode.IDLE
