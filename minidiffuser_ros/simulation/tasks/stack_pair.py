"""`stack_pair`: put the block of one named colour on the block of another, among distractors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations

import numpy as np

from minidiffuser_ros.contract.keypose import Keypose
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
from minidiffuser_ros.simulation.tasks.objects import BLOCK_HALF_SIZE, add_block
from minidiffuser_ros.simulation.world import SceneBuilder

BLOCKS = tuple(f"block_{i}" for i in range(4))
COLORS = COLOR_NAMES[:5]
PAIRS = tuple(permutations(COLORS, 2))
MAX_YAW = np.deg2rad(30.0)
HOVER, LIFT, RETREAT = 0.10, 0.14, 0.10  # m above where the fingers close or open
RELEASED_WIDTH = 2 * BLOCK_HALF_SIZE + 0.006
PLACE_GAP = 0.003  # m the block is let fall


class StackPair(Task):
    """Success: a first block rests on the second (centres within 2 cm sideways, 5 mm in height), released, still."""

    name = "stack_pair"
    num_variations = len(PAIRS)
    max_keyposes = 10
    double = 2

    @classmethod
    def build(cls, scene: SceneBuilder) -> None:
        for name in BLOCKS:
            add_block(scene, name)

    def instructions(self) -> Sequence[str]:
        top, bottom = PAIRS[self.variation]
        return (
            f"stack the {top} block on the {bottom} block",
            f"put the {top} block on top of the {bottom} block",
            f"place the {top} block on the {bottom} one",
            f"pick up the {top} block and set it on the {bottom} block",
            f"build a tower with the {bottom} block below and the {top} block on top",
        )

    def held_out_instructions(self) -> Sequence[str]:
        top, bottom = PAIRS[self.variation]
        return (f"lay the {top} cube onto the {bottom} cube", f"move the {top} block onto the {bottom} block")

    def _lay_out(self, stage: Stage, rng: np.random.Generator) -> None:
        count = int(rng.integers(3, len(BLOCKS) + 1))
        colors = some_colors(rng, PAIRS[self.variation], count, COLORS)
        for index in self.right:
            colors[index] = colors[0]
        places = scatter(rng, count, np.array([0.38, -0.24]), np.array([0.62, 0.24]), 0.115)
        yaws = rng.uniform(-MAX_YAW, MAX_YAW, size=count)
        for name, color, place, yaw in zip(BLOCKS, colors, places, yaws, strict=False):
            stage.place(name, (*place, BLOCK_HALF_SIZE), yaw)
            stage.paint(name, color)

    def success(self, stage: Stage) -> bool:
        standing = abs(stage.position(BLOCKS[1])[2] - BLOCK_HALF_SIZE) < 0.005
        stacked = any(self._rests(stage, BLOCKS[index]) for index in self.right)
        return bool(stacked and standing and stage.finger_opening > RELEASED_WIDTH)

    @staticmethod
    def _rests(stage: Stage, top: str) -> bool:
        """Whether a block lies on the second one."""
        offset = stage.position(top) - stage.position(BLOCKS[1])
        centred = np.hypot(offset[0], offset[1]) < 0.02 and abs(offset[2] - 2 * BLOCK_HALF_SIZE) < 0.005
        return bool(centred and stage.speed(top) < STILL)

    def mistake(self, stage: Stage) -> str:
        others = (name for index, name in enumerate(BLOCKS) if index not in self.right)
        raised = any(stage.position(name)[2] > 2 * BLOCK_HALF_SIZE for name in others)
        return "wrong object" if raised else ""

    def expert(self, stage: Stage) -> Iterator[Keypose]:
        (x, y, z), yaw = stage.position(BLOCKS[0]), smallest_yaw(stage.yaw(BLOCKS[0]))
        (u, v, w), turn = stage.position(BLOCKS[1]), smallest_yaw(stage.yaw(BLOCKS[1]))
        place = w + 2 * BLOCK_HALF_SIZE + PLACE_GAP
        yield down(x, y, z + HOVER, OPEN, yaw)
        yield down(x, y, z, CLOSED, yaw)
        yield down(x, y, z + LIFT, CLOSED, yaw)
        yield down(u, v, place + HOVER - 2 * BLOCK_HALF_SIZE, CLOSED, turn)
        yield down(u, v, place, OPEN, turn)
        yield down(u, v, place + RETREAT, OPEN, turn)
