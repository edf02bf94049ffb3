"""Sliding counts in the bay of the named colour only, and only where the block has slid all the way."""

from __future__ import annotations

import numpy as np
import pytest

from minidiffuser_ros.simulation.tabletop import Tabletop
from minidiffuser_ros.simulation.tasks.base import CLOSED, OPEN, down
from minidiffuser_ros.simulation.tasks.slide_block_to_target import AT_TARGET, BAYS, BLOCK, HALF_HEIGHT

TASK = "slide_block_to_target"


def put(world: Tabletop, bay: str, short_of: float = 0.0) -> None:
    """Put the block in a bay, or so many metres before the middle."""
    yaw = world.stage.yaw(bay)
    back = short_of * np.array([np.cos(yaw), np.sin(yaw), 0.0])
    world.stage.place(BLOCK, world.stage.position(bay) - back + (0, 0, HALF_HEIGHT), yaw)
    world.stage.settle()


@pytest.mark.parametrize(("short_of", "done"), [(0.0, True), (AT_TARGET - 0.001, True), (AT_TARGET + 0.001, False)])
def test_the_block_counts_where_it_lies_in_the_bay(world: Tabletop, short_of: float, done: bool) -> None:
    world.reset(TASK, 5)
    put(world, BAYS[0], short_of)
    assert world.success() == done


@pytest.mark.parametrize("bay", BAYS[1:])
def test_a_bay_of_another_colour_is_a_wrong_object(world: Tabletop, bay: str) -> None:
    world.reset(TASK, 5)
    put(world, bay)
    assert not world.success()
    assert world.mistake() == "wrong object"


def test_a_block_that_was_carried_does_not_count(world: Tabletop) -> None:
    world.reset(TASK, 5)
    block, bay, yaw = world.stage.position(BLOCK), world.stage.position(BAYS[0]), world.stage.yaw(BLOCK)
    for place, height, opening in (
        (block, 0.1, OPEN), (block, 0.02, CLOSED), (block, 0.1, CLOSED), (bay, 0.1, CLOSED), (bay, 0.025, OPEN),
    ):  # fmt: skip
        world.execute(down(*place[:2], height, opening, yaw))
    assert np.linalg.norm(world.stage.position(BLOCK)[:2] - bay[:2]) < AT_TARGET
    assert not world.success()


def test_a_block_between_the_fingers_does_not_count(world: Tabletop) -> None:
    world.reset(TASK, 5)
    put(world, BAYS[0])
    x, y, _ = world.stage.position(BLOCK)
    yaw = world.stage.yaw(BLOCK)
    world.execute(down(x, y, 0.1, OPEN, yaw))
    world.execute(down(x, y, 0.036, CLOSED, yaw))
    assert world.stage.held(BLOCK)
    assert not world.success()


def test_the_four_bays_open_towards_the_block_in_different_colours(world: Tabletop) -> None:
    for seed in range(20):
        world.reset(TASK, seed)
        stage = world.stage
        assert len({stage.color_of(f"{bay}_1") for bay in BAYS}) == len(BAYS)
        for bay in BAYS:
            inwards = np.linalg.inv(stage.transform(bay))[:3, :3] @ (stage.position(BLOCK) - stage.position(bay))
            assert inwards[0] < -0.1
            assert abs(inwards[1]) < 1e-6
