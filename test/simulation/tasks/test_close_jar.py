"""A jar is closed when the lid sits on it and has been turned until its lugs are under the hooks."""

from __future__ import annotations

import numpy as np
import pytest

from minidiffuser_ros.simulation.tabletop import Tabletop
from minidiffuser_ros.simulation.tasks.base import CLOSED, OPEN, down
from minidiffuser_ros.simulation.tasks.close_jar import GRIP, JARS, LID, OPEN_TURN, RIM

TASK, SEED = "close_jar", 200
RIGHT, WRONG = JARS


def put(
    world: Tabletop, jar: str, sideways: float = 0.0, height: float = 0.0, turn: float = 0.0, half_turn: bool = False
) -> None:
    """The lid at once where it is shut on a jar, but for an error."""
    x, y, z = world.stage.position(jar)
    yaw = world.stage.yaw(jar) + turn + np.pi * half_turn
    world.stage.place(LID, (x + sideways, y, z + RIM + height), yaw)
    world.stage.settle()


def carry(world: Tabletop, above: float, then: list[tuple[float, float]]) -> None:
    """Lid in hand, above the named jar at an angle from shut, then down to it and on to (angle, opening) each."""
    keyposes = world.expert()
    for _ in range(3):
        world.execute(next(keyposes))
    (x, y, _), shut = world.stage.position(RIGHT), world.stage.yaw(RIGHT)
    place = RIM + GRIP - 0.001
    world.execute(down(x, y, place + 0.1, CLOSED, shut + above))
    for turn, opening in then:
        world.execute(down(x, y, place, opening, shut + turn))


def test_a_lid_on_the_other_jar_is_a_mistake(world: Tabletop) -> None:
    world.reset(TASK, SEED)
    put(world, WRONG)
    assert not world.success()
    assert world.mistake() == "wrong object"


@pytest.mark.parametrize(
    ("error", "done"),
    [
        ({}, True),
        ({"half_turn": True}, True),
        ({"sideways": 0.003}, True),
        ({"sideways": 0.005}, False),
        ({"height": 0.002}, True),
        ({"height": 0.004}, False),
        ({"turn": np.deg2rad(11.0)}, True),
        ({"turn": np.deg2rad(13.0)}, False),
        ({"turn": OPEN_TURN}, False),
    ],
)
def test_the_lid_counts_where_it_is_seated_and_turned_shut(
    world: Tabletop, error: dict[str, float], done: bool
) -> None:
    world.reset(TASK, SEED)
    put(world, RIGHT, **error)  # type: ignore[arg-type]
    assert world.success() is done
    assert world.mistake() == ""


@pytest.mark.parametrize("turned", [0.0, np.deg2rad(60.0)])
def test_a_lid_that_is_not_turned_far_enough_does_not_count(world: Tabletop, turned: float) -> None:
    world.reset(TASK, SEED)
    carry(world, OPEN_TURN, [(OPEN_TURN, CLOSED), (OPEN_TURN - turned, OPEN)])
    assert world.stage.position(LID)[2] == pytest.approx(RIM, abs=0.002)
    assert not world.success()


def test_the_hooks_keep_out_a_lid_that_is_put_on_as_if_it_were_shut(world: Tabletop) -> None:
    world.reset(TASK, SEED)
    carry(world, 0.0, [(0.0, OPEN)])
    assert world.stage.position(LID)[2] > RIM + 0.005
    assert not world.success()


def test_a_lid_still_in_the_gripper_does_not_count(world: Tabletop) -> None:
    world.reset(TASK, SEED)
    carry(world, OPEN_TURN, [(OPEN_TURN, CLOSED), (0.0, CLOSED)])
    assert world.stage.held(LID)
    assert not world.success()


@pytest.mark.parametrize(("turn", "stays"), [(0.0, True), (OPEN_TURN, False)])
def test_only_a_lid_that_is_shut_cannot_be_lifted(world: Tabletop, turn: float, stays: bool) -> None:
    world.reset(TASK, SEED)
    carry(world, OPEN_TURN, [(OPEN_TURN, CLOSED), (turn, CLOSED)])
    x, y, z = world.stage.tool
    world.execute(down(x, y, z + 0.10, CLOSED, world.stage.yaw(RIGHT) + turn))
    assert bool(world.stage.position(LID)[2] < RIM + 0.01) is stays
