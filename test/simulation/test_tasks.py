"""What holds for every task: it is done when its sentence has been fulfilled, and by nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest
from scenes import extent, perform, performance, present
from suite import succeeds

from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.geometry.transform import pose_of
from minidiffuser_ros.simulation.shifts import SHIFTS
from minidiffuser_ros.simulation.tabletop import Tabletop
from minidiffuser_ros.simulation.tasks import TASKS, make_task
from minidiffuser_ros.simulation.tasks.base import FINGERTIP_BELOW_TOOL, OPEN, down

SEEDS = (100, 101, 102)
POLICIES = ("random", "hover")


def random_keyposes(world: Tabletop, rng: np.random.Generator) -> Iterator[Keypose]:
    """Anywhere in the workspace, the hand pointing down."""
    while True:
        x, y, z = rng.uniform(world.builder.spec.workspace_min, world.builder.spec.workspace_max)
        yield down(x, y, z, float(rng.integers(2)), rng.uniform(-np.pi / 2, np.pi / 2))


def hovering_keyposes(world: Tabletop, rng: np.random.Generator) -> Iterator[Keypose]:
    """Above one thing after the other, never lower than 3 cm above the highest."""
    corners = [extent(world.model, world.data, name) for name in present(world.model, world.data)]
    top = max(high[2] for _, high in corners) + FINGERTIP_BELOW_TOOL
    while True:
        low, high = corners[int(rng.integers(len(corners)))]
        x, y = rng.uniform(low[:2], high[:2])
        z = min(top + rng.uniform(0.03, 0.12), world.builder.spec.workspace_max[2])
        yield down(x, y, z, float(rng.integers(2)), rng.uniform(-np.pi / 2, np.pi / 2))


def play_without_thought(world: Tabletop, task: str, policy: str, seed: int) -> bool:
    """Whether a policy that knows nothing ever succeeds within the keyposes that an episode has."""
    world.reset(task, seed)
    make = random_keyposes if policy == "random" else hovering_keyposes
    keyposes = make(world, np.random.default_rng([seed, 1]))
    return succeeds(world, islice(keyposes, world.task.max_keyposes))


def test_a_task_is_found_by_its_name_and_keeps_some_variations_for_training(task: str) -> None:
    kind = TASKS[task]
    assert type(make_task(task)) is kind
    assert kind.name == task
    assert kind.held_out < set(range(kind.num_variations))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_expert_succeeds_within_the_keyposes_allowed_and_without_a_mistake(task: str, seed: int) -> None:
    played = performance(task, seed)
    assert played.done[-1]
    assert played.mistake == ""
    assert len(played.keyposes) <= TASKS[task].max_keyposes


def test_the_expert_succeeds_in_held_out_variations_and_whatever_the_scene_looks_like(task: str) -> None:
    held_out = sorted(TASKS[task].held_out)
    variation = held_out[0] if held_out else None
    assert performance(task, 200_000, variation, SHIFTS["looks"]).done[-1]


def test_what_the_expert_has_done_stays_done(world: Tabletop, task: str) -> None:
    world.reset(task, SEEDS[0])
    opening = OPEN
    for keypose in world.expert():
        world.execute(keypose)
        opening = keypose.opening
    perform(world, [Keypose(*pose_of(world.arm.tool_transform), opening)] * 4)
    assert world.success()


def test_nothing_is_done_before_the_expert_has_acted(task: str) -> None:
    for seed in SEEDS:
        assert not performance(task, seed).done[0]


def test_no_task_is_done_or_failed_right_after_its_reset(world: Tabletop, task: str) -> None:
    for seed in range(100):
        world.reset(task, seed)
        assert not world.success()
        assert world.mistake() == ""


def test_no_task_is_done_by_waiting(world: Tabletop, task: str) -> None:
    for seed in range(2):
        world.reset(task, seed)
        stay = Keypose(*pose_of(world.arm.tool_transform), OPEN)
        perform(world, [stay] * 4)
        assert not world.success()
        assert world.mistake() == ""


def test_a_new_reset_forgets_what_was_done(world: Tabletop, task: str) -> None:
    world.reset(task, SEEDS[0])
    perform(world, world.expert())
    assert world.success()
    world.reset(task, SEEDS[0])
    assert not world.success()


def test_the_keyposes_of_another_scene_do_not_succeed_but_by_chance(world: Tabletop, task: str) -> None:
    learned_by_heart = performance(task, SEEDS[0], variation=0).keyposes
    done = []
    for seed in (300, 301, 302):
        world.reset(task, seed, variation=TASKS[task].num_variations - 1)
        done.append(succeeds(world, learned_by_heart))
    assert sum(done) <= 1


@pytest.mark.parametrize("policy", POLICIES)
def test_who_knows_nothing_never_succeeds(world: Tabletop, task: str, policy: str) -> None:
    for seed in range(2):
        assert not play_without_thought(world, task, policy, seed), seed


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_who_knows_nothing_never_succeeds_in_ten_more_episodes(world: Tabletop, task: str) -> None:
    for seed in range(1000, 1010):
        assert not play_without_thought(world, task, POLICIES[seed % 2], seed), seed
