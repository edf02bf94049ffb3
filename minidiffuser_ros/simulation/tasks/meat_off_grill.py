"""`meat_off_grill`: take the chicken or the steak off the grill and put it on the plate beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.geometry.transform import apply, invert
from minidiffuser_ros.simulation.parts import CERAMIC, GREY, STEEL, Color, ball, box, capsule, cylinder, ring
from minidiffuser_ros.simulation.stage import Stage
from minidiffuser_ros.simulation.tasks.base import CLOSED, OPEN, STILL, Task, down, smallest_yaw
from minidiffuser_ros.simulation.tasks.objects import GRIPPED
from minidiffuser_ros.simulation.world import SceneBuilder

GRILL, PLATE = "grill", "plate"
MEATS = ("chicken", "steak")
BLACK: Color = (0.10, 0.10, 0.11)
COALS: Color = (0.20, 0.15, 0.13)
ROASTED: Color = (0.82, 0.53, 0.20)
BONE: Color = (0.93, 0.89, 0.78)
SEARED: Color = (0.60, 0.19, 0.15)
CHARRED: Color = (0.28, 0.09, 0.07)
FAT: Color = (0.90, 0.79, 0.68)

DEEP, WIDE = 0.075, 0.122  # m: half the grill, to the front and to the sides
FIRE_HEIGHT, GRATE_HEIGHT = 0.064, 0.075  # m over the table: coals, and the top of the bars
BARS, BAR_HALF_WIDTH = 7, 0.003
PLATE_RADIUS, PLATE_TOP = 0.066, 0.010
HALF_HEIGHT = {"chicken": 0.021, "steak": 0.011}
X, SIDE, PLATE_AHEAD, PLATE_SIDE = (0.46, 0.56), (0.0, 0.19), (-0.02, 0.02), (0.212, 0.240)
MEAT_SIDE, MEAT_JITTER = 0.066, (0.012, 0.008)  # m from the middle of the grill, and about that place
MAX_YAW, MEAT_YAW = np.deg2rad(15.0), np.deg2rad(20.0)

ON_PLATE = 0.045  # m from its middle
LIFTED = 0.04  # m above where a meat lies on the grate
RELEASED_WIDTH = 0.062  # m between the fingers, more than either meat is wide
HOVER, LIFT = 0.09, 0.12  # m above where the fingers close or open
PLACE_GAP = 0.004  # m the meat is let fall


class MeatOffGrill(Task):
    """Success: the named meat was lifted and lies still on the plate, released, the other one is still on the grill."""

    name = "meat_off_grill"
    num_variations = len(MEATS)
    max_keyposes = 10

    @classmethod
    def build(cls, scene: SceneBuilder) -> None:
        _add_grill(scene)
        plate = scene.fixture(PLATE)
        cylinder(plate, PLATE_RADIUS, 0.5 * PLATE_TOP, (0, 0, 0.5 * PLATE_TOP), color=CERAMIC)
        ring(plate, PLATE_RADIUS, 0.006, 0.008, (0, 0, 0.008), color=CERAMIC)
        _add_chicken(scene)
        _add_steak(scene)

    def instructions(self) -> Sequence[str]:
        meat = MEATS[self.variation]
        return (
            f"take the {meat} off the grill and put it on the plate",
            f"move the {meat} from the grill to the plate",
            f"lift the {meat} off the grill onto the plate",
            f"pick up the {meat} and serve it on the plate",
            f"remove the {meat} from the grill and lay it on the plate",
        )

    def held_out_instructions(self) -> Sequence[str]:
        meat = MEATS[self.variation]
        return (f"the {meat} is done, put it on the plate", f"get the {meat} from the grate and onto the plate")

    def _lay_out(self, stage: Stage, rng: np.random.Generator) -> None:
        self._lifted = False
        side, yaw = rng.choice([-1.0, 1.0]), rng.uniform(-MAX_YAW, MAX_YAW)
        stage.place(GRILL, (rng.uniform(*X), -side * rng.uniform(*SIDE), 0.0), yaw)
        stage.settle()
        grill = stage.transform(GRILL)
        beside = np.array([[rng.uniform(*PLATE_AHEAD), side * rng.uniform(*PLATE_SIDE), 0.0]])
        stage.place(PLATE, apply(grill, beside)[0])
        for name, way in zip(rng.permutation(MEATS), (-1.0, 1.0), strict=True):
            x, y = rng.uniform(-1.0, 1.0, 2) * MEAT_JITTER + (0.0, way * MEAT_SIDE)
            place = apply(grill, np.array([[x, y, GRATE_HEIGHT + HALF_HEIGHT[name]]]))[0]
            stage.place(name, place, yaw + rng.uniform(-MEAT_YAW, MEAT_YAW) + np.pi * rng.integers(2))

    def update(self, stage: Stage) -> None:
        # What is pushed over the edge may fall on the plate, too.
        meat = MEATS[self.variation]
        self._lifted |= bool(stage.position(meat)[2] > GRATE_HEIGHT + HALF_HEIGHT[meat] + LIFTED)

    def success(self, stage: Stage) -> bool:
        meat, other = MEATS[self.variation], MEATS[1 - self.variation]
        offset = stage.position(meat) - stage.position(PLATE)
        served = np.hypot(offset[0], offset[1]) < ON_PLATE and offset[2] < PLATE_TOP + HALF_HEIGHT[meat] + 0.006
        released = stage.finger_opening > RELEASED_WIDTH
        return bool(self._lifted and served and released and stage.speed(meat) < STILL and _on_grill(stage, other))

    def mistake(self, stage: Stage) -> str:
        return "" if _on_grill(stage, MEATS[1 - self.variation]) else "wrong object"

    def expert(self, stage: Stage) -> Iterator[Keypose]:
        meat = MEATS[self.variation]
        (x, y, z), yaw = stage.position(meat), smallest_yaw(stage.yaw(meat), 2)
        yield down(x, y, z + HOVER, OPEN, yaw)
        yield down(x, y, z, CLOSED, yaw)
        yield down(x, y, z + LIFT, CLOSED, yaw)
        u, v, _ = stage.position(PLATE)
        yield down(u, v, z + LIFT, CLOSED, yaw)
        yield down(u, v, PLATE_TOP + HALF_HEIGHT[meat] + PLACE_GAP, OPEN, yaw)


def _on_grill(stage: Stage, meat: str) -> bool:
    x, y, z = apply(invert(stage.transform(GRILL)), stage.position(meat)[None])[0]
    return bool(abs(x) < DEEP and abs(y) < WIDE and GRATE_HEIGHT < z < GRATE_HEIGHT + HALF_HEIGHT[meat] + LIFTED)


def _add_grill(scene: SceneBuilder) -> None:
    """A fire box on legs under a grate; its lid stands open behind it, on the robot's side."""
    grill = scene.fixture(GRILL)
    half = 0.5 * (FIRE_HEIGHT - 0.024)
    box(grill, (DEEP, WIDE, half), (0, 0, 0.024 + half), color=BLACK)
    box(grill, (DEEP - 0.006, WIDE - 0.006, 0.0005), (0, 0, FIRE_HEIGHT), color=COALS, solid=False)
    half = 0.5 * (GRATE_HEIGHT - FIRE_HEIGHT)
    for side in (-1, 1):
        box(grill, (DEEP, 0.003, half), (0, side * (WIDE - 0.003), FIRE_HEIGHT + half), color=BLACK)
        box(grill, (0.003, WIDE, half), (side * (DEEP - 0.003), 0, FIRE_HEIGHT + half), color=BLACK)
        for front in (-1, 1):
            cylinder(grill, 0.008, 0.013, (front * (DEEP - 0.012), side * (WIDE - 0.012), 0.013), color=STEEL)
    for x in np.linspace(-DEEP, DEEP, BARS + 2)[1:-1]:
        bar = (BAR_HALF_WIDTH, WIDE - 0.003, BAR_HALF_WIDTH)
        box(grill, bar, (x, 0, GRATE_HEIGHT - BAR_HALF_WIDTH), color=STEEL)
    back, middle = -DEEP - 0.014, GRATE_HEIGHT + 0.027
    box(grill, (0.005, WIDE, 0.033), (back, 0, middle), color=GREY, euler=(0.0, -0.35, 0.0))
    back, top = back - 0.0135, middle + 0.037
    capsule(grill, 0.006, (back, -0.05, top), (back, 0.05, top), color=STEEL)


def _add_chicken(scene: SceneBuilder) -> None:
    """A drumstick along x, with a flat side to lie on."""
    chicken, under = scene.movable("chicken"), -HALF_HEIGHT["chicken"]
    capsule(chicken, 0.020, (-0.016, 0, 0), (0.008, 0, 0), color=ROASTED, mass=0.06, **GRIPPED)
    capsule(chicken, 0.014, (0.008, 0, -0.003), (0.032, 0, -0.003), color=ROASTED, mass=0.015)
    box(chicken, (0.026, 0.014, 0.003), (-0.002, 0, under + 0.003), color=ROASTED, mass=0.02)
    capsule(chicken, 0.006, (0.03, 0, -0.003), (0.056, 0, -0.003), color=BONE, mass=0.004)
    for side in (-1, 1):
        ball(chicken, 0.008, (0.060, side * 0.006, -0.003), color=BONE, mass=0.002)


def _add_steak(scene: SceneBuilder) -> None:
    """A flat piece along x with round ends, a rim of fat, and the marks of the grate."""
    steak, half = scene.movable("steak"), HALF_HEIGHT["steak"]
    box(steak, (0.020, 0.026, half - 0.0005), color=SEARED, mass=0.06, **GRIPPED)
    for x in (-0.020, 0.020):
        cylinder(steak, 0.026, half, (x, 0, 0), color=SEARED, mass=0.02)
    box(steak, (0.020, 0.003, half + 0.0006), (0, 0.0235, 0), color=FAT, solid=False)
    for x in (-0.024, -0.008, 0.008, 0.024):
        box(steak, (0.002, 0.018, 0.001), (x, -0.001, half), color=CHARRED, solid=False)
