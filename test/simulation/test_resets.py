"""A seed says everything about a scene: what lies where, and what the cameras see of it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from minidiffuser_ros.arm.kinematics import HOME_JOINTS
from minidiffuser_ros.contract.errors import UnknownTaskError
from minidiffuser_ros.contract.observation import Observation
from minidiffuser_ros.perception.builder import CameraView
from minidiffuser_ros.simulation.tabletop import Tabletop
from minidiffuser_ros.simulation.tasks import TASKS, make_task
from minidiffuser_ros.simulation.world import BODIES

OBJECTS = BODIES.buttons + BODIES.blocks
USED = {"push_button": BODIES.buttons, "stack_blocks": BODIES.blocks}


def places(world: Tabletop) -> np.ndarray:
    """Position of every object [N, 3]."""
    return np.array([world.data.body(name).xpos for name in OBJECTS])


def on_table(world: Tabletop) -> list[str]:
    """The objects inside the workspace."""
    low, high = np.array(world.builder.spec.workspace_min) - 1e-9, np.array(world.builder.spec.workspace_max)
    return [name for name in OBJECTS if ((p := world.data.body(name).xpos) >= low).all() and (p <= high).all()]


def same_observation(first: Observation, second: Observation) -> None:
    for name in ("points", "colors", "tool_position", "tool_quat_wxyz", "joint_positions"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)
    assert (first.opening, first.stamp_ns, first.spec) == (second.opening, second.stamp_ns, second.spec)


def same_views(first: list[CameraView], second: list[CameraView]) -> None:
    for mine, theirs in zip(first, second, strict=True):
        np.testing.assert_array_equal(mine.color, theirs.color)
        np.testing.assert_array_equal(mine.depth, theirs.depth)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("seed", [0, 7])
def test_the_same_seed_gives_the_same_observation_bit_for_bit_whatever_was_played_before(
    world: Tabletop, task: str, seed: int
) -> None:
    sentence = world.reset(task, seed)
    views, observation = world.views(), world.observe()
    for other in TASKS:
        world.reset(other, seed + 1)
        for keypose in world.expert()[:3]:
            world.execute(keypose)
    assert world.reset(task, seed) == sentence
    same_views(world.views(), views)
    same_observation(world.observe(), observation)


def test_the_same_seed_and_keyposes_end_the_same_bit_for_bit(world: Tabletop) -> None:
    endings = []
    for _ in range(2):
        world.reset("stack_blocks", 3)
        for keypose in world.expert():
            world.execute(keypose)
        endings.append((np.array(world.data.qpos), world.observe()))
    np.testing.assert_array_equal(endings[0][0], endings[1][0])
    same_observation(endings[0][1], endings[1][1])


def test_a_second_world_sees_the_same_and_leaves_the_first_one_alone(world: Tabletop) -> None:
    world.reset("push_button", 5)
    views = world.views()
    second = Tabletop()
    second.reset("push_button", 5)
    same_views(second.views(), views)
    second.reset("stack_blocks", 6)
    second.views()
    same_views(world.views(), views)
    second.close()
    second.close()
    same_views(world.views(), views)


@pytest.mark.parametrize("task", TASKS)
def test_different_seeds_put_every_object_elsewhere(world: Tabletop, task: str) -> None:
    layouts = []
    for seed in range(30):
        world.reset(task, seed, variation=0)
        layouts.append({name: world.data.body(name).xpos[:2].copy() for name in USED[task][:3]})
    for first, second in pairwise(layouts):
        for name in USED[task][:3]:
            assert np.linalg.norm(first[name] - second[name]) > 1e-3
    spread = np.ptp([layout[name] for layout in layouts for name in layout], axis=0)
    assert (spread > [0.2, 0.4]).all()


@pytest.mark.parametrize("task", TASKS)
def test_different_seeds_look_different(world: Tabletop, task: str) -> None:
    clouds = []
    for seed in range(3):
        world.reset(task, seed)
        clouds.append(world.observe().points)
    for first, second in pairwise(clouds):
        assert first.shape != second.shape or not np.array_equal(first, second)


@pytest.mark.parametrize("task", TASKS)
def test_only_the_objects_of_the_task_are_on_the_table_and_none_touch(world: Tabletop, task: str) -> None:
    for seed in range(60):
        world.reset(task, seed)
        present = on_table(world)
        assert set(present) <= set(USED[task])
        assert len(present) >= 3
        spots = np.array([world.data.body(name).xpos[:2] for name in present])
        gaps = np.linalg.norm(spots[:, None] - spots[None], axis=-1) + np.eye(len(spots))
        assert gaps.min() > 0.11  # two blocks side by side take 6.2 cm along their diagonals


def test_the_number_of_distractors_varies(world: Tabletop) -> None:
    counts = set()
    for seed in range(20):
        world.reset("stack_blocks", seed)
        counts.add(len(on_table(world)))
    assert counts == {3, 4}


@pytest.mark.parametrize("task", TASKS)
def test_the_scene_is_at_rest_when_it_is_laid_out(world: Tabletop, task: str) -> None:
    for seed in range(3):
        world.reset(task, seed)
        before = places(world)
        tool = world.arm.tool_transform
        world.execute(world.expert()[0])
        assert not np.allclose(world.arm.tool_transform, tool, atol=0.01)
        np.testing.assert_allclose(places(world), before, atol=1e-3)


def test_a_reset_puts_the_arm_home_at_rest_with_its_gripper_open(world: Tabletop) -> None:
    world.reset("push_button", 0)
    world.execute(world.expert()[0])
    assert world.arm.opening < 0.1
    world.reset("push_button", 1)
    np.testing.assert_array_equal(world.arm.joint_positions, HOME_JOINTS)
    assert world.arm.opening == pytest.approx(1.0)
    assert not world.data.qvel.any()


@pytest.mark.parametrize("task", TASKS)
def test_a_variation_asked_for_is_played_and_a_negative_one_is_drawn(world: Tabletop, task: str) -> None:
    for variation in range(TASKS[task].num_variations):
        world.reset(task, 11, variation)
        assert world.task.variation == variation
    world.reset(task, 11)
    drawn = world.task.variation
    world.reset(task, 11, -1)
    assert world.task.variation == drawn


def test_an_unknown_task_is_refused_with_the_ones_there_are_and_changes_nothing(world: Tabletop) -> None:
    sentence = world.reset("push_button", 2)
    before = places(world)
    with pytest.raises(UnknownTaskError, match=r"no task 'pour_water'; choose one of push_button, stack_blocks"):
        world.reset("pour_water", 0)
    np.testing.assert_array_equal(places(world), before)
    assert world.task.instruction() == sentence
    assert not world.success()


@pytest.mark.parametrize("task", TASKS)
def test_an_unknown_variation_is_refused_with_the_range(world: Tabletop, task: str) -> None:
    count = TASKS[task].num_variations
    with pytest.raises(UnknownTaskError, match=rf"'{task}' has variations 0 to {count - 1}, got {count}"):
        make_task(task).reset(world.model, world.data, 0, count)
