"""`put_item_on_shelf`: several items on the table, a rack with three boards; put the named item on the named board."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.geometry.transform import apply, invert
from minidiffuser_ros.simulation.parts import WOOD, box, cylinder
from minidiffuser_ros.simulation.stage import Stage
from minidiffuser_ros.simulation.tasks.base import CLOSED, OPEN, STILL, Task, scatter, smallest_yaw
from minidiffuser_ros.simulation.tasks.cabinet import LEVELS, LIGHT_WOOD, above, aim
from minidiffuser_ros.simulation.world import COLORS, SceneBuilder

RACK = "rack"
# As LEVELS; a ladder shelf: the higher a board the less deep, so that arm and camera reach the lower ones.
BOARD_TOPS, FRONT_EDGES = (0.30, 0.16, 0.02), (0.025, 0.05, 0.075)  # m above the table, and from the rack's middle
BACK_EDGE, HALF_WIDTH, HALF_BOARD = -0.075, 0.09, 0.005  # m
HALF_HEIGHTS = {"box": 0.032, "can": 0.030, "jar": 0.026, "bottle": 0.042}
ITEMS = tuple(HALF_HEIGHTS)
WISHES = tuple(product(ITEMS, LEVELS))

# The hand is tilted so that it reaches between two boards, and keeps its tilt so that the item stays upright.
TILT, AZIMUTH = np.deg2rad(45.0), np.deg2rad(80.0)
MAX_YAW = np.deg2rad(25.0)  # of the box, against that
# The hand turns here first: on the straight line to an item the arm may pass close to a singular posture.
START = (0.50, 0.0, 0.30)
HELD_AT = {"box": 0.010, "can": 0.010, "jar": 0.004, "bottle": 0.006}  # m above an item's middle: clear of the palm
HOVER, LIFT = 0.10, 0.17  # m above where the fingers close
INSIDE = 0.042  # m from a board's front edge to where an item is put
IN_FRONT = np.array([0.10, 0.0, 0.03])  # m from there to where the hand comes from, in the rack's frame
GAP = 0.004  # m the item is let fall
LOWEST = 0.015  # m above its board: lower lies no item
RELEASED_WIDTH = 0.066
LIFTED = 0.10  # m: higher is no item that stands on the table


class PutItemOnShelf(Task):
    """Success: the named item rests on the named board, released, still."""

    name = "put_item_on_shelf"
    num_variations = len(WISHES)
    max_keyposes = 9
    held_out = frozenset({WISHES.index(("can", "top")), WISHES.index(("jar", "middle"))})

    @classmethod
    def build(cls, scene: SceneBuilder) -> None:
        _add_rack(scene)
        _add_items(scene)

    def instructions(self) -> Sequence[str]:
        item, level = WISHES[self.variation]
        return (
            f"put the {item} on the {level} shelf",
            f"place the {item} on the {level} shelf of the rack",
            f"pick up the {item} and set it on the {level} shelf",
            f"take the {item} from the table and put it on the {level} board of the rack",
            f"the {item} goes on the {level} shelf",
        )

    def held_out_instructions(self) -> Sequence[str]:
        item, level = WISHES[self.variation]
        return (f"store the {item} on the {level} board", f"move the {item} onto the {level} shelf")

    def _lay_out(self, stage: Stage, rng: np.random.Generator) -> None:
        x, y = rng.uniform((0.38, 0.22), (0.54, 0.27))
        stage.place(RACK, (x, y, 0.0), np.deg2rad(rng.uniform(-85.0, -55.0)))
        places = scatter(rng, len(ITEMS), np.array([0.36, -0.30]), np.array([0.63, -0.03]), 0.12)
        for name, place in zip(ITEMS, places, strict=True):
            stage.place(name, (*place, HALF_HEIGHTS[name]), AZIMUTH + rng.uniform(-MAX_YAW, MAX_YAW))

    def success(self, stage: Stage) -> bool:
        item, level = WISHES[self.variation]
        index = LEVELS.index(level)
        x, y, z = apply(invert(stage.transform(RACK)), stage.position(item))
        on_board = BACK_EDGE < x < FRONT_EDGES[index] and abs(y) < HALF_WIDTH
        on_board &= LOWEST < z - BOARD_TOPS[index] < HALF_HEIGHTS[item] + 0.006
        still = stage.touching(item, RACK) and stage.speed(item) < STILL
        return bool(on_board and still and stage.finger_opening > RELEASED_WIDTH)

    def mistake(self, stage: Stage) -> str:
        asked, _ = WISHES[self.variation]
        lifted = any(stage.position(name)[2] > LIFTED for name in ITEMS if name != asked)
        return "wrong object" if lifted else ""

    def expert(self, stage: Stage) -> Iterator[Keypose]:
        item, level = WISHES[self.variation]
        grasp = above(stage.position(item), HELD_AT[item])
        towards = AZIMUTH + (smallest_yaw(stage.yaw(item) - AZIMUTH) if item == "box" else 0.0)
        yield aim(START, AZIMUTH, 0.0, OPEN)
        yield aim(above(grasp, HOVER), towards, TILT, OPEN)
        yield aim(grasp, towards, TILT, CLOSED)
        yield aim(above(grasp, LIFT), towards, TILT, CLOSED)
        rack, inwards = stage.transform(RACK), stage.yaw(RACK) + np.pi
        index = LEVELS.index(level)
        middle = BOARD_TOPS[index] + HALF_HEIGHTS[item] + GAP
        place = np.array([FRONT_EDGES[index] - INSIDE, 0.0, middle + HELD_AT[item]])
        yield aim(apply(rack, place + IN_FRONT), inwards, TILT, CLOSED)
        yield aim(apply(rack, place), inwards, TILT, OPEN)


def _add_rack(scene: SceneBuilder) -> None:
    """Boards on two rails at the back: a hand finds nothing at their sides."""
    rack = scene.fixture(RACK)
    for top, front in zip(BOARD_TOPS, FRONT_EDGES, strict=True):
        middle, half_depth = 0.5 * (front + BACK_EDGE), 0.5 * (front - BACK_EDGE)
        box(rack, (half_depth, HALF_WIDTH, HALF_BOARD), (middle, 0, top - HALF_BOARD), color=LIGHT_WOOD)
    rail = 0.5 * BOARD_TOPS[0]
    for y in (-0.06, 0.06):
        box(rack, (0.006, 0.01, rail), (BACK_EDGE - 0.006, y, rail), color=WOOD)
        box(rack, (0.07, 0.01, 0.005), (0, y, 0.005), color=WOOD)


def _add_items(scene: SceneBuilder) -> None:
    """Each of another shape and colour; their frames lie in their middles."""
    height = HALF_HEIGHTS["box"]
    box(scene.movable("box"), (0.020, 0.020, height), color=COLORS["yellow"], mass=0.1)
    can, height = scene.movable("can"), HALF_HEIGHTS["can"]
    cylinder(can, 0.023, height, color=COLORS["red"], mass=0.1)
    jar, height = scene.movable("jar"), HALF_HEIGHTS["jar"]
    cylinder(jar, 0.027, height - 0.006, (0, 0, -0.006), color=COLORS["green"], mass=0.1)
    cylinder(jar, 0.021, 0.006, (0, 0, height - 0.006), color=COLORS["black"], mass=0.01)
    bottle, height = scene.movable("bottle"), HALF_HEIGHTS["bottle"]
    cylinder(bottle, 0.022, height - 0.012, (0, 0, -0.012), color=COLORS["blue"], mass=0.1)
    cylinder(bottle, 0.011, 0.012, (0, 0, height - 0.012), color=COLORS["white"], mass=0.01)
