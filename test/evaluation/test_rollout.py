"""How an episode ends is said in a word: done, or what kept it from being done."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.evaluation.rollout import Rollout, Scene, roll_out, roll_out_expert
from minidiffuser_ros.policy.policy import Decision, Policy
from minidiffuser_ros.simulation.tabletop import Tabletop, shared_world
from minidiffuser_ros.simulation.tasks.base import CLOSED, OPEN, down
from minidiffuser_ros.simulation.tasks.push_button import BUTTONS

SHIPPED = Path(__file__).parents[2] / "models" / "tabletop_small"


@pytest.fixture(scope="module")
def world() -> Tabletop:
    return shared_world()


class Scripted:
    """Answers with given keyposes, as a policy would: a mock, since no trained policy fails on demand."""

    def __init__(self, keyposes: list[Keypose], holds: bool = False) -> None:
        self._keyposes: Iterator[Keypose] = iter([*keyposes, *(keyposes[-1:] * 20)])
        self._holds = holds

    def decide(self, *_: object) -> Decision:
        keypose = next(self._keyposes)
        return Decision(keypose, keypose.position[None], (keypose,), 0, 0.0, self._holds, 0.0, 0.0, 1)


def scripted(world: Tabletop, task: str, keyposes: list[Keypose], holds: bool = False) -> Rollout:
    return roll_out(world, Scripted(keyposes, holds), Scene(task, 200))  # type: ignore[arg-type]


def above(world: Tabletop, task: str, body: str) -> tuple[float, float]:
    world.reset(task, 200)
    x, y, _ = world.stage.position(body)
    return float(x), float(y)


def test_the_expert_and_the_shipped_policy_end_with_success_and_no_failure(world: Tabletop) -> None:
    seen: list[Decision] = []
    policy = Policy.load(SHIPPED)
    for rollout in (
        roll_out_expert(world, Scene("stack_pair", 200000)),
        roll_out(world, policy, Scene("stack_pair", 200000), seen.append),
    ):
        assert (rollout.success, rollout.failure, rollout.reason) == (True, "", "")
    assert len(seen) == rollout.keyposes > 3


def test_the_same_scene_is_rolled_out_the_same_way_twice(world: Tabletop) -> None:
    policy = Policy.load(SHIPPED)
    first, second = (roll_out(world, policy, Scene("push_button", 200001)) for _ in range(2))
    assert first == second


def test_a_wrong_button_is_a_wrong_object(world: Tabletop) -> None:
    x, y = above(world, "push_button", BUTTONS[1])
    rollout = scripted(world, "push_button", [down(x, y, 0.12, CLOSED), down(x, y, 0.042, CLOSED)])
    assert (rollout.success, rollout.failure) == (False, "wrong object")


def test_closing_on_nothing_is_a_missed_grasp(world: Tabletop) -> None:
    rollout = scripted(world, "stack_pair", [down(0.3, 0.35, 0.2, OPEN), down(0.3, 0.35, 0.1, CLOSED)])
    assert rollout.failure == "missed grasp"


def test_goals_out_of_reach_cost_keyposes_and_move_nothing(world: Tabletop) -> None:
    rollout = scripted(world, "stack_pair", [Keypose(np.array([2.0, 0.0, 0.3]), down(0, 0, 0, OPEN).quat_wxyz, OPEN)])
    assert rollout.failure == "unreachable"
    assert "outside the workspace" in rollout.reason
    assert rollout.keyposes == world.task.max_keyposes
    assert world.data.time == 0.0


def test_spent_keyposes_are_a_timeout_and_two_holds_end_the_episode(world: Tabletop) -> None:
    hover = [down(0.4, 0.0, 0.3, OPEN), down(0.5, 0.0, 0.3, OPEN)]
    assert scripted(world, "stack_pair", hover).failure == "timeout"
    held = scripted(world, "stack_pair", hover, holds=True)
    assert (held.failure, held.keyposes) == ("held still", 2)


def test_a_shift_reaches_the_scene(world: Tabletop) -> None:
    assert Scene("push_button", 5, "paraphrases").lay_out(world) not in world.task.instructions()
