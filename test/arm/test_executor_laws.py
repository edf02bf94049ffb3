"""How goals are carried out, on the stepped simulation: phases, retries, grips, ways, and the codes of failures."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from minidiffuser_ros.arm.contact import ContactSettings, ContactThresholds, Payload
from minidiffuser_ros.arm.envelope import SafetyEnvelope
from minidiffuser_ros.arm.execution_settings import ExecutionSettings
from minidiffuser_ros.arm.executor import KeyposeExecutor
from minidiffuser_ros.arm.goal import KeyposeGoal, Way
from minidiffuser_ros.arm.outcome import codes_of_error
from minidiffuser_ros.arm.planning.planner import MotionPlanner
from minidiffuser_ros.arm.planning.timing import time_path
from minidiffuser_ros.arm.protocol import ArmMode, ArmState
from minidiffuser_ros.arm.route import RouteChoice
from minidiffuser_ros.contract.errors import ConfigurationError, GoalRejectedError, MotionError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.contract.refusal import Reason, Refusal
from minidiffuser_ros.geometry.rotation import POINTING_DOWN_WXYZ
from minidiffuser_ros.simulation.stepped_franka import SteppedFranka
from minidiffuser_ros.simulation.tabletop import Tabletop
from minidiffuser_ros.simulation.tasks.objects import BLOCK_HALF_SIZE

BLOCK, PLACE = "block_0", (0.5, 0.1, BLOCK_HALF_SIZE)
SPEED = 0.8


class RehearsedArm(SteppedFranka):
    """Notes what it is asked for. failures: raised by the next motions, one each, in place of moving."""

    def __init__(self, world: Tabletop) -> None:
        super().__init__(world.arm)
        self.failures: list[MotionError] = []
        self.lines: list[tuple[np.ndarray, float]] = []
        self.thresholds: list[ContactThresholds] = []
        self.payloads: list[Payload] = []
        self.mode: ArmMode | None = None

    def state(self) -> ArmState:
        state = super().state()
        return state if self.mode is None else dataclasses.replace(state, mode=self.mode)

    def prepare(self, thresholds: ContactThresholds, payload: Payload) -> None:
        self.thresholds.append(thresholds)
        self.payloads.append(payload)

    def move_line(self, tool: np.ndarray, speed: float, halt: threading.Event) -> None:
        self.lines.append((tool, speed))
        if self.failures:
            raise self.failures.pop(0)
        super().move_line(tool, speed, halt)


class Bench:
    """An executor on a table with one block."""

    def __init__(self, world: Tabletop) -> None:
        world.reset("stack_pair", 0)
        world.stage.clear()
        world.stage.place(BLOCK, PLACE)
        world.stage.settle()
        world.arm.after_step = lambda: None
        self.world, self.arm = world, RehearsedArm(world)
        self.objections: list[str] = []
        self.phases: list[str] = []
        self.goals = self.executor()

    def executor(self, planner: Any = None, **settings: Any) -> KeyposeExecutor:
        envelope = SafetyEnvelope()
        return KeyposeExecutor(
            self.arm,
            envelope,
            ExecutionSettings(**settings),
            objections=lambda: list(self.objections),
            routes=RouteChoice(envelope, planner),
            contact=ContactSettings(payload=Payload(mass=0.2)),
        )

    def execute(self, *place: float, goals: KeyposeExecutor | None = None, opening: float = 1.0, **how: Any) -> Any:
        self.phases.clear()
        return (goals or self.goals).execute(goal(*place, opening=opening, **how), SPEED, self.phases.append)


@pytest.fixture(scope="module")
def world() -> Tabletop:
    return Tabletop()


@pytest.fixture
def bench(world: Tabletop) -> Bench:
    return Bench(world)


def goal(x: float, y: float, z: float, opening: float = 1.0, **how: Any) -> KeyposeGoal:
    return KeyposeGoal(Keypose(np.array([x, y, z]), np.array(POINTING_DOWN_WXYZ), opening), **how)


def failure(code: Reason) -> MotionError:
    return MotionError(Refusal(code, f"it failed: {code}"))


def test_without_approach_and_retreat_a_goal_is_one_line(bench: Bench) -> None:
    outcome = bench.execute(0.5, -0.1, 0.2)
    assert outcome.success, outcome.message
    assert bench.phases == ["checking", "moving", "settling", "gripper", "verifying"]
    assert (outcome.codes, outcome.attempts, len(bench.arm.lines)) == ((), 1, 1)


def test_an_approach_and_a_retreat_are_straight_slow_and_along_the_tool(bench: Bench) -> None:
    outcome = bench.execute(0.5, -0.1, 0.15, approach_m=0.08, retreat_m=0.05)
    assert outcome.success, outcome.message
    assert bench.phases == ["checking", "moving", "approaching", "settling", "gripper", "verifying", "retreating"]
    heights = [tool[2, 3] for tool, _ in bench.arm.lines]
    np.testing.assert_allclose(heights, [0.23, 0.15, 0.20], atol=1e-6)
    slow = ExecutionSettings().approach_speed * SPEED
    assert [speed for _, speed in bench.arm.lines] == pytest.approx([SPEED, slow, slow])
    assert bench.arm.state().tool[2, 3] == pytest.approx(0.20, abs=2e-3)
    assert outcome.position_error < 2e-3  # of the pose, though the arm has left it
    assert outcome.reached.position[2] == pytest.approx(0.15, abs=2e-3)


def test_the_arm_is_firm_only_where_contact_is_to_be_expected_and_knows_its_payload(bench: Bench) -> None:
    settings = ContactSettings()
    bench.execute(0.5, -0.1, 0.2)
    bench.execute(0.5, -0.1, 0.25, way=Way.LINE)
    bench.execute(0.5, -0.1, 0.15, approach_m=0.05, retreat_m=0.05)
    expected = [settings.contact, settings.contact, settings.transit, settings.contact, settings.contact]
    assert bench.arm.thresholds == expected
    assert {payload.mass for payload in bench.arm.payloads} == {0.2}


@pytest.mark.parametrize("code", [Reason.NO_TRAJECTORY, Reason.POSE_MISSED, Reason.UNSETTLED])
def test_a_failure_that_left_the_arm_healthy_is_tried_again_once_and_slower(bench: Bench, code: Reason) -> None:
    bench.arm.failures = [failure(code)]
    outcome = bench.execute(0.5, -0.1, 0.2)
    assert outcome.success, outcome.message
    assert (outcome.attempts, outcome.codes) == (2, ())
    assert "at attempt 2" in outcome.message
    first, second = (speed for _, speed in bench.arm.lines)
    assert second == pytest.approx(first * ExecutionSettings().retry_speed)


def test_a_second_failure_is_the_outcome(bench: Bench) -> None:
    bench.arm.failures = [failure(Reason.NO_TRAJECTORY), failure(Reason.POSE_MISSED)]
    outcome = bench.execute(0.5, -0.1, 0.2)
    assert (outcome.success, outcome.attempts, outcome.codes) == (False, 2, ("pose_missed",))


@pytest.mark.parametrize("code", [Reason.INTERRUPTED, Reason.REFLEX, Reason.USER_STOPPED, Reason.COMMAND_REFUSED])
def test_what_somebody_or_the_arm_itself_has_stopped_is_not_tried_again(bench: Bench, code: Reason) -> None:
    bench.arm.failures = [failure(code)]
    outcome = bench.execute(0.5, -0.1, 0.2)
    assert (outcome.success, outcome.attempts, outcome.codes) == (False, 1, (code,))


@pytest.mark.parametrize("meanwhile", ["objection", "mode", "halt"])
def test_there_is_no_retry_once_something_is_against_it(bench: Bench, meanwhile: str) -> None:
    def fail(tool: np.ndarray, speed: float, halt: threading.Event) -> None:
        if meanwhile == "objection":
            bench.objections.append(Refusal(Reason.STOPPED, "somebody stopped it"))
        elif meanwhile == "mode":
            bench.arm.mode = ArmMode.ERROR
        else:
            halt.set()
        raise failure(Reason.NO_TRAJECTORY)

    bench.arm.move_line = fail  # type: ignore[method-assign]
    assert bench.execute(0.5, -0.1, 0.2).attempts == 1


def test_a_halted_goal_says_what_it_was_halted_for(bench: Bench) -> None:
    bench.arm.failures = [failure(Reason.INTERRUPTED)]
    begin = bench.arm.move_line

    def objected(tool: np.ndarray, speed: float, halt: threading.Event) -> None:
        bench.objections.append(Refusal(Reason.NOT_ENABLED, "nobody holds the button"))
        begin(tool, speed, halt)

    bench.arm.move_line = objected  # type: ignore[method-assign]
    outcome = bench.execute(0.5, -0.1, 0.2)
    assert outcome.codes == ("interrupted", "not_enabled")
    assert "nobody holds the button" in outcome.message


def grasp(bench: Bench) -> None:
    x, y, z = PLACE
    outcome = bench.execute(x, y, z + 0.005, opening=0.0, approach_m=0.08)
    assert outcome.success, outcome.message
    assert outcome.width == pytest.approx(2 * BLOCK_HALF_SIZE, abs=3e-3)
    assert "holds something" in outcome.message


def test_an_object_that_is_kept_is_success_and_one_that_is_lost_on_the_way_is_not(bench: Bench) -> None:
    grasp(bench)
    kept = bench.execute(0.45, 0.0, 0.2, opening=0.0)
    assert kept.success, kept.message
    assert kept.width == pytest.approx(2 * BLOCK_HALF_SIZE, abs=3e-3)
    begun = bench.world.data.time

    def take_away() -> None:
        if bench.world.data.time > begun + 0.2:
            bench.world.stage.place(BLOCK, (0.3, -0.35, BLOCK_HALF_SIZE))
            bench.world.arm.after_step = lambda: None

    bench.world.arm.after_step = take_away
    lost = bench.execute(0.6, -0.2, 0.3, opening=0.0)
    assert (lost.success, lost.codes) == (False, ("object_lost",))
    assert "held something" in lost.message
    assert lost.width < 4e-3
    assert bench.execute(0.5, 0.0, 0.3, opening=0.0).success  # said once


def test_an_object_that_slips_out_on_the_retreat_is_lost(bench: Bench) -> None:
    x, y, z = PLACE
    bench.arm.prepare = lambda *_: len(bench.arm.lines) < 2 or bench.world.stage.place(BLOCK, (0.3, -0.35, 0.02))  # type: ignore
    outcome = bench.execute(x, y, z + 0.005, opening=0.0, approach_m=0.08, retreat_m=0.1)
    assert (outcome.success, outcome.codes) == (False, ("object_lost",))


def test_a_gripper_that_cannot_open_is_a_failure(bench: Bench) -> None:
    bench.arm.drive_gripper = lambda opening, halt: 0.05  # type: ignore[method-assign]
    outcome = bench.execute(0.5, -0.1, 0.2)
    assert (outcome.success, outcome.codes) == (False, ("width_missed",))


class Detour:
    """A planner that goes through one posture in between. asked: whether it was to heed what is seen."""

    def __init__(self, refuses: MotionError | None = None) -> None:
        self.refuses, self.asked = refuses, list[bool]()

    def line(self, state: ArmState, tool: np.ndarray, speed: float, *, seen: bool, held_m: float = 0.0) -> Any:
        raise AssertionError("lines are not planned unless what is seen is avoided")

    def around(self, state: ArmState, tool: np.ndarray, speed: float, *, seen: bool, held_m: float = 0.0) -> Any:
        self.asked.append(seen)
        if self.refuses is not None:
            raise self.refuses
        return time_path(MotionPlanner().plan_pose(state.joints, tool), speed=speed)


@pytest.fixture
def no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the straight line to every goal led through a singular posture."""
    refusal = [Refusal(Reason.NO_LINE, "the straight line leaves the arm's reach")]
    monkeypatch.setattr(SafetyEnvelope, "check_way", lambda *_: refusal)


def test_a_way_is_planned_only_where_no_line_leads_or_one_is_asked_for(bench: Bench) -> None:
    planner = Detour()
    goals = bench.executor(planner)
    assert bench.execute(0.5, -0.1, 0.2, goals=goals).success
    assert bench.execute(0.5, 0.1, 0.2, goals=goals, way=Way.LINE).success
    assert not planner.asked
    outcome = bench.execute(0.35, 0.3, 0.3, goals=goals, way=Way.PLANNED)
    assert outcome.success, outcome.message
    assert planner.asked == [True]
    assert "planning" in bench.phases


def test_without_a_line_auto_is_planned_around_what_is_seen_and_line_is_refused(bench: Bench, no_line: None) -> None:
    planner = Detour()
    goals = bench.executor(planner)
    outcome = bench.execute(0.35, 0.3, 0.3, goals=goals)
    assert outcome.success, outcome.message
    assert planner.asked == [True]
    with pytest.raises(GoalRejectedError) as refused:
        bench.execute(0.5, 0.0, 0.3, goals=goals, way=Way.LINE)
    assert codes_of_error(refused.value) == ("no_line",)


def test_a_goal_that_neither_line_nor_planner_reaches_is_refused_with_both_reasons(bench: Bench, no_line: None) -> None:
    before = bench.arm.state().joints
    with pytest.raises(GoalRejectedError) as refused:
        bench.execute(0.35, 0.3, 0.3, goals=bench.executor(Detour(refuses=failure(Reason.NO_PATH))))
    assert codes_of_error(refused.value) == ("no_line", "no_path")
    with pytest.raises(GoalRejectedError) as refused:
        bench.execute(0.35, 0.3, 0.3)
    assert codes_of_error(refused.value) == ("no_line",)
    np.testing.assert_array_equal(bench.arm.state().joints, before)


def test_a_planned_way_without_a_planner_is_refused(bench: Bench) -> None:
    with pytest.raises(GoalRejectedError) as refused:
        bench.execute(0.5, 0.0, 0.3, way=Way.PLANNED)
    assert codes_of_error(refused.value) == ("no_path",)


def test_a_goal_that_answers_an_older_observation_is_refused_where_that_is_asked_for(bench: Bench) -> None:
    clock = [1_000_000_000_000]
    goals = KeyposeExecutor(
        bench.arm, SafetyEnvelope(), ExecutionSettings(fresh_observation=True), clock_ns=lambda: clock[0]
    )
    seen_ns = clock[0]
    clock[0] += 1_000_000_000
    assert bench.execute(0.5, -0.1, 0.2, goals=goals, stamp_ns=seen_ns).success
    with pytest.raises(GoalRejectedError) as refused:
        bench.execute(0.5, 0.1, 0.2, goals=goals, stamp_ns=seen_ns)
    assert codes_of_error(refused.value) == ("before_last_motion",)
    assert bench.execute(0.5, 0.1, 0.2, goals=goals, stamp_ns=clock[0]).success


def refusals(bench: Bench) -> dict[str, Callable[[], object]]:
    goals = bench.goals

    def objected() -> None:
        bench.objections.append(Refusal(Reason.STOPPED, "somebody stopped it"))
        goals.home(SPEED)

    def lent() -> None:
        goals.lend("follows twists")
        try:
            goals.home(SPEED)
        finally:
            goals.take_back()

    def in_reflex() -> None:
        bench.arm.mode = ArmMode.ERROR
        goals.home(SPEED)

    return {
        "bad_opening": lambda: goals.drive_gripper(2.0),
        "bad_speed": lambda: goals.home(1.5),
        "stopped": objected,
        "lent": lent,
        "reflex": in_reflex,
        "outside_workspace": lambda: bench.execute(3.0, 0.0, 0.3),
    }


@pytest.mark.parametrize("code", ["bad_opening", "bad_speed", "stopped", "lent", "reflex", "outside_workspace"])
def test_every_refusal_has_its_code(bench: Bench, code: str) -> None:
    with pytest.raises(GoalRejectedError) as refused:
        refusals(bench)[code]()
    assert code in codes_of_error(refused.value)


@pytest.mark.parametrize(
    ("name", "value"), [("retries", -1), ("retry_speed", 0.0), ("width_tolerance_m", float("nan"))]
)
def test_settings_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=name):
        ExecutionSettings(**{name: value})
