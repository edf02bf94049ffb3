"""The named meat has to lie on the plate, by the hand and let go; the other one stays where it is."""

from __future__ import annotations

import numpy as np
import pytest

from minidiffuser_ros.geometry.transform import apply, invert
from minidiffuser_ros.simulation.tabletop import Tabletop
from minidiffuser_ros.simulation.tasks.meat_off_grill import (
    DEEP,
    GRATE_HEIGHT,
    GRILL,
    HALF_HEIGHT,
    MEATS,
    ON_PLATE,
    PLATE,
    PLATE_TOP,
    WIDE,
)

TASK = "meat_off_grill"


def lift(world: Tabletop, meat: str) -> None:
    """Hold a meat in the air for one step of the physics."""
    world.stage.place(meat, world.stage.position(meat) + np.array([0, 0, 0.1]))
    world.stage.settle()
    world.task.update(world.stage)


def serve(world: Tabletop, meat: str, beside: float = 0.0) -> None:
    """Lay a meat on the plate, so many metres from its middle."""
    world.stage.place(meat, world.stage.position(PLATE) + np.array([0, beside, PLATE_TOP + HALF_HEIGHT[meat]]))
    world.stage.settle()


@pytest.mark.parametrize("variation", range(len(MEATS)))
@pytest.mark.parametrize(("beside", "done"), [(0.0, True), (ON_PLATE - 0.001, True), (ON_PLATE + 0.001, False)])
def test_the_named_meat_counts_on_the_plate(world: Tabletop, variation: int, beside: float, done: bool) -> None:
    world.reset(TASK, 3, variation)
    lift(world, MEATS[variation])
    serve(world, MEATS[variation], beside)
    assert world.success() == done


@pytest.mark.parametrize("variation", range(len(MEATS)))
def test_the_other_meat_is_a_wrong_object(world: Tabletop, variation: int) -> None:
    world.reset(TASK, 3, variation)
    lift(world, MEATS[1 - variation])
    serve(world, MEATS[1 - variation])
    assert not world.success()
    assert world.mistake() == "wrong object"


def test_both_meats_off_the_grill_do_not_count(world: Tabletop) -> None:
    world.reset(TASK, 3, 0)
    lift(world, MEATS[0])
    serve(world, MEATS[0])
    world.stage.place(MEATS[1], (0.3, 0.0, HALF_HEIGHT[MEATS[1]]))
    world.stage.settle()
    assert not world.success()


def test_meat_that_was_pushed_onto_the_plate_does_not_count(world: Tabletop) -> None:
    world.reset(TASK, 3, 0)
    serve(world, MEATS[0])
    assert not world.success()


def test_meat_between_the_fingers_does_not_count(world: Tabletop) -> None:
    world.reset(TASK, 3)
    keyposes = world.expert()
    for _ in range(4):
        world.execute(next(keyposes))
    last = next(keyposes)
    world.execute(type(last)(last.position, last.quat_wxyz, 0.0))
    assert world.stage.held(MEATS[world.task.variation])
    assert not world.success()
    world.execute(last)
    assert world.success()


def test_both_meats_begin_on_the_grate_in_either_order(world: Tabletop) -> None:
    sides = set()
    for seed in range(20):
        world.reset(TASK, seed)
        for meat in MEATS:
            x, y, z = apply(invert(world.stage.transform(GRILL)), world.stage.position(meat)[None])[0]
            assert abs(x) < DEEP
            assert abs(y) < WIDE
            assert z == pytest.approx(GRATE_HEIGHT + HALF_HEIGHT[meat], abs=1e-6)
            sides.add((meat, np.sign(y)))
    assert len(sides) == 4
