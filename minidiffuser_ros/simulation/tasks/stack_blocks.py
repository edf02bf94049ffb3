"""`stack_blocks`: build a tower of two, three or four blocks of the named colour on a board."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.simulation.parts import WOOD, box
from minidiffuser_ros.simulation.stage import Stage
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
from minidiffuser_ros.simulation.tasks.objects import STIFF, add_block, spread
from minidiffuser_ros.simulation.world import SceneBuilder

BOARD = "board"
BOARD_HALF_SIZE, BOARD_HEIGHT = 0.05, 0.012
HALF_SIZE = 0.020  # of a block: four of them hide less of the table than larger ones
TARGETS, OTHERS = tuple(f"target_{i}" for i in range(4)), tuple(f"other_{i}" for i in range(4))
HEIGHTS = {2: "two", 3: "three", 4: "four"}  # of the tower, in blocks
VARIATIONS = tuple(product(COLOR_NAMES, HEIGHTS))
MAX_YAW = np.deg2rad(30.0)
BOARD_CLEARANCE = 0.15  # m: the hand, low at a block, must not touch the tower
ARM_CLEARANCE = 0.44  # m from the robot's base: nearer the arm must fold so far that it swings on straight lines
HOVER, LIFT, RETREAT = 0.12, 0.16, 0.10  # m above the block, above its next place, above where the fingers opened
RELEASED_WIDTH = 2 * HALF_SIZE + 0.006
PLACE_GAP = 0.003  # m a block is let fall


class StackBlocks(Task):
    """Success: just so many blocks of the colour stand on the board as one tower, released and still, and nothing else.

    Each centre is within 2 cm of that below sideways, and within 5 mm of its height.
    """

    name = "stack_blocks"
    num_variations = len(VARIATIONS)
    max_keyposes = 26
    held_out = frozenset({1, 8, 12, 19, 26})  # five colours, each with a number that others are seen with

    @classmethod
    def build(cls, scene: SceneBuilder) -> None:
        half = 0.5 * BOARD_HEIGHT
        box(scene.fixture(BOARD), (BOARD_HALF_SIZE, BOARD_HALF_SIZE, half), (0, 0, half), color=WOOD)
        for name in TARGETS + OTHERS:
            add_block(scene, name, HALF_SIZE, condim=3, **STIFF)

    def instructions(self) -> Sequence[str]:
        color, count = VARIATIONS[self.variation]
        return (
            f"stack {count} {color} blocks",
            f"stack {HEIGHTS[count]} {color} blocks on the board",
            f"place {count} of the {color} cubes on top of each other",
            f"build a tower of {HEIGHTS[count]} {color} blocks",
            f"pile up {HEIGHTS[count]} {color} cubes",
        )

    def held_out_instructions(self) -> Sequence[str]:
        color, count = VARIATIONS[self.variation]
        return (
            f"make a stack of {HEIGHTS[count]} {color} blocks on the wooden board",
            f"set {count} {color} blocks one upon the other",
        )

    def _lay_out(self, stage: Stage, rng: np.random.Generator) -> None:
        color, self._count = VARIATIONS[self.variation]
        color, distractor = some_colors(rng, [color], 2)
        names = TARGETS + OTHERS[: int(rng.integers(3, len(OTHERS) + 1))]
        x, y = rng.uniform((0.38, -0.25), (0.48, 0.25))
        stage.place(BOARD, (x, y, 0.0), rng.uniform(-MAX_YAW, MAX_YAW))
        taken = [(x, y, BOARD_CLEARANCE), (0.0, 0.0, ARM_CLEARANCE)]
        places = spread(rng, len(names), (0.36, -0.33), (0.69, 0.33), 0.10, taken)
        for name, place in zip(names, places, strict=True):
            stage.place(name, (*place, HALF_SIZE), rng.uniform(-MAX_YAW, MAX_YAW))
            stage.paint(name, color if name in TARGETS else distractor)

    def success(self, stage: Stage) -> bool:
        tower = _on_board(stage)
        if len(tower) != self._count or not set(tower) <= set(TARGETS):
            return False
        places = np.array([stage.position(name) for name in tower])
        rise = np.diff(places, axis=0, prepend=[[*stage.position(BOARD)[:2], BOARD_HEIGHT - HALF_SIZE]])
        stacked = np.hypot(rise[:, 0], rise[:, 1]) < 0.02
        level = np.abs(rise[:, 2] - 2 * HALF_SIZE) < 0.005
        still = all(stage.speed(name) < STILL for name in tower)
        return bool(stacked.all() and level.all() and still and stage.finger_opening > RELEASED_WIDTH)

    def mistake(self, stage: Stage) -> str:
        raised = any(stage.position(name)[2] > HALF_SIZE + 0.5 * BOARD_HEIGHT for name in OTHERS)
        return "wrong object" if raised else ""

    def expert(self, stage: Stage) -> Iterator[Keypose]:
        u, v, _ = stage.position(BOARD)
        turn = smallest_yaw(stage.yaw(BOARD))
        for level in range(self._count):
            place = BOARD_HEIGHT + (2 * level + 1) * HALF_SIZE + PLACE_GAP
            name = _nearest(stage)
            (x, y, z), yaw = stage.position(name), smallest_yaw(stage.yaw(name))
            yield down(x, y, z + HOVER, OPEN, yaw)
            yield down(x, y, z, CLOSED, yaw)
            # So high that the hand does not hide the tower from the camera in front.
            yield down(x, y, place + LIFT, CLOSED, yaw)
            yield down(u, v, place, OPEN, turn)
            if level + 1 < self._count:
                yield down(u, v, place + RETREAT, OPEN, turn)


def _distance(stage: Stage, name: str) -> float:
    """Of a block from the middle of the board, sideways."""
    x, y, _ = stage.position(name) - stage.position(BOARD)
    return float(np.hypot(x, y))


def _on_board(stage: Stage) -> list[str]:
    """The blocks on or above the board, from below."""
    over = [name for name in TARGETS + OTHERS if _distance(stage, name) < BOARD_HALF_SIZE]
    return sorted(over, key=lambda name: float(stage.position(name)[2]))


def _nearest(stage: Stage) -> str:
    """The block of the named colour to take next: of those not on the board the one nearest to it."""
    on_board = _on_board(stage)
    return min((name for name in TARGETS if name not in on_board), key=lambda name: _distance(stage, name))
