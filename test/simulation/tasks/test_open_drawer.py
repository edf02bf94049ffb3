"""The named drawer has to come out by four fifths of its travel, and no other one."""

from __future__ import annotations

import pytest

from minidiffuser_ros.simulation.tabletop import Tabletop
from minidiffuser_ros.simulation.tasks.cabinet import DRAWERS, OPENED_AT, SHUT_BELOW

TASK = "open_drawer"


def draw_out(world: Tabletop, drawer: str, distance: float) -> None:
    world.stage.set_joint(drawer, distance)
    world.stage.settle()


@pytest.mark.parametrize("variation", range(len(DRAWERS)))
@pytest.mark.parametrize(("distance", "done"), [(OPENED_AT - 0.002, False), (OPENED_AT + 0.002, True)])
def test_the_named_drawer_counts_from_four_fifths_on(
    world: Tabletop, variation: int, distance: float, done: bool
) -> None:
    world.reset(TASK, 4, variation)
    draw_out(world, DRAWERS[variation], distance)
    assert world.success() is done
    assert world.mistake() == ""


@pytest.mark.parametrize("variation", range(len(DRAWERS)))
def test_another_drawer_is_a_wrong_object_and_spoils_the_right_one(world: Tabletop, variation: int) -> None:
    world.reset(TASK, 4, variation)
    draw_out(world, DRAWERS[(variation + 1) % len(DRAWERS)], SHUT_BELOW + 0.002)
    assert world.mistake() == "wrong object"
    draw_out(world, DRAWERS[variation], OPENED_AT + 0.002)
    assert not world.success()


def test_a_drawer_stays_where_it_is_left(world: Tabletop) -> None:
    world.reset(TASK, 4, 0)
    draw_out(world, DRAWERS[0], 0.08)
    for keypose in list(world.expert())[:1]:  # in front of the cabinet: nothing is touched
        world.execute(keypose)
    assert world.stage.joint(DRAWERS[0]) == pytest.approx(0.08, abs=0.001)
