"""`close_jar`: put the lid on the jar of the named colour and turn it shut."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence

import numpy as np

from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.simulation.parts import GREY, STEEL, WOOD, box, cylinder, ring
from minidiffuser_ros.simulation.stage import Stage
from minidiffuser_ros.simulation.tasks.base import (
    CLOSED,
    COLOR_NAMES,
    OPEN,
    STILL,
    Task,
    down,
    scatter,
    smallest_yaw,
    some_colors,
)
from minidiffuser_ros.simulation.tasks.objects import FIRM
from minidiffuser_ros.simulation.world import SceneBuilder

JARS, LID = tuple(f"jar_{i}" for i in range(2)), "lid"
JAR_RADIUS, JAR_WALL, RIM = 0.028, 0.005, 0.060  # m inside, thick, high
PLUG_RADIUS, PLUG_DEPTH = 0.0255, 0.008  # m, what of the lid goes into the jar
DISC_RADIUS, DISC_HEIGHT = 0.033, 0.008
LUG_HALF_WIDTH, LUG_HEIGHT, LUG_END = 0.008, 0.007, 0.047
HOOK_MIDDLE, HOOK_HALF_DEPTH = 0.042, 0.0065
HOOK_GAP, ROOF, ROOF_END = 0.012, 0.005, 0.008  # m; the gap is 5 mm higher than a lug
GRIP_HALF_SIZE, GRIP_BOTTOM = (0.022, 0.012, 0.011), 0.008
GRIP = 0.0205  # m from the underside of the disc to the tool: the fingers stay above the disc
OPEN_TURN = np.pi / 2  # rad against the clock from shut, where the lugs pass between the hooks
CLOSED_YAWS = np.deg2rad([-60.0, 0.0])  # of jars; the arm turns farther against the clock than with it
LID_YAWS = np.deg2rad([-45.0, 75.0])
HOVER, LIFT, PRESS = 0.10, 0.16, 0.001
COAXIAL, SEATED, UPRIGHT, SHUT = 0.004, 0.003, np.deg2rad(5.0), np.deg2rad(12.0)


class CloseJar(Task):
    """Success: the lid sits on the jar of the named colour, both lugs under its hooks, released, still.

    A bayonet: the lid goes on a quarter turn away from shut, and is then turned clockwise until its lugs are under the
    hooks. It cannot be put there from above, and whether it has been turned can be seen.
    """

    name = "close_jar"
    num_variations = len(COLOR_NAMES)
    max_keyposes = 10

    @classmethod
    def build(cls, scene: SceneBuilder) -> None:
        for name in JARS:
            jar = scene.fixture(name)
            cylinder(jar, JAR_RADIUS + JAR_WALL, 0.003, (0, 0, 0.003), name=name)
            ring(jar, JAR_RADIUS, JAR_WALL, 0.5 * RIM, (0, 0, 0.5 * RIM), segments=12, name=name, friction=0.3)
            for side in (-1, 1):
                _add_hook(jar, side)
        lid = scene.movable(LID)
        cylinder(lid, PLUG_RADIUS, 0.5 * PLUG_DEPTH, (0, 0, -0.5 * PLUG_DEPTH), color=GREY, friction=0.3, mass=0.03)
        cylinder(lid, DISC_RADIUS, 0.5 * DISC_HEIGHT, (0, 0, 0.5 * DISC_HEIGHT), color=STEEL, friction=0.3, mass=0.03)
        half = 0.5 * (LUG_END - PLUG_RADIUS)
        for side in (-1, 1):
            place = (side * (LUG_END - half), 0, 0.5 * LUG_HEIGHT)
            box(lid, (half, LUG_HALF_WIDTH, 0.5 * LUG_HEIGHT), place, color=GREY, friction=0.3, mass=0.004)
        box(lid, GRIP_HALF_SIZE, (0, 0, GRIP_BOTTOM + GRIP_HALF_SIZE[2]), color=WOOD, mass=0.01, **FIRM)

    def instructions(self) -> Sequence[str]:
        color = COLOR_NAMES[self.variation]
        return (
            f"close the {color} jar",
            f"put the lid on the {color} jar and turn it shut",
            f"screw the lid onto the {color} jar",
            f"shut the {color} jar with the lid",
            f"pick up the lid and twist it onto the jar that is {color}",
        )

    def held_out_instructions(self) -> Sequence[str]:
        color = COLOR_NAMES[self.variation]
        return (f"seal the {color} jar", f"the {color} jar is open, fasten the lid on it")

    def _lay_out(self, stage: Stage, rng: np.random.Generator) -> None:
        colors = some_colors(rng, [COLOR_NAMES[self.variation]], len(JARS))
        # So wide apart that the hand, 20 cm wide, touches no jar where it grasps the lid on the table.
        places = scatter(rng, len(JARS) + 1, np.array([0.38, -0.26]), np.array([0.62, 0.26]), 0.165)
        for name, color, place in zip(JARS, colors, places[1:], strict=True):
            stage.place(name, (*place, 0.0), rng.uniform(*CLOSED_YAWS))
            stage.paint(name, color)
        stage.place(LID, (*places[0], PLUG_DEPTH), rng.uniform(*LID_YAWS))

    def success(self, stage: Stage) -> bool:
        sideways, height = _offset(stage, JARS[0])
        seated = sideways < COAXIAL and abs(height) < SEATED and stage.tilt(LID) < UPRIGHT
        shut = abs(smallest_yaw(stage.yaw(LID) - stage.yaw(JARS[0]), 2)) < SHUT
        released = stage.finger_opening > 2 * GRIP_HALF_SIZE[1] + 0.006
        return bool(seated and shut and released and stage.speed(LID) < STILL)

    def mistake(self, stage: Stage) -> str:
        sideways, height = _offset(stage, JARS[1])
        return "wrong object" if sideways < DISC_RADIUS and height < 0.03 else ""

    def expert(self, stage: Stage) -> Iterator[Keypose]:
        (x, y, z), yaw = stage.position(LID), smallest_yaw(stage.yaw(LID), 2)
        yield down(x, y, z + GRIP + HOVER, OPEN, yaw)
        yield down(x, y, z + GRIP, CLOSED, yaw)
        yield down(x, y, z + GRIP + LIFT, CLOSED, yaw)
        (x, y, z), shut = stage.position(JARS[0]), smallest_yaw(stage.yaw(JARS[0]), 2)
        place = z + RIM + GRIP - PRESS
        yield down(x, y, place + HOVER, CLOSED, shut + OPEN_TURN)
        yield down(x, y, place, CLOSED, shut + OPEN_TURN)
        yield down(x, y, place, OPEN, shut)


def _add_hook(jar: ET.Element, side: int) -> None:
    """On the rim at +x or -x: a roof over the lug of a shut lid, and a post at which it stops."""
    bottom, top = RIM - 0.012, RIM + HOOK_GAP + ROOF
    post, half_post = LUG_HALF_WIDTH + 0.005, 0.004
    half_roof = 0.5 * (post + half_post + ROOF_END)
    for half_width, half_height, y, z in (
        (half_post, 0.5 * (top - bottom), -post, 0.5 * (top + bottom)),
        (half_roof, 0.5 * ROOF, half_roof - post - half_post, top - 0.5 * ROOF),
    ):
        place = (side * HOOK_MIDDLE, side * y, z)
        box(jar, (HOOK_HALF_DEPTH, half_width, half_height), place, color=GREY, friction=0.3)


def _offset(stage: Stage, jar: str) -> tuple[float, float]:
    """How far beside a jar the lid is, and how far above its seat."""
    offset = stage.position(LID) - stage.position(jar)
    return float(np.hypot(offset[0], offset[1])), float(offset[2] - RIM)
