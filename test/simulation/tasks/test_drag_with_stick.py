"""Dragging counts in the bay of the named colour only, and only with the stick."""

from __future__ import annotations

import numpy as np

from minidiffuser_ros.simulation.tabletop import Tabletop
from minidiffuser_ros.simulation.tasks.base import CLOSED, OPEN, down
from minidiffuser_ros.simulation.tasks.drag_with_stick import AT_TARGET, BAYS, CUBE, STICK

TASK = "drag_with_stick"


def test_a_cube_that_the_fingers_have_carried_does_not_count(world: Tabletop) -> None:
    world.reset(TASK, 5)
    cube, bay, yaw = world.stage.position(CUBE), world.stage.position(BAYS[0]), world.stage.yaw(CUBE) - 0.5 * np.pi
    for place, height, opening in (
        (cube, 0.12, OPEN), (cube, 0.03, CLOSED), (cube, 0.12, CLOSED), (bay, 0.12, CLOSED), (bay, 0.035, OPEN),
    ):  # fmt: skip
        world.execute(down(*place[:2], height, opening, yaw))
    assert np.linalg.norm(world.stage.position(CUBE)[:2] - bay[:2]) < AT_TARGET
    assert not world.success()
    assert world.mistake() == "without the stick"


def test_the_expert_holds_the_stick_and_keeps_away_from_the_cube(world: Tabletop) -> None:
    world.reset(TASK, 6)
    for keypose in world.expert():
        world.execute(keypose)
    assert world.success()
    assert world.stage.held(STICK)
    assert np.linalg.norm(world.stage.tool - world.stage.position(CUBE)) > 0.12


def test_the_four_bays_open_towards_the_cube_in_different_colours(world: Tabletop) -> None:
    for seed in range(20):
        world.reset(TASK, seed)
        stage = world.stage
        assert len({stage.color_of(f"{bay}_1") for bay in BAYS}) == len(BAYS)
        for bay in BAYS:
            x, y, _ = np.linalg.inv(stage.transform(bay))[:3, :3] @ (stage.position(CUBE) - stage.position(bay))
            assert x < -0.1
            assert abs(y) < 1e-6
