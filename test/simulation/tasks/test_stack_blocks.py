"""Just so many blocks of the colour, one upon the other on the board, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from minidiffuser_ros.simulation.tabletop import Tabletop
from minidiffuser_ros.simulation.tasks.stack_blocks import (
    BOARD,
    BOARD_HEIGHT,
    HALF_SIZE,
    OTHERS,
    RELEASED_WIDTH,
    TARGETS,
    VARIATIONS,
    StackBlocks,
)
from minidiffuser_ros.simulation.world import PREFIX

THREE = VARIATIONS.index(("blue", 3))


def set_up(world: Tabletop, blocks: tuple[str, ...], shift: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> None:
    """Put these blocks on the board at once, one upon the other, the topmost one with an error."""
    world.reset("stack_blocks", 200, THREE)
    x, y, _ = world.stage.position(BOARD)
    for level, name in enumerate(blocks):
        error = np.array(shift) * (name == blocks[-1])
        world.stage.place(name, np.array([x, y, BOARD_HEIGHT + (2 * level + 1) * HALF_SIZE]) + error)
    world.stage.settle()


@pytest.mark.parametrize(
    ("blocks", "done"),
    [
        (TARGETS[:3], True),
        (TARGETS[1:], True),
        (TARGETS[:2], False),
        (TARGETS, False),
        ((*TARGETS[:2], OTHERS[0]), False),
        ((*TARGETS[:3], OTHERS[0]), False),
        ((), False),
    ],
)
def test_neither_fewer_nor_more_nor_other_blocks_count(world: Tabletop, blocks: tuple[str, ...], done: bool) -> None:
    set_up(world, blocks)
    assert world.success() is done
    assert world.mistake() == ("wrong object" if OTHERS[0] in blocks else "")


@pytest.mark.parametrize(
    ("shift", "done"),
    [
        ((0.019, 0.0, 0.0), True),
        ((0.021, 0.0, 0.0), False),
        ((0.015, -0.015, 0.0), False),
        ((0.0, 0.0, 0.004), True),
        ((0.0, 0.0, 0.006), False),
    ],
)
def test_a_block_counts_within_two_centimetres_sideways_and_five_millimetres_in_height(
    world: Tabletop, shift: tuple[float, float, float], done: bool
) -> None:
    set_up(world, TARGETS[:3], shift)
    assert world.success() is done


def test_blocks_side_by_side_on_the_board_are_no_tower(world: Tabletop) -> None:
    set_up(world, TARGETS[:2])
    x, y, _ = world.stage.position(BOARD)
    world.stage.place(TARGETS[2], (x, y + 0.045, BOARD_HEIGHT + HALF_SIZE))
    world.stage.settle()
    assert not world.success()


def test_a_tower_beside_the_board_does_not_count(world: Tabletop) -> None:
    set_up(world, TARGETS[:3])
    x, y, _ = world.stage.position(BOARD)
    world.stage.place(BOARD, (x, y - 0.12 * np.sign(y), 0.0))
    world.stage.settle()
    assert not world.success()


def test_a_tower_counts_only_at_rest_and_with_the_gripper_open(world: Tabletop) -> None:
    set_up(world, TARGETS[:3])
    assert world.success()
    world.data.joint(f"{TARGETS[2]}_free").qvel[0] = 0.1
    assert not world.success()
    set_up(world, TARGETS[:3])
    for finger in (1, 2):
        world.data.joint(f"{PREFIX}finger_joint{finger}").qpos[0] = 0.5 * RELEASED_WIDTH - 0.001
    assert not world.success()


def test_the_tower_that_the_expert_leaves_stands(world: Tabletop) -> None:
    world.reset("stack_blocks", 200, VARIATIONS.index(("red", 4)))
    for keypose in world.expert():
        assert not world.success()
        world.execute(keypose)
    top = max(world.stage.position(name)[2] for name in TARGETS)
    assert top == pytest.approx(BOARD_HEIGHT + 7 * HALF_SIZE, abs=0.003)
    world.execute(keypose)
    assert world.success()


def test_every_colour_and_every_height_is_seen_in_training() -> None:
    seen = [VARIATIONS[v] for v in range(len(VARIATIONS)) if v not in StackBlocks.held_out]
    for color in {color for color, _ in VARIATIONS}:
        assert sum(color == other for other, _ in seen) >= 2
    for count in (2, 3, 4):
        assert sum(count == other for _, other in seen) >= 8
