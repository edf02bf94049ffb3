"""Sliding counts in the bay of the named colour only, and only where the block has slid all the way."""

from __future__ import annotations

import numpy as np
from bays import SLID

from minidiffuser_ros.simulation.tabletop import Tabletop
from minidiffuser_ros.simulation.tasks.base import CLOSED, OPEN, down
from minidiffuser_ros.simulation.tasks.slide_block_to_target import AT_TARGET, BAYS, BLOCK

TASK = "slide_block_to_target"


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
    SLID.put(world, BAYS[0])
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
