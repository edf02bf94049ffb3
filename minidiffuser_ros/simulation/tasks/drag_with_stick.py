"""`drag_with_stick`: take the stick and drag the cube with it into the bay of the named colour, one of four."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.simulation.parts import GREY, STEEL, box
from minidiffuser_ros.simulation.stage import FINGERS, Stage
from minidiffuser_ros.simulation.tasks.base import (
    CLOSED,
    COLOR_NAMES,
    OPEN,
    STILL,
    Task,
    down,
    smallest_yaw,
    some_colors,
)
from minidiffuser_ros.simulation.tasks.objects import GRIPPED, add_bay, add_slider, lies_in_bay
from minidiffuser_ros.simulation.world import SceneBuilder

CUBE, STICK = "cube", "stick"
BAYS = tuple(f"bay_{i}" for i in range(4))
CUBE_HALF_SIZE = 0.026
INSIDE = CUBE_HALF_SIZE + 0.014  # m: half the free width of a bay
STICK_HALF_LENGTH, STICK_HALF_WIDTH, GRIP_HALF_LENGTH = 0.115, 0.012, 0.028
X, SIDE, STICK_X, STICK_SIDE = (0.49, 0.56), (0.0, 0.13), (0.42, 0.54), (0.31, 0.35)
MAX_YAW = np.deg2rad(10.0)
DISTANCE = (0.115, 0.14)  # m from the cube to a bay
AT_TARGET = 0.016  # m both ways between the centres of cube and bay
CLOSE = 0.10  # m: a tool farther from the cube has its fingers elsewhere

GRASP, HOVER, LIFT = 0.014, 0.08, 0.13  # m of the tool over the table where the fingers close, and above that
DRAG_HEIGHT = 0.040  # m of the tool over the table: the stick passes over the bays
REACH = 0.14  # m along the stick from where it is held to where it touches the cube
GAP = 0.02  # m between stick and cube before the drag


class DragWithStick(Task):
    """Success: the cube lies still in the bay of the named colour (centres within 16 mm), untouched by the fingers."""

    name = "drag_with_stick"
    num_variations = len(COLOR_NAMES)
    max_keyposes = 10

    @classmethod
    def build(cls, scene: SceneBuilder) -> None:
        add_slider(scene, CUBE, (CUBE_HALF_SIZE,) * 3)
        stick, half, grip = scene.movable(STICK), STICK_HALF_LENGTH, GRIP_HALF_LENGTH
        box(stick, (grip, STICK_HALF_WIDTH, STICK_HALF_WIDTH), (grip - half, 0, 0), color=GREY, mass=0.015, **GRIPPED)
        box(stick, (half - grip, STICK_HALF_WIDTH, STICK_HALF_WIDTH), (grip, 0, 0), color=STEEL, mass=0.02)
        for name in BAYS:
            add_bay(scene, name, INSIDE)

    def instructions(self) -> Sequence[str]:
        color = COLOR_NAMES[self.variation]
        return (
            f"use the stick to drag the cube onto the {color} target",
            f"drag the cube to the {color} target with the stick",
            f"take the stick and pull the cube into the {color} bay",
            f"with the stick, move the cube to the {color} target",
            f"grab the stick and drag the cube to the target that is {color}",
        )

    def held_out_instructions(self) -> Sequence[str]:
        color = COLOR_NAMES[self.variation]
        return (
            f"reach out with the stick and bring the cube to the {color} target",
            f"the {color} target is where the stick must drag the cube",
        )

    def _lay_out(self, stage: Stage, rng: np.random.Generator) -> None:
        self._touched = False
        colors = some_colors(rng, [COLOR_NAMES[self.variation]], len(BAYS))
        side = rng.choice([-1.0, 1.0])
        stick = (rng.uniform(*STICK_X), side * rng.uniform(*STICK_SIDE), STICK_HALF_WIDTH)
        stage.place(STICK, stick, rng.uniform(-MAX_YAW, MAX_YAW))
        x, y, yaw = rng.uniform(*X), -side * rng.uniform(*SIDE), rng.uniform(-MAX_YAW, MAX_YAW)
        stage.place(CUBE, (x, y, CUBE_HALF_SIZE), yaw + 0.25 * np.pi)
        for name, color, quarter in zip(BAYS, colors, rng.permutation(4), strict=True):
            way, far = yaw + (quarter + 0.5) * 0.5 * np.pi, rng.uniform(*DISTANCE)
            stage.place(name, (x + far * np.cos(way), y + far * np.sin(way), 0.0), way)
            stage.paint(name, color)

    def update(self, stage: Stage) -> None:
        if np.linalg.norm(stage.tool - stage.position(CUBE)) < CLOSE:
            self._touched |= any(stage.touching(CUBE, finger) for finger in FINGERS)

    def success(self, stage: Stage) -> bool:
        return _lies_in(stage, BAYS[0]) and stage.speed(CUBE) < STILL and not self._touched

    def mistake(self, stage: Stage) -> str:
        if self._touched:
            return "without the stick"
        return "wrong object" if any(_lies_in(stage, bay) for bay in BAYS[1:]) else ""

    def expert(self, stage: Stage) -> Iterator[Keypose]:
        (x, y, _), yaw = stage.position(STICK), stage.yaw(STICK)
        held = STICK_HALF_LENGTH - GRIP_HALF_LENGTH
        x, y = x - held * np.cos(yaw), y - held * np.sin(yaw)
        yield down(x, y, GRASP + HOVER, OPEN, yaw)
        yield down(x, y, GRASP, CLOSED, yaw)
        yield down(x, y, GRASP + LIFT, CLOSED, yaw)
        cube, bay = stage.position(CUBE)[:2], stage.position(BAYS[0])[:2]
        along = (bay - cube) / np.linalg.norm(bay - cube)
        # The stick lies across the way and points away from the robot: the hand is 14 cm from the cube.
        yaw = smallest_yaw(np.arctan2(along[1], along[0]) + 0.5 * np.pi, 2)
        behind = (CUBE_HALF_SIZE + STICK_HALF_WIDTH) * along + REACH * np.array([np.cos(yaw), np.sin(yaw)])
        (x, y), (u, v) = cube - GAP * along - behind, bay - behind
        yield down(x, y, GRASP + LIFT, CLOSED, yaw)
        yield down(x, y, DRAG_HEIGHT, CLOSED, yaw)
        yield down(u, v, DRAG_HEIGHT, CLOSED, yaw)


def _lies_in(stage: Stage, bay: str) -> bool:
    return lies_in_bay(stage, CUBE, bay, CUBE_HALF_SIZE, AT_TARGET)
