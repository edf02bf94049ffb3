"""A task is done when its sentence has been fulfilled, and by nothing else."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.geometry.transform import pose_of
from minidiffuser_ros.simulation.tabletop import Tabletop
from minidiffuser_ros.simulation.tasks import TASKS
from minidiffuser_ros.simulation.tasks.base import CLOSED, OPEN, down, place_block
from minidiffuser_ros.simulation.tasks.push_button import FINGERTIP_BELOW_TOOL
from minidiffuser_ros.simulation.world import BLOCK_HALF_SIZE, BODIES, BUTTON_CAP_TOP, PREFIX

RIGHT, WRONG, OTHER = BODIES.buttons
TOP, BOTTOM, DISTRACTOR = BODIES.blocks[:3]


def perform(world: Tabletop, keyposes: list[Keypose]) -> None:
    for keypose in keyposes:
        world.execute(keypose)


def press(world: Tabletop, button: str, depth: float = 0.012) -> None:
    """Press a button by `depth` metres with closed fingers and go up again."""
    x, y, _ = world.data.body(button).xpos
    rest = BUTTON_CAP_TOP + FINGERTIP_BELOW_TOOL
    perform(world, [down(x, y, rest + height, CLOSED) for height in (0.07, -depth, 0.07)])


def yaw_of(world: Tabletop, block: str) -> float:
    """Yaw of a freshly laid out block; it is at most 30 degrees."""
    w, _, _, z = world.data.body(block).xquat
    return float(2.0 * np.arctan2(z, w))


def carry(world: Tabletop, block: str, target: str, sideways: float = 0.0, opening: float = OPEN) -> None:
    """Put one block on another, or as far beside it as said, and set the gripper to `opening` there."""
    (x, y, z), yaw = world.data.body(block).xpos.copy(), yaw_of(world, block)
    (u, v, w), turn = world.data.body(target).xpos.copy(), yaw_of(world, target)
    u, v = u - sideways * np.sin(turn), v + sideways * np.cos(turn)
    height = w + 2 * BLOCK_HALF_SIZE + 0.003
    perform(world, [
        down(x, y, z + 0.1, OPEN, yaw), down(x, y, z, CLOSED, yaw), down(x, y, z + 0.14, CLOSED, yaw),
        down(u, v, height + 0.06, CLOSED, turn), down(u, v, height, opening, turn),
    ])  # fmt: skip
    if opening == OPEN:
        world.execute(down(u, v, height + 0.1, OPEN, turn))


def height_of(world: Tabletop, block: str) -> float:
    return float(world.data.body(block).xpos[2])


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("seed", [100, 101, 102, 103, 104])
def test_the_expert_succeeds_within_the_keyposes_allowed(world: Tabletop, task: str, seed: int) -> None:
    world.reset(task, seed)
    keyposes = world.expert()
    assert len(keyposes) <= world.task.max_keyposes
    perform(world, keyposes)
    assert world.success()


@pytest.mark.parametrize("task", TASKS)
def test_no_task_is_done_right_after_its_reset(world: Tabletop, task: str) -> None:
    for seed in range(200):
        world.reset(task, seed)
        assert not world.success()


@pytest.mark.parametrize("task", TASKS)
def test_no_task_is_done_by_waiting(world: Tabletop, task: str) -> None:
    for seed in range(4):
        world.reset(task, seed)
        stay = Keypose(*pose_of(world.arm.tool_transform), OPEN)
        perform(world, [stay] * 4)
        assert not world.success()


@pytest.mark.parametrize("task", TASKS)
def test_a_new_reset_forgets_a_success(world: Tabletop, task: str) -> None:
    world.reset(task, 100)
    perform(world, world.expert())
    assert world.success()
    world.reset(task, 100)
    assert not world.success()


@pytest.mark.parametrize("task", TASKS)
def test_the_keyposes_of_another_scene_do_not_succeed(world: Tabletop, task: str) -> None:
    world.reset(task, 100, variation=0)
    other = world.expert()
    world.reset(task, 101, variation=1)
    perform(world, other)
    assert not world.success()


@pytest.mark.parametrize("task", TASKS)
def test_nothing_is_done_before_the_expert_has_acted(world: Tabletop, task: str) -> None:
    world.reset(task, 100)
    world.execute(world.expert()[0])  # above the object
    assert not world.success()


def test_pressing_the_right_button_is_enough(world: Tabletop) -> None:
    world.reset("push_button", 200)
    press(world, RIGHT)
    assert world.success()


@pytest.mark.parametrize("button", [WRONG, OTHER])
def test_pressing_a_wrong_button_does_not_count(world: Tabletop, button: str) -> None:
    world.reset("push_button", 200)
    press(world, button)
    assert world.data.time > 0.5
    assert not world.success()


def test_a_wrong_button_cannot_be_made_good(world: Tabletop) -> None:
    world.reset("push_button", 200)
    press(world, WRONG)
    press(world, RIGHT)
    assert not world.success()


def test_a_wrong_button_afterwards_undoes_the_success(world: Tabletop) -> None:
    world.reset("push_button", 200)
    press(world, RIGHT)
    assert world.success()
    press(world, OTHER)
    assert not world.success()


def test_a_button_counts_as_pressed_from_eight_millimetres_on(world: Tabletop) -> None:
    world.reset("push_button", 200)
    outcomes = []
    for depth in (0.0, 0.004, 0.007, 0.0095):
        press(world, RIGHT, depth)
        outcomes.append(world.success())
    assert outcomes == [False, False, False, True]


def test_a_button_springs_back(world: Tabletop) -> None:
    world.reset("push_button", 200)
    press(world, RIGHT)
    assert world.data.joint(f"{RIGHT}_slide").qpos[0] > -0.001


def test_stacking_by_hand_counts_as_the_experts_does(world: Tabletop) -> None:
    world.reset("stack_blocks", 200)
    carry(world, TOP, BOTTOM)
    assert world.success()


@pytest.mark.parametrize(
    ("block", "target"),
    [(TOP, DISTRACTOR), (DISTRACTOR, BOTTOM), (BOTTOM, TOP), (DISTRACTOR, TOP), (BOTTOM, DISTRACTOR)],
)
def test_any_other_stack_does_not_count(world: Tabletop, block: str, target: str) -> None:
    world.reset("stack_blocks", 200)
    carry(world, block, target)
    assert height_of(world, block) == pytest.approx(3 * BLOCK_HALF_SIZE, abs=0.003)
    assert not world.success()


def test_a_block_on_the_table_beside_the_other_does_not_count(world: Tabletop) -> None:
    world.reset("stack_blocks", 200)
    carry(world, TOP, BOTTOM, sideways=0.06)
    assert height_of(world, TOP) < 2.5 * BLOCK_HALF_SIZE
    assert not world.success()


def test_a_block_still_in_the_gripper_does_not_count(world: Tabletop) -> None:
    world.reset("stack_blocks", 200)
    carry(world, TOP, BOTTOM, opening=CLOSED)
    assert height_of(world, TOP) > 2.5 * BLOCK_HALF_SIZE
    assert not world.success()


def test_a_stack_taken_apart_again_does_not_count(world: Tabletop) -> None:
    world.reset("stack_blocks", 200)
    carry(world, TOP, BOTTOM)
    assert world.success()
    (u, v, w), turn = world.data.body(TOP).xpos.copy(), yaw_of(world, BOTTOM)
    perform(world, [down(u, v, w, CLOSED, turn), down(u, v, w + 0.1, CLOSED, turn)])
    assert not world.success()


def test_random_grasps_and_drops_do_not_stack_by_chance(world: Tabletop) -> None:
    for seed in range(6):
        world.reset("stack_blocks", seed)
        rng = np.random.default_rng(seed)
        for index in range(world.task.max_keyposes):
            x, y, z = rng.uniform([0.38, -0.24, 0.03], [0.62, 0.24, 0.10])
            world.execute(down(x, y, z, float(index % 2), rng.uniform(-0.5, 0.5)))
            assert not world.success()


def set_up_stack(world: Tabletop, offset: tuple[float, float, float] = (0.0, 0.0, 0.0), raised: float = 0.0) -> None:
    """Put the two blocks at once where a finished stack has them, but for an error of the upper one."""
    world.reset("stack_blocks", 200)
    x, y, _ = world.data.body(BOTTOM).xpos.copy()
    base = np.array([x, y, BLOCK_HALF_SIZE + raised])
    place_block(world.model, world.data, BOTTOM, base, 0.0)
    above = np.array([0.0, 0.0, 2 * BLOCK_HALF_SIZE])
    place_block(world.model, world.data, TOP, base + above + np.array(offset), 0.0)
    mujoco.mj_forward(world.model, world.data)


@pytest.mark.parametrize(
    ("offset", "done"),
    [
        ((0.0, 0.0, 0.0), True),
        ((0.019, 0.0, 0.0), True),
        ((0.021, 0.0, 0.0), False),
        ((0.0, -0.021, 0.0), False),
        ((0.015, 0.015, 0.0), False),
        ((0.0, 0.0, 0.004), True),
        ((0.0, 0.0, 0.006), False),
        ((0.0, 0.0, -0.006), False),
    ],
)
def test_a_stack_counts_within_two_centimetres_sideways_and_five_millimetres_in_height(
    world: Tabletop, offset: tuple[float, float, float], done: bool
) -> None:
    set_up_stack(world, offset)
    assert world.success() is done


def test_a_stack_in_the_air_does_not_count(world: Tabletop) -> None:
    set_up_stack(world, raised=0.01)
    assert not world.success()


@pytest.mark.parametrize("component", range(6))
def test_a_block_that_still_moves_does_not_count(world: Tabletop, component: int) -> None:
    set_up_stack(world)
    assert world.success()
    world.data.joint(f"{TOP}_free").qvel[component] = -0.1
    assert not world.success()


def test_a_stack_counts_only_with_the_gripper_open_wider_than_a_block(world: Tabletop) -> None:
    set_up_stack(world)
    for finger in (1, 2):
        world.data.joint(f"{PREFIX}finger_joint{finger}").qpos[0] = BLOCK_HALF_SIZE
    assert not world.success()
