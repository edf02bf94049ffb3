"""What every task has: objects laid out from a seed, a sentence, an exact success rule and a scripted expert.

The expert reads object poses; a policy never does.
"""

from __future__ import annotations

import abc
import zlib
from collections.abc import Sequence
from typing import ClassVar

import mujoco
import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.contract.errors import UnknownTaskError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.geometry.rotation import POINTING_DOWN_WXYZ, quat_from_yaw, quat_multiply
from minidiffuser_ros.simulation.world import BODIES, COLORS, PREFIX, parked_position

Array = NDArray[np.float64]
COLOR_NAMES: tuple[str, ...] = tuple(COLORS)
OPEN, CLOSED = 1.0, 0.0


class Task(abc.ABC):
    """One language task in the shared world. Reset it, call `update` after every physics step, ask `success`."""

    name: ClassVar[str]
    num_variations: ClassVar[int]
    max_keyposes: ClassVar[int]

    def reset(self, model: mujoco.MjModel, data: mujoco.MjData, seed: int, variation: int | None = None) -> str:
        """Lay out the objects and return the instruction; the variation is drawn from the seed unless given.

        Touches objects only, never the arm. Raises UnknownTaskError for a variation that does not exist.
        """
        rng = np.random.default_rng([zlib.crc32(self.name.encode()), seed])
        drawn = int(rng.integers(self.num_variations))
        self.variation = drawn if variation is None or variation < 0 else variation
        if self.variation >= self.num_variations:
            raise UnknownTaskError(f"task '{self.name}' has variations 0 to {self.num_variations - 1}, got {variation}")
        park_all(model, data)
        self._lay_out(model, data, rng)
        mujoco.mj_forward(model, data)
        return self.instruction()

    def instruction(self) -> str:
        """The canonical sentence of this variation."""
        return self.instructions()[0]

    @abc.abstractmethod
    def instructions(self) -> Sequence[str]:
        """Every sentence for this variation, the canonical one first."""

    @abc.abstractmethod
    def _lay_out(self, model: mujoco.MjModel, data: mujoco.MjData, rng: np.random.Generator) -> None:
        """Place and colour the objects of this variation."""

    @abc.abstractmethod
    def update(self, data: mujoco.MjData) -> None:
        """Watch one physics step; what must not have happened meanwhile is remembered here."""

    @abc.abstractmethod
    def success(self, data: mujoco.MjData) -> bool:
        """Whether the instruction is fulfilled now."""

    @abc.abstractmethod
    def expert(self, data: mujoco.MjData) -> list[Keypose]:
        """The keyposes that perform the instruction from the freshly reset scene."""


def down(x: float, y: float, z: float, opening: float, yaw: float = 0.0) -> Keypose:
    """A keypose with the hand pointing straight down, turned by `yaw` rad about the vertical."""
    return Keypose(np.array([x, y, z]), quat_multiply(quat_from_yaw(yaw), POINTING_DOWN_WXYZ), opening)


def park_all(model: mujoco.MjModel, data: mujoco.MjData) -> None:
    """Take every object off the table and let every button rest."""
    for slot, name in enumerate(BODIES.buttons + BODIES.blocks):
        if name in BODIES.buttons:
            place_button(model, data, name, np.array(parked_position(slot)))
        else:
            place_block(model, data, name, np.array(parked_position(slot)), 0.0)


def place_button(model: mujoco.MjModel, data: mujoco.MjData, name: str, position: Array) -> None:
    """Put a button's base at `position` [3] and release its cap."""
    data.mocap_pos[model.body(name).mocapid[0]] = position
    joint = model.joint(f"{name}_slide")
    data.qpos[joint.qposadr[0]] = 0.0
    data.qvel[joint.dofadr[0]] = 0.0


def place_block(model: mujoco.MjModel, data: mujoco.MjData, name: str, position: Array, yaw: float) -> None:
    """Put a block's centre at `position` [3], turned by `yaw` rad, at rest."""
    joint = model.joint(f"{name}_free")
    start, velocity = joint.qposadr[0], joint.dofadr[0]
    data.qpos[start : start + 3] = position
    data.qpos[start + 3 : start + 7] = quat_from_yaw(yaw)
    data.qvel[velocity : velocity + 6] = 0.0


def paint(model: mujoco.MjModel, geom: str, color: str) -> None:
    """Give a geom one of the named colours."""
    model.geom_rgba[model.geom(geom).id, :3] = COLORS[color]


def scatter(rng: np.random.Generator, count: int, low: Array, high: Array, distance: float) -> Array:
    """`count` points [count, 2] drawn uniformly from a rectangle, no two closer than `distance`."""
    for _ in range(1000):
        points = rng.uniform(low, high, size=(count, 2))
        gaps = np.linalg.norm(points[:, None] - points[None], axis=-1) + np.eye(count)
        if gaps.min() >= distance:
            return points
    raise RuntimeError(f"{count} objects at {distance} m do not fit between {low} and {high}")


def finger_opening(data: mujoco.MjData) -> float:
    """Distance between the fingers in metres."""
    return float(data.joint(PREFIX + "finger_joint1").qpos[0] + data.joint(PREFIX + "finger_joint2").qpos[0])
