"""The box has to lie in the named drawer, let go and at rest."""

from __future__ import annotations

import numpy as np
import pytest

from minidiffuser_ros.simulation.tabletop import Tabletop
from minidiffuser_ros.simulation.tasks.cabinet import DRAWERS, OPENED_AT, over_drawer
from minidiffuser_ros.simulation.tasks.put_item_in_drawer import ITEM, ITEM_HALF_SIZE

TASK = "put_item_in_drawer"


def put_in(world: Tabletop, drawer: str, higher: float = 0.0) -> None:
    """Open a drawer and lay the box on its floor, or so many metres above it."""
    world.stage.set_joint(drawer, OPENED_AT + 0.01)
    world.stage.settle()
    floor = over_drawer(world.stage, drawer)
    world.stage.place(ITEM, floor + np.array([0.0, 0.0, ITEM_HALF_SIZE + higher]))
    world.stage.settle()


@pytest.mark.parametrize("variation", range(len(DRAWERS)))
def test_the_box_counts_in_the_named_drawer_only(world: Tabletop, variation: int) -> None:
    for index, drawer in enumerate(DRAWERS):
        world.reset(TASK, 6, variation)
        put_in(world, drawer)
        assert world.success() is (index == variation)
        assert world.mistake() == ("" if index == variation else "wrong object")


def test_a_box_above_the_drawer_does_not_count(world: Tabletop) -> None:
    world.reset(TASK, 6, 0)
    put_in(world, DRAWERS[0], higher=0.06)
    assert not world.success()


def test_an_open_drawer_alone_does_not_count(world: Tabletop) -> None:
    world.reset(TASK, 6, 1)
    world.stage.set_joint(DRAWERS[1], OPENED_AT + 0.01)
    world.stage.settle()
    assert not world.success()


def test_a_box_that_still_moves_does_not_count(world: Tabletop) -> None:
    world.reset(TASK, 6, 2)
    put_in(world, DRAWERS[2])
    assert world.success()
    world.data.joint(f"{ITEM}_free").qvel[2] = -0.1
    assert not world.success()
