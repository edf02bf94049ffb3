"""Things that several tasks use: blocks, buttons, bays with what slides into them, and how many things find room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.geometry.transform import apply, invert
from minidiffuser_ros.simulation.parts import GREY, WOOD, box, child, cylinder, slide
from minidiffuser_ros.simulation.stage import Stage
from minidiffuser_ros.simulation.world import SceneBuilder

BLOCK_HALF_SIZE = 0.022
BUTTON_CAP_RADIUS = 0.024
BUTTON_CAP_TOP = 0.045
BUTTON_TRAVEL = 0.014
BUTTON_SPRING = 0.004  # m above the resting cap: where the spring pulls it to
PRESSED_AT = 0.008  # m of travel after which a button counts as pressed
BAY_EDGE, BAY_HEIGHT = 0.012, 0.018  # m: thickness and height of the edges of a bay


def add_block(scene: SceneBuilder, name: str, half_size: float = BLOCK_HALF_SIZE, **attributes: object) -> None:
    """A cube that can be grasped from any side; its geom has the body's name. Attributes: see `parts.geom`."""
    box(scene.movable(name), (half_size,) * 3, (0, 0, 0), name=name, mass=0.08, **attributes)


def add_button(scene: SceneBuilder, name: str) -> None:
    """A base that carries a cap on a spring: joint `<name>_slide`, geom `<name>_cap`."""
    base = scene.fixture(name)
    box(base, (0.038, 0.038, 0.0125), (0, 0, 0.0125), color=GREY)
    cap = child(base, f"{name}_cap")
    spring = {"stiffness": 150, "springref": BUTTON_SPRING, "damping": 2, "armature": 0.02}
    slide(cap, f"{name}_slide", (0, 0, 1), (-BUTTON_TRAVEL, 0), **spring)
    half = 0.5 * (BUTTON_CAP_TOP - 0.025) + 0.002
    cylinder(cap, BUTTON_CAP_RADIUS, half, (0, 0, BUTTON_CAP_TOP - half), name=f"{name}_cap", mass=0.03)
    scene.let_pass(name, f"{name}_cap")


FIRM: dict[str, Any] = {"priority": 1, "solref": (0.004, 1.0), "solimp": (0.99, 0.999, 0.001)}
"""Contacts of a handle that must neither creep nor turn between the fingers; resting on something it would tremble."""

STIFF: dict[str, Any] = {"priority": 1, "solref": (0.005, 1.0)}
"""Contacts of what must not slip sideways between the fingers; those of MuJoCo give way by some millimetres."""

GRIPPED: dict[str, Any] = {
    "friction": 2.0, "priority": 2, "condim": 3, "solref": (0.005, 1), "solimp": (0.998, 0.999, 0.001),
}  # fmt: skip
"""Attributes of what the fingers hold: with soft contacts a thing slips, a long one turns, as the arm moves."""


def spread(
    rng: np.random.Generator,
    count: int,
    low: Sequence[float],
    high: Sequence[float],
    distance: float,
    taken: Sequence[tuple[float, float, float]] = (),
) -> NDArray[np.float64]:
    """`count` points [count, 2] of a rectangle, one after the other, where `scatter` would rarely find room.

    No two are closer than `distance`, none lies in a circle (x, y, radius) of `taken`.
    """
    for _ in range(100):
        points: list[NDArray[np.float64]] = []
        for _ in range(100 * count):
            point = rng.uniform(low, high)
            others = [(*other, distance) for other in points]
            if all(np.hypot(point[0] - x, point[1] - y) >= radius for x, y, radius in (*taken, *others)):
                points.append(point)
            if len(points) == count:
                return np.array(points)
    raise RuntimeError(f"{count} objects at {distance} m do not fit between {low} and {high}")


def add_slider(scene: SceneBuilder, name: str, half_size: tuple[float, float, float]) -> None:
    """A wooden block to be pushed over the table: too smooth to tip."""
    box(scene.movable(name), half_size, color=WOOD, mass=0.1, friction=0.5, priority=1)
    # MuJoCo's usual pyramid of friction pulls aside what slides askew to x and y; a cone does not.
    option = scene.simulator.scene.find("option")
    assert option is not None
    option.set("cone", "elliptic")


def add_bay(scene: SceneBuilder, name: str, inside: float) -> None:
    """A square target that a thing slides into along x: a painted floor, raised edges on the three other sides.

    inside: half its free width; its geoms are numbered from `<name>_0`.
    """
    bay = scene.fixture(name)
    # What is flat is taken for table, and the thing must not be lifted by it: the edges are what a policy sees.
    middle, half = inside + 0.5 * BAY_EDGE, 0.5 * BAY_HEIGHT
    box(bay, (inside, inside, 0.0005), (0, 0, 0.0005), name=f"{name}_0", solid=False)
    box(bay, (0.5 * BAY_EDGE, inside + BAY_EDGE, half), (middle, 0, half), name=f"{name}_1")
    for index, side in ((2, -middle), (3, middle)):
        box(bay, (inside, 0.5 * BAY_EDGE, half), (0, side, half), name=f"{name}_{index}")


def lies_in_bay(stage: Stage, name: str, bay: str, half_height: float, within: float) -> bool:
    """Whether a body lies flat on the floor of a bay, its centre less than `within` from the middle both ways."""
    x, y, z = apply(invert(stage.transform(bay)), stage.position(name)[None])[0]
    return bool(max(abs(x), abs(y)) < within and abs(z - half_height) < 0.005)
