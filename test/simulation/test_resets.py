"""A seed says everything about a scene: what lies where, and what the cameras see of it."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
from scenes import digest, extent, perform, places, present, same_observation, same_views, state

from minidiffuser_ros.arm.kinematics import HOME_JOINTS
from minidiffuser_ros.contract.errors import UnknownTaskError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.geometry.transform import pose_of
from minidiffuser_ros.simulation import tabletop
from minidiffuser_ros.simulation.shifts import SHIFTS
from minidiffuser_ros.simulation.tabletop import Tabletop
from minidiffuser_ros.simulation.tasks import TASKS, make_task
from minidiffuser_ros.simulation.world import PREFIX

SEED = 7
ELSEWHERE = f"""
import json, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from scenes import digest
from minidiffuser_ros.simulation.tabletop import Tabletop
world = Tabletop()
print(json.dumps({{task: digest(world, task, {SEED}) for task in reversed(sys.argv[1:])}}))
"""


def test_the_same_seed_gives_the_same_bytes_whatever_was_played_before(world: Tabletop, task: str) -> None:
    before = digest(world, task, SEED)
    observation = world.observe()
    for other, seed in ((task, SEED + 1), (task, SEED + 2), (next(iter(TASKS)), SEED)):
        world.reset(other, seed, shift=SHIFTS["looks"])
        world.views()
        world.execute(next(world.expert()))
    assert digest(world, task, SEED) == before
    same_observation(world.observe(), observation)


def test_the_same_seeds_give_the_same_bytes_in_another_process_and_another_order(world: Tabletop) -> None:
    command = [sys.executable, "-c", ELSEWHERE, *TASKS]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout.splitlines()[-1]) == {task: digest(world, task, SEED) for task in TASKS}


def test_the_same_seed_and_keyposes_end_the_same_bit_for_bit(world: Tabletop, task: str) -> None:
    endings = []
    for _ in range(2):
        world.reset(task, 3)
        perform(world, islice(world.expert(), 3))
        endings.append(state(world))
    np.testing.assert_array_equal(endings[0], endings[1])


def test_a_whole_performance_looks_the_same_twice(world: Tabletop) -> None:
    endings = []
    for _ in range(2):
        world.reset("stack_pair", 3)
        perform(world, world.expert())
        endings.append((world.views(), world.observe()))
    same_views(endings[0][0], endings[1][0])
    same_observation(endings[0][1], endings[1][1])


def test_a_second_world_sees_the_same_and_leaves_the_first_one_alone(world: Tabletop) -> None:
    world.reset("push_button", 5)
    views = world.views()
    second = Tabletop()
    second.reset("push_button", 5)
    same_views(second.views(), views)
    second.reset("stack_pair", 6)
    second.views()
    same_views(world.views(), views)
    second.close()
    second.close()
    same_views(world.views(), views)


def test_more_tasks_than_are_kept_compiled_can_be_played_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tabletop, "MAX_SCENES", 1)
    world = Tabletop()
    first = [digest(world, task, SEED) for task in ("push_button", "stack_pair")]
    perform(world, world.expert())
    assert world.success()
    assert [digest(world, task, SEED) for task in ("push_button", "stack_pair")] == first
    world.close()


def test_different_seeds_lay_out_different_scenes(world: Tabletop, task: str) -> None:
    layouts = []
    for seed in range(20):
        world.reset(task, seed, variation=0)
        layouts.append({name: world.stage.transform(name) for name in present(world.model, world.data)})
    for first, second in pairwise(layouts):
        moved = [np.abs(first[name] - second[name]).max() for name in first.keys() & second.keys()]
        assert max(moved, default=1.0) > 1e-3


def test_different_seeds_look_different(world: Tabletop, task: str) -> None:
    clouds = []
    for seed in range(2):
        world.reset(task, seed)
        clouds.append(world.observe().points)
    assert clouds[0].shape != clouds[1].shape or not np.array_equal(clouds[0], clouds[1])


def test_everything_laid_out_reaches_into_the_workspace_and_stands_on_the_table(world: Tabletop, task: str) -> None:
    spec = world.builder.spec
    for seed in range(20):
        world.reset(task, seed)
        names = present(world.model, world.data)
        assert names
        for name in names:
            low, high = extent(world.model, world.data, name)
            assert (low < spec.workspace_max).all(), name
            assert (high > spec.workspace_min).all(), name
            assert low[2] > -0.002, name


def test_nothing_laid_out_overlaps_anything(world: Tabletop, task: str) -> None:
    for seed in range(20):
        world.reset(task, seed)
        bodies = {world.model.body(name).id for name in present(world.model, world.data)}
        for contact in world.data.contact[: world.data.ncon]:
            roots = [world.model.body_rootid[world.model.geom_bodyid[geom]] for geom in contact.geom]
            names = [world.model.body(root).name for root in roots]
            assert contact.dist > -1e-3 or not bodies & set(roots), names
            assert not any(name.startswith(PREFIX) for name in names) or not bodies & set(roots), names


def test_the_scene_is_at_rest_when_it_is_laid_out(world: Tabletop, task: str) -> None:
    for seed in range(3):
        world.reset(task, seed)
        before = places(world)
        stay = Keypose(*pose_of(world.arm.tool_transform), 1.0)
        while world.data.time < 0.5:
            world.execute(stay)
        np.testing.assert_allclose(places(world), before, atol=2e-3)


def test_a_reset_puts_the_arm_home_at_rest_with_its_gripper_open(world: Tabletop, task: str) -> None:
    world.reset(task, 0)
    world.execute(next(world.expert()))
    world.reset(task, 1)
    np.testing.assert_array_equal(world.arm.joint_positions, HOME_JOINTS)
    assert world.arm.opening == pytest.approx(1.0)
    assert world.data.time == 0.0
    assert not world.data.qvel.any()


def test_a_variation_asked_for_is_played_and_a_negative_one_is_drawn(world: Tabletop, task: str) -> None:
    for variation in range(TASKS[task].num_variations):
        world.reset(task, 11, variation)
        assert world.task.variation == variation
    world.reset(task, 11)
    drawn, scene = world.task.variation, state(world)
    for asked in (-1, drawn):
        world.reset(task, 11, asked)
        assert world.task.variation == drawn
        np.testing.assert_array_equal(state(world), scene)


@pytest.mark.parametrize("variation", [None, 99])
def test_a_reset_that_is_refused_changes_nothing(world: Tabletop, variation: int | None) -> None:
    sentence = world.reset("push_button", 2)
    before = state(world)
    wanted = "fold_laundry" if variation is None else "stack_pair"
    with pytest.raises(UnknownTaskError):
        world.reset(wanted, 0, variation)
    np.testing.assert_array_equal(state(world), before)
    assert world.task.instruction() == sentence
    assert not world.success()


def test_an_unknown_task_is_refused_with_the_ones_there_are() -> None:
    with pytest.raises(UnknownTaskError, match=f"no task 'fold_laundry'; choose one of {', '.join(sorted(TASKS))}"):
        make_task("fold_laundry")


def test_an_unknown_variation_is_refused_with_the_range(task: str) -> None:
    count = TASKS[task].num_variations
    with pytest.raises(UnknownTaskError, match=rf"'{task}' has variations 0 to {count - 1}, got {count}"):
        make_task(task).check_variation(count)
