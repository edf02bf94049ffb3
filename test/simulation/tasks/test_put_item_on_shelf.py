"""The named item has to rest on the named board, let go."""

from __future__ import annotations

import numpy as np
import pytest

from minidiffuser_ros.geometry.transform import apply
from minidiffuser_ros.simulation.tabletop import Tabletop
from minidiffuser_ros.simulation.tasks.cabinet import LEVELS
from minidiffuser_ros.simulation.tasks.put_item_on_shelf import (
    BOARD_TOPS,
    FRONT_EDGES,
    HALF_HEIGHTS,
    INSIDE,
    ITEMS,
    RACK,
    WISHES,
)

TASK = "put_item_on_shelf"


def shelve(world: Tabletop, item: str, level: str, higher: float = 0.0) -> None:
    """Put an item on a board, or so many metres above it."""
    index = LEVELS.index(level)
    place = np.array([FRONT_EDGES[index] - INSIDE, 0.0, BOARD_TOPS[index] + HALF_HEIGHTS[item] - 0.0002 + higher])
    world.stage.place(item, apply(world.stage.transform(RACK), place))
    world.stage.settle()


@pytest.mark.parametrize("variation", range(len(WISHES)))
def test_the_named_item_counts_on_the_named_board_only(world: Tabletop, variation: int) -> None:
    item, wanted = WISHES[variation]
    for level in LEVELS:
        world.reset(TASK, 8, variation)
        shelve(world, item, level)
        assert world.success() is (level == wanted)


def test_another_item_on_the_board_is_a_wrong_object(world: Tabletop) -> None:
    item, level = WISHES[0]
    world.reset(TASK, 8, 0)
    shelve(world, next(name for name in ITEMS if name != item), level)
    assert not world.success()
    assert world.mistake() == "wrong object"


def test_an_item_in_the_air_above_its_board_does_not_count(world: Tabletop) -> None:
    item, level = WISHES[4]
    world.reset(TASK, 8, 4)
    shelve(world, item, level, higher=0.004)
    assert not world.success()
