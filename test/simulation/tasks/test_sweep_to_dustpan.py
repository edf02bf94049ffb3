"""Sweeping counts where all the dirt lies in the dustpan of the named size."""

from __future__ import annotations

import numpy as np
import pytest

from minidiffuser_ros.geometry.transform import apply
from minidiffuser_ros.simulation.tabletop import Tabletop
from minidiffuser_ros.simulation.tasks.sweep_to_dustpan import (
    BROOM,
    DEPTH,
    DIRT,
    DIRT_HALF_SIZE,
    HALF_WIDTH,
    PANS,
    SIZES,
    WALL_HEIGHTS,
)

TASK = "sweep_to_dustpan"


def put(world: Tabletop, names: tuple[str, ...], size: str, depth: float = 0.5 * DEPTH) -> None:
    """Put dirt side by side into a dustpan, so many metres behind its mouth."""
    for index, name in enumerate(names):
        place = np.array([[depth, 0.02 * index - 0.03, DIRT_HALF_SIZE]])
        world.stage.place(name, apply(world.stage.transform(PANS[size]), place)[0])
    world.stage.settle()


@pytest.mark.parametrize("variation", range(len(SIZES)))
@pytest.mark.parametrize(("depth", "done"), [(0.002, True), (-0.002, False)])
def test_dirt_counts_behind_the_mouth_of_the_named_dustpan(
    world: Tabletop, variation: int, depth: float, done: bool
) -> None:
    world.reset(TASK, 3, variation)
    put(world, DIRT, SIZES[variation], depth)
    assert world.success() == done


@pytest.mark.parametrize("variation", range(len(SIZES)))
def test_the_other_dustpan_is_a_wrong_object(world: Tabletop, variation: int) -> None:
    world.reset(TASK, 3, variation)
    put(world, DIRT, SIZES[1 - variation])
    assert not world.success()
    assert world.mistake() == "wrong object"


def test_one_piece_left_on_the_table_is_not_done(world: Tabletop) -> None:
    world.reset(TASK, 3)
    put(world, DIRT[1:], SIZES[world.task.variation])
    assert not world.success()


def test_the_dirt_lies_between_the_mouths_and_the_broom_stands_apart(world: Tabletop) -> None:
    for seed in range(20):
        world.reset(TASK, seed)
        dirt = np.mean([world.stage.position(name) for name in DIRT], axis=0)
        for size in SIZES:
            pan = world.stage.transform(PANS[size])
            assert -0.13 < (dirt - pan[:3, 3]) @ pan[:3, 0] < -0.06
            assert np.linalg.norm(world.stage.position(BROOM) - pan[:3, 3]) > HALF_WIDTH + 0.03


def test_the_tall_dustpan_is_much_taller() -> None:
    assert WALL_HEIGHTS["tall"] > 2 * WALL_HEIGHTS["short"]


def test_the_expert_sweeps_with_the_broom_in_the_hand(world: Tabletop) -> None:
    world.reset(TASK, 4)
    for keypose in world.expert():
        world.execute(keypose)
    assert world.success()
    assert world.stage.held(BROOM)
    assert world.stage.tilt(BROOM) < np.deg2rad(5.0)
