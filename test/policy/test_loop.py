"""Laws of the decision loop, on a small world whose arm, camera and clock are plain Python."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from minidiffuser_ros.contract.errors import (
    ConnectionLostError,
    GoalRejectedError,
    InstructionError,
    MotionError,
    ObservationError,
)
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.contract.observation import Observation, ObservationSpec
from minidiffuser_ros.contract.refusal import Reason, codes_of
from minidiffuser_ros.geometry.rotation import POINTING_DOWN_WXYZ
from minidiffuser_ros.policy.loop import DecisionLoop, Ending, RunResult, Stage, Surroundings
from minidiffuser_ros.policy.supervision import Answer
from minidiffuser_ros.policy.validation import ValidationSettings, goal_problems

SECOND = 1_000_000_000
TARGET = np.array([0.5, 0.1, 0.1])


@dataclass(frozen=True)
class Choice:
    """A decision as the loop reads it."""

    keypose: Keypose
    candidates: np.ndarray = field(default_factory=lambda: np.zeros((3, 3)))
    spread: float = 0.01
    holds: bool = False
    encode_ms: float = 1.0
    denoise_ms: float = 2.0
    steps: int = 4
    pruned: float = 0.0
    sampler: str = "ddim"
    fell_back: bool = False
    doubt: str = ""


def keypose(position: Any = TARGET) -> Keypose:
    return Keypose(position, np.array(POINTING_DOWN_WXYZ), 1.0)


@dataclass
class World:
    """An arm that goes where it is told, and a task that is done when the tool has been at TARGET."""

    tool: np.ndarray = field(default_factory=lambda: np.array([0.4, 0.0, 0.3]))
    now_ns: int = 100 * SECOND
    settled_ns: int = 99 * SECOND
    judged: bool = True
    executed: list[Keypose] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    befores: list[Observation | None] = field(default_factory=list)
    observed_from: list[int] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    decide: Callable[[int], Choice] = field(default=lambda seed: Choice(keypose()))
    on_execute: Callable[[Keypose], None] = field(default=lambda goal: None)

    def observe(self, not_before_ns: int) -> tuple[Observation, float]:
        self.observed_from.append(not_before_ns)
        self.now_ns += SECOND // 10
        empty = np.zeros((0, 3))
        observation = Observation(
            points=empty.astype(np.float32),
            colors=empty.astype(np.uint8),
            tool_position=self.tool,
            tool_quat_wxyz=np.array(POINTING_DOWN_WXYZ),
            joint_positions=np.zeros(7),
            opening=1.0,
            stamp_ns=self.now_ns,
            spec=ObservationSpec(),
        )
        return observation, 0.0

    def choose(self, observation: Observation, instruction: str, seed: int, before: Observation | None) -> Choice:
        self.seeds.append(seed)
        self.befores.append(before)
        return self.decide(seed)

    def execute(self, goal: Keypose) -> None:
        self.on_execute(goal)
        self.executed.append(goal)
        self.tool = goal.position
        self.now_ns += 2 * SECOND
        self.settled_ns = self.now_ns

    def success(self) -> bool | None:
        return bool(np.allclose(self.tool, TARGET)) if self.judged else None

    def surroundings(self, **changes: Any) -> Surroundings:
        seams = Surroundings(
            settled_at_ns=lambda: self.settled_ns,
            observe=self.observe,
            decide=self.choose,
            approve=lambda decision: Answer.YES,
            execute=self.execute,
            success_reported=self.success,
            on_stage=lambda stage, index: self.stages.append(stage),
            now_ns=lambda: self.now_ns,
        )
        return replace(seams, **changes)

    def run(self, max_keyposes: int = 5, seed: int = 7, **changes: Any) -> RunResult:
        return DecisionLoop(self.surroundings(**changes)).run("push the red button", max_keyposes, seed)


def steps_towards_target(world: World) -> Callable[[int], Choice]:
    return lambda seed: Choice(keypose(world.tool + np.clip(TARGET - world.tool, -0.1, 0.1)))


def test_a_run_ends_as_soon_as_the_task_reports_success() -> None:
    world = World()
    world.decide = steps_towards_target(world)
    result = world.run()
    assert result.success
    assert result.ending is Ending.SUCCESS_REPORTED
    assert len(result.decisions) == len(world.executed) == 2
    np.testing.assert_allclose(world.executed[-1].position, TARGET)
    assert [record.index for record in result.decisions] == [0, 1]
    assert world.stages == [Stage.OBSERVING, Stage.INFERRING, Stage.WAITING_FOR_APPROVAL, Stage.MOVING] * 2


def test_every_decision_is_told_what_was_seen_before_the_last_motion() -> None:
    world = World()
    world.decide = steps_towards_target(world)
    world.run()
    first, second = world.befores
    assert first is None
    assert second is not None
    np.testing.assert_allclose(second.tool_position, [0.4, 0.0, 0.3])


def test_a_hold_and_a_refused_goal_are_no_motions_and_a_failed_one_is() -> None:
    def refuse(goal: Keypose) -> None:
        raise GoalRejectedError("too far")

    def collide(goal: Keypose) -> None:
        world.tool = world.tool - np.array([0.0, 0.0, 0.05])
        raise MotionError("touched something")

    world = World(decide=lambda seed: Choice(keypose([0.4, 0.0, 0.2]), holds=True))
    world.run()
    assert world.befores == [None, None]
    world = World(decide=lambda seed: Choice(keypose([0.4, 0.0, 0.2])), on_execute=refuse)
    world.run()
    assert len(world.befores) > 1
    assert not any(world.befores)
    world = World(decide=lambda seed: Choice(keypose([0.4, 0.0, 0.2])), on_execute=collide)
    world.run()
    first, second, *_ = world.befores
    assert first is None
    assert second is not None
    np.testing.assert_allclose(second.tool_position, [0.4, 0.0, 0.3])


def test_every_observation_is_asked_for_from_after_the_last_motion() -> None:
    world = World()
    world.decide = steps_towards_target(world)
    world.run()
    assert world.observed_from[0] == 99 * SECOND
    assert world.observed_from[1] > world.observed_from[0] + 2 * SECOND


def test_a_policy_that_holds_twice_ends_the_run_without_motion() -> None:
    world = World(decide=lambda seed: Choice(keypose(), holds=True), judged=False)
    result = world.run()
    assert (result.ending, result.success) == (Ending.POLICY_HOLDS, True)
    assert world.executed == []
    assert len(result.decisions) == 2


def test_a_policy_that_holds_is_no_success_where_the_task_says_otherwise() -> None:
    result = World(decide=lambda seed: Choice(keypose(), holds=True)).run()
    assert (result.ending, result.success) == (Ending.POLICY_HOLDS, False)


def test_one_hold_between_motions_does_not_end_the_run() -> None:
    world = World(judged=False)
    choices = iter([True, False, True, False, True])
    world.decide = lambda seed: Choice(keypose([0.4, 0.0, 0.2]), holds=next(choices))
    result = world.run()
    assert result.ending is Ending.KEYPOSES_SPENT
    assert len(world.executed) == 2


def test_never_more_keyposes_than_allowed() -> None:
    world = World(decide=lambda seed: Choice(keypose([0.4, 0.0, 0.2])))
    result = world.run(max_keyposes=3)
    assert (result.ending, result.success) == (Ending.KEYPOSES_SPENT, False)
    assert len(world.executed) == 3


def test_a_refused_goal_is_answered_by_one_other_sample() -> None:
    world = World()

    def refuse_first(goal: Keypose) -> None:
        if len(world.seeds) == 1:
            raise GoalRejectedError("out of reach")

    world.on_execute = refuse_first
    result = world.run()
    assert result.ending is Ending.SUCCESS_REPORTED
    assert len(set(world.seeds)) == 2


def test_two_refused_goals_in_a_row_end_the_run_with_the_reason() -> None:
    world = World()

    def refuse(goal: Keypose) -> None:
        raise GoalRejectedError("out of reach")

    world.on_execute = refuse
    result = world.run()
    assert result.ending is Ending.GOAL_REFUSED
    assert "out of reach" in result.message
    assert len(world.seeds) == 2
    assert world.executed == []


def test_a_goal_that_fails_a_check_never_reaches_the_arm() -> None:
    world = World(decide=lambda seed: Choice(keypose([5.0, 0.0, 0.2])))
    result = world.run()
    assert result.ending is Ending.GOAL_REFUSED
    assert "outside the workspace" in result.message
    assert world.executed == []


def test_a_motion_that_missed_but_did_its_work_is_a_success() -> None:
    world = World()

    def miss(goal: Keypose) -> None:
        world.tool = TARGET
        raise MotionError("stopped 12 mm short")

    world.on_execute = miss
    result = world.run()
    assert result.success
    assert len(result.decisions) == 1


def test_a_lost_connection_ends_the_run_at_once() -> None:
    world = World()

    def lose(goal: Keypose) -> None:
        raise ConnectionLostError("the arm is gone")

    world.on_execute = lose
    result = world.run()
    assert (result.ending, result.message) == (Ending.CONNECTION_LOST, "the arm is gone")
    assert len(world.seeds) == 1


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        (ObservationError(["camera 'front' has no valid depth pixel"]), Ending.NO_OBSERVATION),
        (ConnectionLostError("nobody answers"), Ending.CONNECTION_LOST),
        (InstructionError("an empty sentence"), Ending.FAILED),
    ],
)
def test_errors_become_the_message_and_nothing_moves(error: Exception, ending: Ending) -> None:
    world = World()

    def fail(not_before_ns: int) -> Any:
        raise error

    result = world.run(observe=fail)
    assert (result.ending, result.message, result.success) == (ending, str(error), False)
    assert world.executed == []


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not Stage.PAUSED])
def test_a_run_cancelled_in_any_stage_starts_no_motion_after_it(stage: Stage) -> None:
    world = World(decide=lambda seed: Choice(keypose([0.4, 0.0, 0.2])))
    reached: list[Stage] = []
    result = world.run(
        on_stage=lambda entered, index: reached.append(entered),
        cancelled=lambda: bool(reached) and reached[-1] is stage,
    )
    assert result.ending is Ending.CANCELLED
    # A motion that had begun returns (the arm brakes on its own cancel); no other follows.
    assert len(world.executed) == (1 if stage is Stage.MOVING else 0)


def test_an_error_that_comes_from_cancelling_counts_as_cancelled() -> None:
    world = World()
    cancelled: list[bool] = []

    def halted(goal: Keypose) -> None:
        cancelled.append(True)
        raise ConnectionLostError("gave up waiting")

    world.on_execute = halted
    assert world.run(cancelled=lambda: bool(cancelled)).ending is Ending.CANCELLED


def test_without_approval_nothing_moves() -> None:
    world = World()
    assert world.run(approve=lambda decision: Answer.NONE).ending is Ending.NOT_APPROVED
    assert world.executed == []


def test_a_dry_run_decides_and_checks_but_moves_nothing() -> None:
    world = World()
    goals: list[Any] = []
    result = world.run(dry_run=lambda: True, on_goal=goals.append)
    assert result.ending is Ending.DRY_RUN
    assert world.executed == []
    assert len(result.decisions) == len(goals) == 1


def test_a_run_repeated_with_its_seed_samples_alike_and_with_another_does_not() -> None:
    def seeds(seed: int) -> list[int]:
        world = World(decide=lambda sample: Choice(keypose([0.4, 0.0, 0.2])))
        world.run(seed=seed)
        return world.seeds

    assert seeds(1) == seeds(1)
    assert not set(seeds(1)) & set(seeds(2))
    assert len(set(seeds(1))) == 5


def test_times_of_the_stages_are_kept_per_decision() -> None:
    world = World()
    (record,) = world.run().decisions
    assert (record.encode_ms, record.denoise_ms, record.steps, record.candidates) == (1.0, 2.0, 4, 3)
    assert record.move_ms > 0.0
    assert record.observe_ms > 0.0


@pytest.mark.parametrize(
    ("changes", "problem", "code"),
    [
        ({"position": np.array([0.5, 0.1, -0.2])}, "outside the workspace", Reason.OUTSIDE_WORKSPACE),
        ({"position": np.array([0.5, np.nan, 0.1])}, "not finite", Reason.NOT_FINITE),
        ({"quat_wxyz": np.array([0.0, 2.0, 0.0, 0.0])}, "norm 2.0000", Reason.NOT_A_ROTATION),
    ],
)
def test_each_check_names_what_is_wrong(changes: dict[str, Any], problem: str, code: Reason) -> None:
    goal = keypose()
    for name, value in changes.items():
        # Around the constructor, which refuses such values itself: a goal may come from elsewhere one day.
        object.__setattr__(goal, name, value)
    observation, _ = World().observe(0)
    (text,) = goal_problems(goal, observation, ValidationSettings(), 0, observation.stamp_ns)
    assert problem in text
    assert text.code is code


def test_jump_age_and_order_of_stamps_are_checked() -> None:
    observation, _ = World().observe(0)
    stamp = observation.stamp_ns
    assert goal_problems(keypose(), observation, ValidationSettings(), stamp, stamp) == []
    settings = ValidationSettings(max_jump_m=0.1, max_observation_age_s=2.0)
    problems = goal_problems(keypose(), observation, settings, stamp + SECOND, stamp + 3 * SECOND)
    assert len(problems) == 3
    assert "from the tool" in problems[0]
    assert "before the arm had settled" in problems[1]
    assert "3.0 s old" in problems[2]
    assert codes_of(problems) == [Reason.TOO_FAR, Reason.BEFORE_LAST_MOTION, Reason.STALE]
