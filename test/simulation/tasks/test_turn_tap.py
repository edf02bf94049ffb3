"""A tap is turned when the gripper has turned the named lever by a quarter, let it go, and left the other alone."""

from __future__ import annotations

import numpy as np
import pytest

from minidiffuser_ros.simulation.tabletop import Tabletop
from minidiffuser_ros.simulation.tasks.base import CLOSED, OPEN, down
from minidiffuser_ros.simulation.tasks.turn_tap import GRIP, HANDLES, HOVER, LEVER_END, TURN

TASK, SEED = "turn_tap", 200
LEFT, RIGHT = 0, 1


def turn(world: Tabletop, handle: str, angle: float = TURN, opening: float = OPEN) -> None:
    """Grasp a lever that is shut and turn it."""
    (x, y, _), yaw = world.stage.position(handle), world.stage.yaw(handle)
    world.execute(down(x, y, GRIP + HOVER, OPEN, yaw))
    world.execute(down(x, y, GRIP, CLOSED, yaw))
    world.execute(down(x, y, GRIP, opening, yaw + angle))


def angle_of(world: Tabletop, handle: str) -> float:
    return float(np.rad2deg(world.stage.joint(f"{handle}_hinge")))


def test_left_is_left_as_the_robot_sees_it(world: Tabletop) -> None:
    for seed in range(20):
        world.reset(TASK, seed)
        left, right = (world.stage.position(handle) for handle in HANDLES)
        assert left[1] > right[1] + 0.10


@pytest.mark.parametrize("variation", [LEFT, RIGHT])
def test_the_named_lever_counts_and_the_other_is_a_mistake(world: Tabletop, variation: int) -> None:
    world.reset(TASK, SEED, variation)
    turn(world, HANDLES[variation])
    assert world.success()
    assert world.mistake() == ""
    world.reset(TASK, SEED, variation)
    turn(world, HANDLES[1 - variation])
    assert not world.success()
    assert world.mistake() == "wrong object"


def test_turning_both_does_not_count(world: Tabletop) -> None:
    world.reset(TASK, SEED, LEFT)
    for handle in HANDLES:
        turn(world, handle)
        x, y, z = world.stage.tool
        world.execute(down(x, y, z + HOVER, OPEN))
    assert not world.success()


@pytest.mark.parametrize(("degrees", "done"), [(45.0, False), (80.0, False), (100.0, True)])
def test_a_lever_counts_from_a_quarter_turn_on(world: Tabletop, degrees: float, done: bool) -> None:
    world.reset(TASK, SEED, LEFT)
    turn(world, HANDLES[LEFT], np.deg2rad(degrees))
    assert angle_of(world, HANDLES[LEFT]) == pytest.approx(degrees, abs=6.0)
    assert world.success() is done


def test_a_lever_still_in_the_gripper_does_not_count(world: Tabletop) -> None:
    world.reset(TASK, SEED, LEFT)
    turn(world, HANDLES[LEFT], opening=CLOSED)
    assert angle_of(world, HANDLES[LEFT]) > 90.0
    assert not world.success()


def test_a_lever_knocked_round_from_outside_does_not_count(world: Tabletop) -> None:
    world.reset(TASK, SEED, LEFT)
    (x, y, _), yaw = world.stage.position(HANDLES[LEFT]), world.stage.yaw(HANDLES[LEFT])
    # Along an arc around the hinge, from the lever's outer side.
    for angle in np.deg2rad([130.0, 160.0, 190.0, 220.0, 250.0, 280.0]):
        u, v = x + LEVER_END * np.cos(yaw + angle), y + LEVER_END * np.sin(yaw + angle)
        if angle < np.deg2rad(140.0):
            world.execute(down(u, v, GRIP + HOVER, CLOSED, yaw))
        world.execute(down(u, v, GRIP, CLOSED, yaw))
    x, y, z = world.stage.tool
    world.execute(down(x, y, z + HOVER, CLOSED, yaw))
    assert angle_of(world, HANDLES[LEFT]) > 90.0
    assert not world.success()


def test_a_lever_stays_where_it_was_left(world: Tabletop) -> None:
    world.reset(TASK, SEED, RIGHT)
    turn(world, HANDLES[RIGHT])
    before = angle_of(world, HANDLES[RIGHT])
    x, y, z = world.stage.tool
    for height in (0.0, HOVER, HOVER):
        world.execute(down(x, y, z + height, OPEN, world.stage.yaw(HANDLES[RIGHT])))
    assert angle_of(world, HANDLES[RIGHT]) == pytest.approx(before, abs=1.0)
    assert world.success()
