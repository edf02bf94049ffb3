"""`sort_shape`: put the named one of five shapes through its own hole of a shape sorter."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.geometry.transform import apply
from minidiffuser_ros.simulation.parts import WOOD, Color, box, cylinder
from minidiffuser_ros.simulation.stage import FINGERS, Stage
from minidiffuser_ros.simulation.tasks.base import CLOSED, FINGERTIP_BELOW_TOOL, OPEN, STILL, Array, Task, down
from minidiffuser_ros.simulation.tasks.objects import STIFF, spread
from minidiffuser_ros.simulation.world import COLORS, SceneBuilder

SORTER = "sorter"
HALF_HEIGHT, MASS = 0.0275, 0.08  # of every shape
LID_TOP, LID_THICKNESS, WALL = 0.040, 0.012, 0.0025
CELL = 0.062  # edge of the square of the lid that has one hole
INSET_BELOW = 3e-4  # m that pieces in a hole lie below the frame, or surfaces would flicker where they overlap
SLIPPERY: dict[str, Any] = {"friction": 0.2, "priority": 2}  # the edges of a hole
MAX_YAW, SORTER_YAW = np.deg2rad(30.0), np.deg2rad(20.0)
GRASP = 2 * HALF_HEIGHT - 0.020 + FINGERTIP_BELOW_TOOL  # m of the tool: the fingers hold the upper 2 cm
RELEASE = LID_TOP + 0.012 + FINGERTIP_BELOW_TOOL  # m of the tool: they open above the lid, the shape's foot is below it
HOVER, ABOVE = 0.09, 0.035  # m above the grasp and above the release: a short way down, or the shape swings
LIFT = 0.20  # m above the grasp: lower down the hand may hide the hole from the camera in front

Piece = tuple[float, float, float, float, float]
"""A box seen from above: middle x and y, half its edges, how far it is turned."""


def _facing(angle_deg: float, near: float, far: float, half_width: float, shift: float = 0.0) -> Piece:
    """A piece from `near` to `far` from the middle in some direction; the middle may be shifted along y."""
    angle, middle = np.deg2rad(angle_deg), 0.5 * (near + far)
    return (middle * np.cos(angle), middle * np.sin(angle) + shift, 0.5 * (far - near), half_width, angle)


def _crescent(angle_deg: float, radius: float = 0.020, inner: float = 0.0145, shift: float = 0.008) -> Piece:
    """A piece between a circle and a smaller one that is shifted along x."""
    angle = np.deg2rad(angle_deg)
    near = shift * np.cos(angle) + np.sqrt(inner**2 - (shift * np.sin(angle)) ** 2)
    return _facing(angle_deg, near, radius, radius * np.tan(np.deg2rad(15.0)))


# All are grasped across y: there they have flat sides, and their middle is halfway between them.
_TIP, _EDGES = -0.0044, (-90, 30, 150)  # the tip goes between the ridges of a finger
SOLIDS: dict[str, tuple[Piece, ...]] = {
    "cube": (_facing(0, -0.018, 0.018, 0.018),),
    "prism": (
        *(_facing(a, 0.0, 0.013, 0.015, _TIP) for a in _EDGES),
        *(_facing(a, 0.0075, 0.013, 0.0194, _TIP) for a in _EDGES),
    ),
    "star": tuple(_facing(a, -0.024, 0.024, 0.0045) for a in (90, 30, 150)),
    "moon": tuple(_crescent(a) for a in range(60, 301, 30)),
}
CYLINDER_RADIUS = 0.020

# Half the edges of a rectangle, and what stands in its corners: 4.5 mm from the shape all around.
_CORNERS = tuple(_facing(a, 0.0245, 0.0338, 0.0101) for a in (45, 135, 225, 315))
HOLES: dict[str, tuple[float, float, tuple[Piece, ...]]] = {
    "cube": (0.0225, 0.0225, ()),
    "cylinder": (0.0245, 0.0245, _CORNERS),
    "prism": (
        0.026,
        0.0227,
        (
            *(_facing(a, 0.0175, 0.0255, 0.018, _TIP) for a in (30, 150)),
            *((side * 0.02325, 0.0089, 0.00275, 0.0138, 0.0) for side in (-1, 1)),
            *((side * 0.01675, 0.0174, 0.00375, 0.0053, 0.0) for side in (-1, 1)),
            *((side * 0.01025, 0.0204, 0.00275, 0.0023, 0.0) for side in (-1, 1)),
        ),
    ),
    "star": (
        0.0275,
        0.0285,
        (
            *(_facing(a, 0.0215, 0.0250, 0.0020) for a in range(0, 360, 60)),
            *(_facing(a, 0.0250, 0.0360 if a % 180 else 0.0300, 0.0040) for a in range(0, 360, 60)),
        ),
    ),
    "moon": (0.0245, 0.0245, (*_CORNERS, _facing(0, 0.001, 0.028, 0.0055))),
}

SHAPES = {"cube": "cube", "cylinder": "cylinder", "prism": "triangular prism", "star": "star", "moon": "moon"}
"""The name of each body, and how it is called."""
SHAPE_COLORS = {"cube": "red", "cylinder": "blue", "prism": "green", "star": "yellow", "moon": "purple"}
CELLS = {"prism": (-0.5, -1), "star": (-0.5, 0), "moon": (-0.5, 1), "cube": (0.5, -1), "cylinder": (0.5, 1)}
"""Where each hole is, in cells from the middle of the lid."""
_CLOSED_CELL = (0.5, 0)


class SortShape(Task):
    """Success: the named shape stands in its own hole, on the table (within 3 mm), at rest, no finger touches it."""

    name = "sort_shape"
    num_variations = len(SHAPES)
    max_keyposes = 10

    @classmethod
    def build(cls, scene: SceneBuilder) -> None:
        _add_sorter(scene.fixture(SORTER))
        for name in SHAPES:
            color, body = COLORS[SHAPE_COLORS[name]], scene.movable(name)
            if name == "cylinder":
                cylinder(body, CYLINDER_RADIUS, HALF_HEIGHT, color=color, mass=MASS, **STIFF)
                continue
            for piece in SOLIDS[name]:
                _add(body, piece, (0.0, 0.0), 0.0, HALF_HEIGHT, color, mass=MASS / len(SOLIDS[name]), **STIFF)

    def instructions(self) -> Sequence[str]:
        shape = self._named()
        return (
            f"put the {shape} in the shape sorter",
            f"pick up the {shape} and put it in the sorting box",
            f"place the {shape} into its hole in the shape sorter",
            f"slot the {shape} into the shape sorter",
            f"insert the {shape} into the box with the holes",
        )

    def held_out_instructions(self) -> Sequence[str]:
        shape = self._named()
        return (f"drop the {shape} through the hole that fits it", f"sort the {shape} into the box")

    def _named(self) -> str:
        return tuple(SHAPES.values())[self.variation]

    def _lay_out(self, stage: Stage, rng: np.random.Generator) -> None:
        self._target = tuple(SHAPES)[self.variation]
        place, turn = rng.uniform((0.43, -0.18), (0.52, 0.18)), rng.uniform(-SORTER_YAW, SORTER_YAW)
        stage.place(SORTER, (*place, 0.0), turn)
        along = CELL * np.array([-np.sin(turn), np.cos(turn)])
        taken = [(*(place + step * along), 0.13) for step in (-1, 0, 1)]
        places = spread(rng, len(SHAPES), (0.36, -0.34), (0.70, 0.34), 0.11, [*taken, (0.0, 0.0, 0.42)])
        for name, where in zip(SHAPES, places, strict=True):
            yaw = rng.uniform(-MAX_YAW, MAX_YAW)
            # That a cylinder is turned nobody sees.
            stage.place(name, (*where, HALF_HEIGHT), 0.0 if name == "cylinder" else yaw)
        self._start = dict(zip(SHAPES, places, strict=True))

    def success(self, stage: Stage) -> bool:
        name = self._target
        x, y, z = stage.position(name) - hole_of(stage, name)
        inside = np.hypot(x, y) < 0.01 and abs(z - HALF_HEIGHT) < 0.003 and stage.tilt(name) < 0.1
        released = not any(stage.touching(name, finger) for finger in FINGERS)
        return bool(inside and released and stage.speed(name) < STILL)

    def mistake(self, stage: Stage) -> str:
        moved = (
            np.linalg.norm(stage.position(name) - (*start, HALF_HEIGHT)) > 0.05
            for name, start in self._start.items()
            if name != self._target
        )
        return "wrong object" if any(moved) else ""

    def expert(self, stage: Stage) -> Iterator[Keypose]:
        (x, y, z), yaw = stage.position(self._target), stage.yaw(self._target)
        (u, v, _), turn = hole_of(stage, self._target), stage.yaw(SORTER)
        grasp = z - HALF_HEIGHT + GRASP
        yield down(x, y, grasp + HOVER, OPEN, yaw)
        yield down(x, y, grasp, CLOSED, yaw)
        yield down(x, y, grasp + LIFT, CLOSED, yaw)
        yield down(u, v, RELEASE + ABOVE, CLOSED, turn)
        yield down(u, v, RELEASE, OPEN, turn)


def hole_of(stage: Stage, name: str) -> Array:
    """The point of the table [3] below the middle of a shape's hole."""
    u, v = CELLS[name]
    return np.asarray(apply(stage.transform(SORTER), np.array([[CELL * u, CELL * v, 0.0]]))[0])


def _add_sorter(sorter: ET.Element) -> None:
    """Walls below a lid of six cells: five holes, framed in the colours of their shapes, and one that is closed."""
    edge, top = 0.5 * CELL, LID_TOP - 0.5 * LID_THICKNESS
    height = 0.5 * (LID_TOP - LID_THICKNESS)
    for side in (-1, 1):
        box(sorter, (CELL, 0.5 * WALL, height), (0, side * (1.5 * CELL - 0.5 * WALL), height), color=WOOD)
        box(sorter, (0.5 * WALL, 1.5 * CELL, height), (side * (CELL - 0.5 * WALL), 0, height), color=WOOD)
    u, v = _CLOSED_CELL
    _add(sorter, (0, 0, edge, edge, 0.0), (CELL * u, CELL * v), top, 0.5 * LID_THICKNESS, WOOD)
    for name, (u, v) in CELLS.items():
        color, middle = COLORS[SHAPE_COLORS[name]], (CELL * u, CELL * v)
        half_x, half_y, insets = HOLES[name]
        frame = [_facing(a, half_x, edge, half_y) for a in (0, 180)] + [
            _facing(a, half_y, edge, edge) for a in (90, 270)
        ]
        for piece in frame:
            _add(sorter, piece, middle, top, 0.5 * LID_THICKNESS, color, **SLIPPERY)
        for piece in insets:
            _add(sorter, piece, middle, top - INSET_BELOW, 0.5 * LID_THICKNESS, color, **SLIPPERY)


def _add(
    body: ET.Element,
    piece: Piece,
    middle: tuple[float, float],
    height: float,
    half_height: float,
    color: Color,
    **attributes: object,
) -> None:
    """Make a piece a box."""
    x, y, half_x, half_y, angle = piece
    position = (middle[0] + x, middle[1] + y, height)
    box(body, (half_x, half_y, half_height), position, color=color, euler=(0.0, 0.0, angle), **attributes)
