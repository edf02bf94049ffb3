"""`stack_pair`: one block rests on the other that the sentence names, released and still."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scenes import perform, present

from minidiffuser_ros.simulation.shifts import SHIFTS
from minidiffuser_ros.simulation.tabletop import Tabletop
from minidiffuser_ros.simulation.tasks.base import CLOSED, OPEN, down
from minidiffuser_ros.simulation.tasks.objects import BLOCK_HALF_SIZE
from minidiffuser_ros.simulation.tasks.stack_pair import BLOCKS, COLORS, StackPair
from minidiffuser_ros.simulation.world import PREFIX

TASK = StackPair.name
TOP, BOTTOM, DISTRACTOR = BLOCKS[:3]


def carry(world: Tabletop, block: str, target: str, sideways: float = 0.0, opening: float = OPEN) -> None:
    """Put one block on another, or as far beside it as said, and set the gripper to `opening` there."""
    (x, y, z), yaw = world.stage.position(block), world.stage.yaw(block)
    (u, v, w), turn = world.stage.position(target), world.stage.yaw(target)
    u, v = u - sideways * np.sin(turn), v + sideways * np.cos(turn)
    height = w + 2 * BLOCK_HALF_SIZE + 0.003
    perform(world, [
        down(x, y, z + 0.1, OPEN, yaw), down(x, y, z, CLOSED, yaw), down(x, y, z + 0.14, CLOSED, yaw),
        down(u, v, height + 0.06, CLOSED, turn), down(u, v, height, opening, turn),
    ])  # fmt: skip
    if opening == OPEN:
        world.execute(down(u, v, height + 0.1, OPEN, turn))


def height_of(world: Tabletop, block: str) -> float:
    return float(world.stage.position(block)[2])


def named(sentence: str) -> list[str]:
    """The colours in a sentence, in the order of the words."""
    return [word for word in re.findall(r"[a-z]+", sentence) if word in COLORS]


def laid_out(world: Tabletop) -> dict[str, str]:
    """The colour of every block on the table."""
    return {name: world.stage.color_of(name) for name in present(world.model, world.data)}


@pytest.mark.parametrize("variation", range(StackPair.num_variations))
def test_every_sentence_says_which_block_goes_on_which(world: Tabletop, variation: int) -> None:
    for seed in range(5):
        world.reset(TASK, seed, variation)
        top, bottom = (world.stage.color_of(name) for name in (TOP, BOTTOM))
        for sentence in (*world.task.instructions(), *world.task.held_out_instructions()):
            # The block to be moved is named first, unless the sentence says which one is below.
            assert named(sentence) == ([bottom, top] if "below" in sentence else [top, bottom]), sentence


def test_three_or_four_blocks_of_different_colours_lie_apart_and_anywhere(world: Tabletop) -> None:
    spots, counts = [], set()
    for seed in range(40):
        world.reset(TASK, seed)
        blocks = laid_out(world)
        counts.add(len(blocks))
        assert len(set(blocks.values())) == len(blocks)
        spots += [world.stage.position(name)[:2] for name in blocks]
        now = np.array(spots[-len(blocks) :])
        gaps = np.linalg.norm(now[:, None] - now[None], axis=-1) + np.eye(len(now))
        assert gaps.min() > 0.11  # two blocks side by side take 6.2 cm along their diagonals
    assert counts == {3, 4}
    assert (np.ptp(spots, axis=0) > [0.2, 0.4]).all()


def test_every_colour_is_also_a_distractor(world: Tabletop) -> None:
    # Else a policy could know what to do from the picture alone.
    distractors = set()
    for seed in range(60):
        world.reset(TASK, seed)
        distractors |= {color for name, color in laid_out(world).items() if name not in (TOP, BOTTOM)}
    assert distractors == set(COLORS)


def test_stacking_by_hand_counts_as_the_experts_does(world: Tabletop) -> None:
    world.reset(TASK, 200)
    carry(world, TOP, BOTTOM)
    assert world.success()


@pytest.mark.parametrize(
    ("block", "target"),
    [(TOP, DISTRACTOR), (DISTRACTOR, BOTTOM), (BOTTOM, TOP), (DISTRACTOR, TOP), (BOTTOM, DISTRACTOR)],
)
def test_any_other_stack_does_not_count(world: Tabletop, block: str, target: str) -> None:
    world.reset(TASK, 200)
    carry(world, block, target)
    assert height_of(world, block) == pytest.approx(3 * BLOCK_HALF_SIZE, abs=0.003)
    assert not world.success()


@pytest.mark.parametrize(("block", "mistake"), [(TOP, ""), (BOTTOM, "wrong object"), (DISTRACTOR, "wrong object")])
def test_to_lift_any_other_block_is_a_mistake(world: Tabletop, block: str, mistake: str) -> None:
    world.reset(TASK, 200)
    (x, y, z), yaw = world.stage.position(block), world.stage.yaw(block)
    perform(world, [down(x, y, z + 0.1, OPEN, yaw), down(x, y, z, CLOSED, yaw)])
    assert world.mistake() == ""
    world.execute(down(x, y, z + 0.1, CLOSED, yaw))
    assert world.mistake() == mistake


def test_a_block_on_the_table_beside_the_other_does_not_count(world: Tabletop) -> None:
    world.reset(TASK, 200)
    carry(world, TOP, BOTTOM, sideways=0.06)
    assert height_of(world, TOP) < 2.5 * BLOCK_HALF_SIZE
    assert not world.success()


def test_a_block_still_in_the_gripper_does_not_count(world: Tabletop) -> None:
    world.reset(TASK, 200)
    carry(world, TOP, BOTTOM, opening=CLOSED)
    assert height_of(world, TOP) > 2.5 * BLOCK_HALF_SIZE
    assert not world.success()


def test_a_stack_taken_apart_again_does_not_count(world: Tabletop) -> None:
    world.reset(TASK, 200)
    carry(world, TOP, BOTTOM)
    assert world.success()
    (u, v, w), turn = world.stage.position(TOP), world.stage.yaw(BOTTOM)
    perform(world, [down(u, v, w, CLOSED, turn), down(u, v, w + 0.1, CLOSED, turn)])
    assert not world.success()


def test_random_grasps_and_drops_do_not_stack_by_chance(world: Tabletop) -> None:
    for seed in range(3):
        world.reset(TASK, seed)
        rng = np.random.default_rng(seed)
        for index in range(world.task.max_keyposes):
            x, y, z = rng.uniform([0.38, -0.24, 0.03], [0.62, 0.24, 0.10])
            world.execute(down(x, y, z, float(index % 2), rng.uniform(-0.5, 0.5)))
            assert not world.success()


def set_up_stack(world: Tabletop, offset: tuple[float, float, float] = (0.0, 0.0, 0.0), raised: float = 0.0) -> None:
    """Put the two blocks at once where a finished stack has them, but for an error of the upper one."""
    world.reset(TASK, 200)
    x, y, _ = world.stage.position(BOTTOM)
    base = np.array([x, y, BLOCK_HALF_SIZE + raised])
    world.stage.place(BOTTOM, base)
    above = np.array([0.0, 0.0, 2 * BLOCK_HALF_SIZE])
    world.stage.place(TOP, base + above + np.array(offset))
    world.stage.settle()


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


def test_of_two_blocks_of_the_named_colour_either_one_may_be_stacked(world: Tabletop) -> None:
    for block in (TOP, DISTRACTOR):
        world.reset(TASK, 3, shift=SHIFTS["doubles"])
        carry(world, block, BOTTOM)
        assert (world.success(), world.mistake()) == (True, ""), block
