"""`insert_ring_on_peg`: put a square ring, held by its handle, over the square peg of the named colour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.simulation.parts import GREY, WOOD, box, cylinder, site
from minidiffuser_ros.simulation.stage import Stage
from minidiffuser_ros.simulation.tasks.base import (
    CLOSED,
    COLOR_NAMES,
    OPEN,
    STILL,
    Array,
    Task,
    down,
    some_colors,
)
from minidiffuser_ros.simulation.tasks.objects import FIRM
from minidiffuser_ros.simulation.world import SceneBuilder

BASE, RING = "peg_base", "ring"
PEGS = tuple(f"peg_{i}" for i in range(3))
SPACING = 0.08  # m between pegs, in a row along the base's y
BASE_HALF_SIZE, BASE_TOP = (0.045, 0.112, 0.0075), 0.015
PEG_HALF_WIDTH, PEG_HEIGHT = 0.012, 0.045  # m; the height above the base
CLEARANCE = 0.003  # m between peg and ring on each of the four sides where the ring is centred
HOLE = PEG_HALF_WIDTH + CLEARANCE
WALL, RING_HALF_HEIGHT = 0.012, 0.012
HANDLE_WIDTH, HANDLE_END = 0.022, 0.072  # m; the end from the middle of the hole, along the ring's -x
GRIP = 0.062  # m from the middle of the hole to where the fingers close
MAX_BASE_YAW, MAX_RING_YAW = np.deg2rad(25.0), np.deg2rad(45.0)
HOVER, LIFT, DROP = 0.10, 0.16, 0.002
ON_PEG, SEATED, UPRIGHT = 0.006, 0.004, np.deg2rad(6.0)  # m sideways, m in height, rad of tilt


class InsertRingOnPeg(Task):
    """Success: the ring lies flat on the base around the peg of the named colour, released, still.

    A square hole of 30 mm goes over a square peg of 24 mm: 3 mm of clearance on each side, about ten degrees of yaw.
    """

    name = "insert_ring_on_peg"
    num_variations = len(COLOR_NAMES)
    max_keyposes = 9

    @classmethod
    def build(cls, scene: SceneBuilder) -> None:
        base = scene.fixture(BASE)
        box(base, BASE_HALF_SIZE, (0, 0, BASE_HALF_SIZE[2]), color=GREY)
        half = 0.5 * PEG_HEIGHT
        for index, name in enumerate(PEGS):
            place = (0.0, SPACING * (index - 1), BASE_TOP + half)
            box(base, (PEG_HALF_WIDTH, PEG_HALF_WIDTH, half), place, name=name, friction=0.2)
            site(base, name, place)
        ring = scene.movable(RING)
        middle, outer = HOLE + 0.5 * WALL, HOLE + WALL
        for side in (-1, 1):
            for half_x, half_y, x, y in ((0.5 * WALL, outer, middle, 0.0), (HOLE, 0.5 * WALL, 0.0, middle)):
                half_size, place = (half_x, half_y, RING_HALF_HEIGHT), (side * x, side * y, 0)
                box(ring, half_size, place, color=WOOD, friction=0.2, mass=0.01)
        # The handle touches nothing but fingers: what is so stiff would tremble on the base.
        half, half_height = 0.5 * (HANDLE_END - outer), RING_HALF_HEIGHT - 0.001
        half_size, place = (half, 0.5 * HANDLE_WIDTH, half_height), (half - HANDLE_END, 0, 0.001)
        box(ring, half_size, place, color=WOOD, mass=0.016, **FIRM)
        cylinder(ring, 0.5 * HANDLE_WIDTH, half_height, (-HANDLE_END, 0, 0.001), color=WOOD, mass=0.004, **FIRM)

    def instructions(self) -> Sequence[str]:
        color = COLOR_NAMES[self.variation]
        return (
            f"put the ring on the {color} peg",
            f"insert the ring onto the {color} peg",
            f"slide the ring over the {color} peg",
            f"place the wooden ring on the {color} pole",
            f"pick up the ring and drop it onto the peg that is {color}",
        )

    def held_out_instructions(self) -> Sequence[str]:
        color = COLOR_NAMES[self.variation]
        return (f"thread the ring onto the {color} post", f"the {color} peg should wear the ring")

    def _lay_out(self, stage: Stage, rng: np.random.Generator) -> None:
        colors = rng.permutation(some_colors(rng, [COLOR_NAMES[self.variation]], len(PEGS))).tolist()
        for name, color in zip(PEGS, colors, strict=True):
            stage.paint(name, color)
        self._target = PEGS[colors.index(COLOR_NAMES[self.variation])]
        self._others = [name for name in PEGS if name != self._target]
        while True:
            base = rng.uniform([0.44, -0.22, -MAX_BASE_YAW], [0.62, 0.22, MAX_BASE_YAW])
            ring = rng.uniform([0.42, -0.28, -MAX_RING_YAW], [0.66, 0.28, MAX_RING_YAW])
            # The hand is 20 cm wide: it must not touch a peg where it grasps.
            if _gap(base, _ahead(ring, 0.0)) > 0.06 and _gap(base, _ahead(ring, -GRIP)) > 0.11:
                break
        stage.place(BASE, (*base[:2], 0.0), base[2])
        stage.place(RING, (*ring[:2], RING_HALF_HEIGHT), ring[2])

    def success(self, stage: Stage) -> bool:
        seated = self._around(stage, self._target) and abs(_height(stage)) < SEATED and stage.tilt(RING) < UPRIGHT
        released = stage.finger_opening > HANDLE_WIDTH + 0.006
        return bool(seated and released and stage.speed(RING) < STILL)

    def mistake(self, stage: Stage) -> str:
        below_top = _height(stage) < PEG_HEIGHT - RING_HALF_HEIGHT
        wrong = any(self._around(stage, name) for name in self._others)
        return "wrong object" if wrong and below_top else ""

    def expert(self, stage: Stage) -> Iterator[Keypose]:
        (x, y, z), yaw = stage.position(RING), stage.yaw(RING)
        x, y = _ahead((x, y, yaw), -GRIP)
        yield down(x, y, z + HOVER, OPEN, yaw)
        yield down(x, y, z, CLOSED, yaw)
        yield down(x, y, z + LIFT, CLOSED, yaw)
        # Four turns of the square fit. The one with the handle on the robot's side keeps the hand off the other pegs.
        (u, v, _), turn = stage.site(self._target), stage.yaw(BASE)
        for height, opening in ((HOVER, CLOSED), (DROP, OPEN)):
            grip = float(np.linalg.norm((stage.tool - stage.position(RING))[:2]))
            x, y = _ahead((u, v, turn), -grip)
            yield down(x, y, BASE_TOP + RING_HALF_HEIGHT + height, opening, turn)

    @staticmethod
    def _around(stage: Stage, peg: str) -> bool:
        return bool(np.linalg.norm((stage.position(RING) - stage.site(peg))[:2]) < ON_PEG)


def _height(stage: Stage) -> float:
    """Of the ring above where it lies on the base."""
    return float(stage.position(RING)[2] - BASE_TOP - RING_HALF_HEIGHT)


def _ahead(pose: Sequence[float] | Array, distance: float) -> Array:
    """The point [2] so far from a pose (x, y, yaw) along its x axis."""
    x, y, yaw = pose
    return np.array([x + distance * np.cos(yaw), y + distance * np.sin(yaw)])


def _gap(base: Array, point: Array) -> float:
    """From the base, given as (x, y, yaw), to a point [2]."""
    turned = np.array([[np.cos(base[2]), np.sin(base[2])], [-np.sin(base[2]), np.cos(base[2])]])
    beyond = np.abs(turned @ (point - base[:2])) - BASE_HALF_SIZE[:2]
    return float(np.linalg.norm(np.maximum(beyond, 0.0)))
