"""`slide_block_to_target`: push a block over the table into the bay of the named colour, one of four around it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.simulation.stage import Stage
from minidiffuser_ros.simulation.tasks.base import (
    CLOSED,
    COLOR_NAMES,
    STILL,
    Task,
    down,
    smallest_yaw,
    some_colors,
)
from minidiffuser_ros.simulation.tasks.objects import add_bay, add_slider, lies_in_bay
from minidiffuser_ros.simulation.world import SceneBuilder

BLOCK = "block"
BAYS = tuple(f"bay_{i}" for i in range(4))
HALF_SIZE, HALF_HEIGHT = 0.028, 0.021
INSIDE = HALF_SIZE + 0.012  # half the free width of a bay
CENTER = (np.array([0.455, -0.16]), np.array([0.545, 0.16]))
MAX_YAW = np.deg2rad(25.0)
DISTANCE = (0.115, 0.135)  # m from the block to a bay
AT_TARGET = 0.014  # m both ways between the centres of block and bay
LIFTED = 0.02  # m
HELD_WIDTH = 0.01  # m between fingers that have closed on the block, and not on nothing behind it
FINGER_HALF_WIDTH = 0.0105
TURN = np.deg2rad(45.0)
HOVER, PUSH_HEIGHT = 0.11, 0.022  # m of the tool above the table
GAP = 0.014  # m between the fingers and the block before the push


class SlideBlockToTarget(Task):
    """Success: the block lies in the bay of the named colour (centres within 14 mm), still, and was never lifted."""

    name = "slide_block_to_target"
    num_variations = len(COLOR_NAMES)
    max_keyposes = 6
    grasps = False

    @classmethod
    def build(cls, scene: SceneBuilder) -> None:
        add_slider(scene, BLOCK, (HALF_SIZE, HALF_SIZE, HALF_HEIGHT))
        for name in BAYS:
            add_bay(scene, name, INSIDE)

    def instructions(self) -> Sequence[str]:
        color = COLOR_NAMES[self.variation]
        return (
            f"slide the block to the {color} target",
            f"push the block onto the {color} target",
            f"slide the block over the table into the {color} bay",
            f"push the wooden block until it lies on the {color} target",
            f"shift the block to the target that is {color}",
        )

    def held_out_instructions(self) -> Sequence[str]:
        color = COLOR_NAMES[self.variation]
        return (f"shove the block across to the {color} target", f"the {color} target is where the block must slide")

    def _lay_out(self, stage: Stage, rng: np.random.Generator) -> None:
        self._lifted = False
        colors = some_colors(rng, [COLOR_NAMES[self.variation]], len(BAYS))
        center, yaw = rng.uniform(*CENTER), rng.uniform(-MAX_YAW, MAX_YAW)
        stage.place(BLOCK, (*center, HALF_HEIGHT), yaw)
        for name, color, side in zip(BAYS, colors, rng.permutation(4), strict=True):
            turn = yaw + side * 0.5 * np.pi
            reach = rng.uniform(*DISTANCE)
            stage.place(name, (*(center + reach * np.array([np.cos(turn), np.sin(turn)])), 0.0), turn)
            stage.paint(name, color)

    def update(self, stage: Stage) -> None:
        self._lifted |= bool(stage.position(BLOCK)[2] > HALF_HEIGHT + LIFTED)

    def success(self, stage: Stage) -> bool:
        held = stage.held(BLOCK) and stage.finger_opening > HELD_WIDTH
        still = stage.speed(BLOCK) < STILL
        return _lies_in(stage, BAYS[0]) and still and not held and not self._lifted

    def mistake(self, stage: Stage) -> str:
        return "wrong object" if any(_lies_in(stage, bay) for bay in BAYS[1:]) else ""

    def expert(self, stage: Stage) -> Iterator[Keypose]:
        block, bay = stage.position(BLOCK)[:2], stage.position(BAYS[0])[:2]
        along = (bay - block) / np.linalg.norm(bay - block)
        # The closed fingers are broad and flat across their opening only.
        yaw = smallest_yaw(np.arctan2(along[1], along[0]) - TURN, 2) + TURN
        behind = HALF_SIZE + FINGER_HALF_WIDTH
        (x, y), (u, v) = block - (behind + GAP) * along, bay - behind * along
        yield down(x, y, HOVER, CLOSED, yaw)
        yield down(x, y, PUSH_HEIGHT, CLOSED, yaw)
        yield down(u, v, PUSH_HEIGHT, CLOSED, yaw)


def _lies_in(stage: Stage, bay: str) -> bool:
    return lies_in_bay(stage, BLOCK, bay, HALF_HEIGHT, AT_TARGET)
