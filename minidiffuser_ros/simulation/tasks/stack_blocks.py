"""`stack_blocks`: put the block of one named colour on the block of another, among distractors."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import mujoco
import numpy as np

from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.geometry.rotation import rotation
from minidiffuser_ros.simulation.tasks.base import (
    CLOSED,
    COLOR_NAMES,
    OPEN,
    Task,
    down,
    finger_opening,
    paint,
    place_block,
    scatter,
)
from minidiffuser_ros.simulation.world import BLOCK_HALF_SIZE, BODIES

PAIRS = tuple(permutations(range(len(COLOR_NAMES)), 2))
MAX_YAW = np.deg2rad(30.0)
HOVER, LIFT, RETREAT = 0.10, 0.14, 0.10  # m above where the fingers close or open
RELEASED_WIDTH = 2 * BLOCK_HALF_SIZE + 0.006
STILL = 0.05  # m/s and rad/s
PLACE_GAP = 0.003  # m the block is let fall


class StackBlocks(Task):
    """Success: the first block rests on the second (centres within 2 cm sideways, 5 mm in height), released, still."""

    name = "stack_blocks"
    num_variations = len(PAIRS)
    max_keyposes = 10

    def instructions(self) -> Sequence[str]:
        top, bottom = (COLOR_NAMES[i] for i in PAIRS[self.variation])
        return (
            f"stack the {top} block on the {bottom} block",
            f"put the {top} block on top of the {bottom} block",
            f"place the {top} block on the {bottom} one",
            f"pick up the {top} block and set it on the {bottom} block",
            f"build a tower with the {bottom} block below and the {top} block on top",
        )

    def _lay_out(self, model: mujoco.MjModel, data: mujoco.MjData, rng: np.random.Generator) -> None:
        pair = PAIRS[self.variation]
        others = [i for i in range(len(COLOR_NAMES)) if i not in pair]
        count = int(rng.integers(3, len(BODIES.blocks) + 1))
        colors = [*pair, *rng.choice(others, size=count - 2, replace=False)]
        places = scatter(rng, count, np.array([0.38, -0.24]), np.array([0.62, 0.24]), 0.115)
        yaws = rng.uniform(-MAX_YAW, MAX_YAW, size=count)
        for name, color, place, yaw in zip(BODIES.blocks, colors, places, yaws, strict=False):
            place_block(model, data, name, np.array([*place, BLOCK_HALF_SIZE]), yaw)
            paint(model, name, COLOR_NAMES[color])

    def update(self, data: mujoco.MjData) -> None:
        """Nothing to remember: the rule speaks of the end only."""

    def success(self, data: mujoco.MjData) -> bool:
        top, bottom = (data.body(name) for name in BODIES.blocks[:2])
        offset = top.xpos - bottom.xpos
        resting = np.hypot(offset[0], offset[1]) < 0.02 and abs(offset[2] - 2 * BLOCK_HALF_SIZE) < 0.005
        standing = abs(bottom.xpos[2] - BLOCK_HALF_SIZE) < 0.005
        still = float(np.abs(data.joint(f"{BODIES.blocks[0]}_free").qvel).max()) < STILL
        return bool(resting and standing and still and finger_opening(data) > RELEASED_WIDTH)

    def expert(self, data: mujoco.MjData) -> list[Keypose]:
        (x, y, z), yaw = data.body(BODIES.blocks[0]).xpos, _yaw(data, BODIES.blocks[0])
        (u, v, w), turn = data.body(BODIES.blocks[1]).xpos, _yaw(data, BODIES.blocks[1])
        place = w + 2 * BLOCK_HALF_SIZE + PLACE_GAP
        return [
            down(x, y, z + HOVER, OPEN, yaw),
            down(x, y, z, CLOSED, yaw),
            down(x, y, z + LIFT, CLOSED, yaw),
            down(u, v, place + HOVER - 2 * BLOCK_HALF_SIZE, CLOSED, turn),
            down(u, v, place, OPEN, turn),
            down(u, v, place + RETREAT, OPEN, turn),
        ]


def _yaw(data: mujoco.MjData, name: str) -> float:
    """Yaw of a block, of the four equal ones the smallest."""
    yaw = float(rotation(data.body(name).xquat).as_euler("xyz")[2])
    return float((yaw + np.pi / 4) % (np.pi / 2) - np.pi / 4)
