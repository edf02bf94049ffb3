"""A thousand goals that no arm may follow: each is refused with its code, and the arm gets no command.

The executor is the real one, on the stepped simulation as its arm.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hostile_goals import HOSTILE, LIMITS, Numbers, good, hostile

from minidiffuser_ros.arm.envelope import SafetyEnvelope
from minidiffuser_ros.arm.executor import KeyposeExecutor
from minidiffuser_ros.arm.outcome import codes_of_error
from minidiffuser_ros.arm.protocol import Arm, ArmMode, ArmState
from minidiffuser_ros.arm.watchdog import Deadman, state_watchdog
from minidiffuser_ros.contract.errors import ConnectionLostError, MinidiffuserError, MotionError
from minidiffuser_ros.contract.refusal import Reason, Refusal
from minidiffuser_ros.simulation.stepped_franka import SteppedFranka
from minidiffuser_ros.simulation.tabletop import shared_world

NOW_NS = 1_700_000_000 * 10**9
SPEED = 1.0
PER_CLASS, PER_SITUATION = 40, 30
BAD_SPEEDS = (0.0, -0.3, float("nan"), float("inf"), 1.01)


class RecordingArm:
    """The simulated arm, with a list of everything that it was commanded, and faults that it reports on demand."""

    def __init__(self, arm: Arm) -> None:
        self._arm = arm
        self.commands: list[str] = []
        self.mode: ArmMode | None = None
        self.lost = False
        self.gate: threading.Event | None = None  # a motion waits for it and then ends as a halted one does

    def state(self) -> ArmState:
        if self.lost:
            raise ConnectionLostError("the arm stopped answering: recover to try again")
        state = self._arm.state()
        return state if self.mode is None else dataclasses.replace(state, mode=self.mode)

    def __getattr__(self, name: str) -> Callable[..., object]:
        command = getattr(self._arm, name)

        def recorded(*args: object) -> object:
            self.commands.append(name)
            if self.gate is not None and name.startswith("move"):
                self.gate.wait(30.0)
                raise MotionError(Refusal(Reason.INTERRUPTED, "the motion was halted"))
            return command(*args)

        return recorded


class Bench:
    """An executor whose operator holds the button, and the arm that it commands."""

    def __init__(self) -> None:
        world = shared_world()
        world.reset("push_button", 0)
        world.stage.clear()
        self.arm = RecordingArm(SteppedFranka(world.arm))
        self.deadman, self.state_watch = Deadman(60.0), state_watchdog(60.0)
        self.deadman.hold(True)
        self.state_watch.feed()
        self.goals = KeyposeExecutor(
            self.arm,
            SafetyEnvelope(LIMITS),
            clock_ns=lambda: NOW_NS,
            objections=lambda: [*self.deadman.reasons(), *self.state_watch.reasons()],
        )

    def codes_against(self, numbers: Numbers, speed: float = SPEED) -> tuple[str, ...]:
        """Why it was refused; fails where it was not."""
        with pytest.raises(MinidiffuserError) as caught:
            self.goals.execute(numbers.goal(), speed)
        return codes_of_error(caught.value)


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench()


@pytest.fixture
def still(bench: Bench) -> Iterator[None]:
    """No command, and not a joint has moved."""
    before = bench.arm.state().joints
    bench.arm.commands.clear()
    yield
    assert bench.arm.commands == []
    np.testing.assert_array_equal(bench.arm.state().joints, before)


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_goals_are_refused_with_their_code(bench: Bench, name: str) -> None:
    code, _ = HOSTILE[name]
    for numbers in hostile(name, PER_CLASS, NOW_NS):
        assert code in bench.codes_against(numbers), numbers


@contextmanager
def mode(bench: Bench, value: ArmMode) -> Iterator[None]:
    bench.arm.mode = value
    yield
    bench.arm.mode = None


@contextmanager
def lost(bench: Bench) -> Iterator[None]:
    bench.arm.lost = True
    yield
    bench.arm.lost = False


@contextmanager
def not_enabled(bench: Bench) -> Iterator[None]:
    bench.deadman.hold(False)
    yield
    bench.deadman.hold(True)


@contextmanager
def old_state(bench: Bench) -> Iterator[None]:
    bench.state_watch.silence()
    yield
    bench.state_watch.feed()


@contextmanager
def lent(bench: Bench) -> Iterator[None]:
    bench.goals.lend("follows twist_command")
    yield
    bench.goals.take_back()


@contextmanager
def another_goal_runs(bench: Bench) -> Iterator[None]:
    bench.arm.gate = threading.Event()
    first = good(np.random.default_rng(1), NOW_NS).goal()
    running = threading.Thread(target=bench.goals.execute, args=(first, SPEED))
    running.start()
    while not any(name.startswith("move") for name in bench.arm.commands):
        assert running.is_alive()
        time.sleep(0.005)
    own = len(bench.arm.commands)
    yield
    assert len(bench.arm.commands) == own
    bench.arm.gate.set()
    running.join()
    bench.arm.gate = None
    bench.arm.commands.clear()


SITUATIONS = {
    "while the arm moves": (Reason.MOVING, lambda bench: mode(bench, ArmMode.MOVING)),
    "during a reflex": (Reason.REFLEX, lambda bench: mode(bench, ArmMode.ERROR)),
    "during a user stop": (Reason.USER_STOPPED, lambda bench: mode(bench, ArmMode.STOPPED)),
    "while it is led by hand": (Reason.GUIDED, lambda bench: mode(bench, ArmMode.GUIDED)),
    "without a connection": (Reason.CONNECTION_LOST, lost),
    "while not enabled": (Reason.NOT_ENABLED, not_enabled),
    "on an old state": (Reason.STATE_STALE, old_state),
    "while it follows twists": (Reason.LENT, lent),
    "while another goal runs": (Reason.BUSY, another_goal_runs),
}


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize("situation", SITUATIONS)
def test_good_goals_are_refused_at_the_wrong_time(bench: Bench, situation: str) -> None:
    code, begin = SITUATIONS[situation]
    draw = np.random.default_rng([8, list(SITUATIONS).index(situation)])
    with begin(bench):
        for _ in range(PER_SITUATION):
            assert bench.codes_against(good(draw, NOW_NS)) == (code,)


@pytest.mark.usefixtures("still")
def test_good_goals_are_refused_at_speeds_that_are_none(bench: Bench) -> None:
    draw = np.random.default_rng(9)
    for speed in BAD_SPEEDS:
        assert bench.codes_against(good(draw, NOW_NS), speed) == (Reason.BAD_SPEED,)


def test_that_is_a_thousand() -> None:
    assert PER_CLASS * len(HOSTILE) + PER_SITUATION * len(SITUATIONS) + len(BAD_SPEEDS) >= 1000


def test_a_good_goal_is_followed_and_would_have_been_noticed(bench: Bench) -> None:
    before = bench.arm.state().joints
    assert bench.goals.execute(good(np.random.default_rng(2), NOW_NS).goal(), SPEED).success
    assert {"prepare", "move_line"} <= set(bench.arm.commands)
    assert np.abs(bench.arm.state().joints - before).max() > 0.05
    assert bench.goals.home(SPEED).success
