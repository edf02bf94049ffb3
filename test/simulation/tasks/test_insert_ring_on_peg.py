"""The ring is on the peg when it lies on the base around the named one, and the gripper has let go."""

from __future__ import annotations

import numpy as np
import pytest

from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.geometry.rotation import quat_from_yaw, quat_multiply
from minidiffuser_ros.simulation.tabletop import Tabletop
from minidiffuser_ros.simulation.tasks.base import CLOSED, down
from minidiffuser_ros.simulation.tasks.insert_ring_on_peg import BASE_TOP, PEG_HEIGHT, PEGS, RING, RING_HALF_HEIGHT

TASK, SEED = "insert_ring_on_peg", 200
LYING = BASE_TOP + RING_HALF_HEIGHT


def named_peg(world: Tabletop) -> str:
    """The peg that has the colour of the sentence."""
    return next(peg for peg in PEGS if world.stage.color_of(peg) in world.task.instruction())


def put(world: Tabletop, peg: str, sideways: float = 0.0, height: float = LYING, tilt: float = 0.0) -> None:
    """The ring at once where it belongs on a peg, but for an error."""
    x, y, _ = world.stage.site(peg)
    tilted = (np.cos(0.5 * tilt), np.sin(0.5 * tilt), 0.0, 0.0)
    world.stage.place(RING, (x + sideways, y, height), quat_wxyz=tilted)
    world.stage.settle()


def insert(world: Tabletop, sideways: float = 0.0, turn: float = 0.0, opening: float | None = None) -> None:
    """As the expert does, but with an error above the peg and on it."""
    for index, keypose in enumerate(world.expert()):
        on_peg = index == 4
        if index > 2:
            keypose = Keypose(
                keypose.position + np.array([sideways, 0.0, 0.0]),
                quat_multiply(quat_from_yaw(turn), keypose.quat_wxyz),
                opening if on_peg and opening is not None else keypose.opening,
            )
        world.execute(keypose)


def test_one_peg_has_the_named_colour_and_it_is_not_always_the_same_one(world: Tabletop) -> None:
    named = set()
    for seed in range(20):
        world.reset(TASK, seed)
        colors = [world.stage.color_of(peg) for peg in PEGS]
        assert len(set(colors)) == len(PEGS)
        named.add(named_peg(world))
    assert named == set(PEGS)


def test_a_ring_on_another_peg_is_a_mistake(world: Tabletop) -> None:
    world.reset(TASK, SEED)
    for peg in set(PEGS) - {named_peg(world)}:
        put(world, peg)
        assert not world.success()
        assert world.mistake() == "wrong object"


@pytest.mark.parametrize(
    ("sideways", "height", "tilt", "done"),
    [
        (0.0, LYING, 0.0, True),
        (0.005, LYING, 0.0, True),
        (0.007, LYING, 0.0, False),
        (0.0, LYING + 0.003, 0.0, True),
        (0.0, LYING + 0.005, 0.0, False),
        (0.0, BASE_TOP + PEG_HEIGHT + RING_HALF_HEIGHT, 0.0, False),
        (0.0, LYING, np.deg2rad(5.0), True),
        (0.0, LYING, np.deg2rad(7.0), False),
    ],
)
def test_the_ring_counts_where_it_lies_flat_on_the_base(
    world: Tabletop, sideways: float, height: float, tilt: float, done: bool
) -> None:
    world.reset(TASK, SEED)
    put(world, named_peg(world), sideways, height, tilt)
    assert world.success() is done
    assert world.mistake() == ""


def test_a_ring_still_in_the_gripper_does_not_count(world: Tabletop) -> None:
    world.reset(TASK, SEED)
    insert(world, opening=CLOSED)
    assert world.stage.held(RING)
    assert world.stage.position(RING)[2] == pytest.approx(LYING, abs=0.004)
    assert not world.success()


@pytest.mark.parametrize(("sideways", "turn"), [(0.010, 0.0), (-0.010, 0.0), (0.0, np.deg2rad(45.0))])
def test_the_ring_does_not_go_on_beside_the_peg_or_askew(world: Tabletop, sideways: float, turn: float) -> None:
    world.reset(TASK, SEED)
    insert(world, sideways, turn)
    assert not world.success()


def test_a_peg_keeps_the_ring_that_is_pushed_aside(world: Tabletop) -> None:
    world.reset(TASK, SEED)
    insert(world)
    x, y, z = world.stage.tool
    for place in ((x - 0.10, y, z + 0.02), (x - 0.10, y, z), (x - 0.01, y, z)):
        world.execute(down(*place, CLOSED))
    peg = world.stage.site(named_peg(world))
    assert np.linalg.norm((world.stage.position(RING) - peg)[:2]) < 0.01
