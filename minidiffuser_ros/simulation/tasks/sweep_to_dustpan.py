"""`sweep_to_dustpan`: take the broom and sweep the dirt into the short or the tall one of two dustpans."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.geometry.transform import apply, invert
from minidiffuser_ros.simulation.parts import GREY, WOOD, Color, box, tray
from minidiffuser_ros.simulation.stage import Stage
from minidiffuser_ros.simulation.tasks.base import CLOSED, OPEN, Array, Task, down, scatter, smallest_yaw
from minidiffuser_ros.simulation.tasks.objects import GRIPPED
from minidiffuser_ros.simulation.world import SceneBuilder

BROOM, HOLDER = "broom", "holder"
SIZES = ("short", "tall")
PANS = {"short": "short_pan", "tall": "tall_pan"}
WALL_HEIGHTS = {"short": 0.024, "tall": 0.07}
DIRT = tuple(f"dirt_{i}" for i in range(4))
PLASTIC: Color = (0.15, 0.36, 0.52)
STRAW: Color = (0.83, 0.70, 0.36)
BROWN: Color = (0.22, 0.13, 0.07)

DIRT_HALF_SIZE = 0.007
DIRT_AREA = np.array([0.024, 0.032])  # m from the middle where the dirt lies: along the sweep, and across
DIRT_DISTANCE = 0.021
DEPTH, HALF_WIDTH, WALL = 0.10, 0.078, 0.006  # m: what a pan is free inside, and its walls
MOUTH = 0.095  # m from the middle to either pan
HEAD = (0.060, 0.011, 0.016)  # m: half the broom's head across the sweep, along it, and up
HANDLE_HALF_WIDTH, HANDLE_TOP = 0.013, 0.160
HOLDER_WALL, HOLDER_HALF_HEIGHT, HOLDER_GAP = 0.004, 0.010, 0.006
X, SIDE, HOLDER_SIDE, HOLDER_X = (0.44, 0.56), (0.03, 0.14), (0.31, 0.36), (0.40, 0.58)
MAX_YAW = np.deg2rad(20.0)

GRASP = 0.135  # m of the tool above the lower end of the broom
HOVER, LIFT = 0.05, 0.11  # m above where the fingers close
SWEEP_HEIGHT = 0.003  # m between the broom and the table
SLOW = 0.3  # m/s and rad/s: the broom may still be settling against the dirt
BEHIND, INTO = 0.062, 0.022  # m: how far before the middle the sweep begins, and how far it goes into the pan


class SweepToDustpan(Task):
    """Success: every piece of dirt lies still in the named dustpan."""

    name = "sweep_to_dustpan"
    num_variations = len(SIZES)
    max_keyposes = 10

    @classmethod
    def build(cls, scene: SceneBuilder) -> None:
        for size in SIZES:
            _add_pan(scene, PANS[size], WALL_HEIGHTS[size])
        for name in DIRT:
            box(scene.movable(name), (DIRT_HALF_SIZE,) * 3, color=BROWN, mass=0.004, friction=0.6, priority=1, condim=3)
        holder = scene.fixture(HOLDER)
        long, deep = (half + HOLDER_GAP + HOLDER_WALL for half in HEAD[:2])
        tray(holder, (long, deep, HOLDER_HALF_HEIGHT), HOLDER_WALL, (0, 0, HOLDER_HALF_HEIGHT), color=GREY)
        broom = scene.movable(BROOM)
        box(broom, HEAD, (0, 0, HEAD[2]), color=STRAW, mass=0.02)
        half, width = 0.5 * HANDLE_TOP - HEAD[2], HANDLE_HALF_WIDTH
        box(broom, (width, width, half), (0, 0, HANDLE_TOP - half), color=WOOD, mass=0.02, **GRIPPED)

    def instructions(self) -> Sequence[str]:
        size = SIZES[self.variation]
        return (
            f"sweep the dirt into the {size} dustpan",
            f"use the broom to sweep the dirt to the {size} dustpan",
            f"brush the dirt into the {size} dustpan",
            f"take the broom and clear the dirt into the {size} dustpan",
            f"sweep all the dirt up into the dustpan that is {size}",
        )

    def held_out_instructions(self) -> Sequence[str]:
        size = SIZES[self.variation]
        return (f"the dirt belongs in the {size} dustpan, sweep it there", f"broom the dirt into the {size} pan")

    def _lay_out(self, stage: Stage, rng: np.random.Generator) -> None:
        side = rng.choice([-1.0, 1.0])
        stand = (rng.uniform(*HOLDER_X), side * rng.uniform(*HOLDER_SIDE))
        turn = rng.uniform(-MAX_YAW, MAX_YAW)
        stage.place(HOLDER, (*stand, 0.0), turn)
        stage.place(BROOM, (*stand, HOLDER_WALL), turn)
        middle = np.array([rng.uniform(*X), -side * rng.uniform(*SIDE)])
        yaw = rng.uniform(-MAX_YAW, MAX_YAW)
        across, along = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
        for size, way in zip(rng.permutation(SIZES), (-1.0, 1.0), strict=True):
            stage.place(PANS[size], (*(middle + way * MOUTH * along), 0.0), yaw + way * 0.5 * np.pi)
        for name, place in zip(DIRT, scatter(rng, len(DIRT), -DIRT_AREA, DIRT_AREA, DIRT_DISTANCE), strict=True):
            spot = middle + place[0] * along + place[1] * across
            stage.place(name, (*spot, DIRT_HALF_SIZE), rng.uniform(-np.pi, np.pi))

    def success(self, stage: Stage) -> bool:
        inside = _in_pan(stage, SIZES[self.variation]).all()
        return bool(inside and all(stage.speed(name) < SLOW for name in DIRT))

    def mistake(self, stage: Stage) -> str:
        return "wrong object" if _in_pan(stage, SIZES[1 - self.variation]).any() else ""

    def expert(self, stage: Stage) -> Iterator[Keypose]:
        (x, y, z), yaw = stage.position(BROOM), stage.yaw(BROOM)
        yield down(x, y, z + GRASP + HOVER, OPEN, yaw)
        yield down(x, y, z + GRASP, CLOSED, yaw)
        yield down(x, y, z + GRASP + LIFT, CLOSED, yaw)
        pan = stage.transform(PANS[SIZES[self.variation]])
        turn = smallest_yaw(stage.yaw(PANS[SIZES[self.variation]]) + 0.5 * np.pi, 2)
        (x, y, _), (u, v, _) = apply(pan, np.array([[-MOUTH - BEHIND, 0.0, 0.0], [INTO, 0.0, 0.0]]))
        low = SWEEP_HEIGHT + GRASP
        yield down(x, y, low + LIFT, CLOSED, turn)
        yield down(x, y, low, CLOSED, turn)
        yield down(u, v, low, CLOSED, turn)


def _add_pan(scene: SceneBuilder, name: str, height: float) -> None:
    """A dustpan of sheet metal: its mouth is at its origin, x goes in."""
    pan = scene.fixture(name)
    # Its floor is as thin as paper, so that dirt slides over it as over the table.
    box(pan, (0.5 * DEPTH, HALF_WIDTH, 0.0005), (0.5 * DEPTH, 0, 0.0005), color=PLASTIC, solid=False)
    half, middle = 0.5 * WALL, 0.5 * height
    box(pan, (half, HALF_WIDTH + WALL, middle), (DEPTH + half, 0, middle), color=PLASTIC)
    for side in (-1, 1):
        box(pan, (0.5 * DEPTH, half, middle), (0.5 * DEPTH, side * (HALF_WIDTH + half), middle), color=PLASTIC)
    box(pan, (0.018, 0.012, 0.007), (DEPTH + WALL + 0.018, 0, middle), color=PLASTIC)


def _in_pan(stage: Stage, size: str) -> Array:
    """Which pieces of dirt [4] lie behind the mouth of a dustpan."""
    dirt = np.array([stage.position(name) for name in DIRT])
    x, y, z = apply(invert(stage.transform(PANS[size])), dirt).T
    inside: Array = (x > 0) & (x < DEPTH) & (np.abs(y) < HALF_WIDTH) & (z < WALL_HEIGHTS[size])
    return inside
