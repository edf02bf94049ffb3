"""The named shape, in its own hole, let go."""

from __future__ import annotations

import numpy as np
import pytest

from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.simulation.tabletop import Tabletop
from minidiffuser_ros.simulation.tasks.base import CLOSED, OPEN, down
from minidiffuser_ros.simulation.tasks.sort_shape import (
    CELL,
    HALF_HEIGHT,
    LID_TOP,
    SHAPES,
    SORTER,
    hole_of,
)

NAMES = tuple(SHAPES)


def drop(world: Tabletop, shape: str, hole: str, above: float = 0.001, turned: float = 0.0) -> None:
    """Let a shape fall from just above the lid over some hole."""
    x, y, _ = hole_of(world.stage, hole)
    world.stage.place(shape, (x, y, LID_TOP + HALF_HEIGHT + above), world.stage.yaw(SORTER) + turned)
    world.stage.settle()
    wait(world)


def wait(world: Tabletop) -> None:
    """Half a second, the arm far away."""
    for opening in (CLOSED, OPEN):
        world.execute(down(0.35, 0.0, 0.35, opening))


@pytest.mark.parametrize("shape", NAMES)
def test_every_shape_falls_into_its_own_hole_and_that_counts(world: Tabletop, shape: str) -> None:
    for seed in range(3):
        world.reset("sort_shape", seed, NAMES.index(shape))
        drop(world, shape, shape)
        assert world.success()
        assert not world.mistake()


@pytest.mark.parametrize("shape", NAMES)
def test_no_other_hole_counts(world: Tabletop, shape: str) -> None:
    for hole in NAMES:
        if hole != shape:
            world.reset("sort_shape", 3, NAMES.index(shape))
            drop(world, shape, hole)
            assert not world.success()


@pytest.mark.parametrize(("shape", "turned"), [("cube", 45), ("prism", 60), ("star", 30), ("moon", 90)])
def test_a_shape_that_is_turned_does_not_fall_in(world: Tabletop, shape: str, turned: float) -> None:
    world.reset("sort_shape", 3, NAMES.index(shape))
    drop(world, shape, shape, turned=np.deg2rad(turned))
    assert world.stage.position(shape)[2] > HALF_HEIGHT + 0.01
    assert not world.success()


def test_another_shape_in_its_hole_does_not_count(world: Tabletop) -> None:
    world.reset("sort_shape", 3, NAMES.index("cube"))
    drop(world, "star", "star")
    assert not world.success()
    assert world.mistake() == "wrong object"


@pytest.mark.parametrize("shape", NAMES)
def test_a_shape_counts_when_it_is_let_go_and_not_between_the_fingers(world: Tabletop, shape: str) -> None:
    world.reset("sort_shape", 3, NAMES.index(shape))
    for keypose in world.expert():
        assert not world.success()
        world.execute(keypose)
    assert world.success()
    world.execute(Keypose(keypose.position - (0.0, 0.0, 0.01), keypose.quat_wxyz, CLOSED))
    assert world.stage.held(shape)
    assert not world.success()


def test_a_shape_beside_the_sorter_or_on_its_lid_does_not_count(world: Tabletop) -> None:
    world.reset("sort_shape", 3, NAMES.index("cylinder"))
    assert not world.success()
    (x, y, _), turn = world.stage.position(SORTER), world.stage.yaw(SORTER)
    world.stage.place("cylinder", (x + 0.5 * CELL * np.cos(turn), y + 0.5 * CELL * np.sin(turn), LID_TOP + HALF_HEIGHT))
    world.stage.settle()
    wait(world)
    assert not world.success()
