"""What every task has: objects, a layout drawn from a seed, sentences, an exact success rule and a scripted expert.

The expert and the rules read object poses; a policy never does.
"""

from __future__ import annotations

import abc
import zlib
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.contract.errors import UnknownTaskError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.geometry.rotation import POINTING_DOWN_WXYZ, quat_from_yaw, quat_multiply
from minidiffuser_ros.simulation.shifts import NONE, Shift
from minidiffuser_ros.simulation.stage import Stage
from minidiffuser_ros.simulation.world import COLORS, SceneBuilder

Array = NDArray[np.float64]
COLOR_NAMES: tuple[str, ...] = tuple(COLORS)
OPEN, CLOSED = 1.0, 0.0
STILL = 0.05  # m/s and rad/s: slower is at rest
FINGERTIP_BELOW_TOOL = 0.0085  # m from fr3_hand_tcp to the end of the fingers


class Task(abc.ABC):
    """One language task in its own scene. Reset it, call `update` after every physics step, ask `success`.

    held_out: variations that are drawn for the shift `combinations` only. double: the other thing that is right, too,
    under the shift `doubles`; 0 where the task has none. grasps: whether a gripper that closes on nothing has missed
    something.
    """

    name: ClassVar[str]
    num_variations: ClassVar[int]
    max_keyposes: ClassVar[int]
    held_out: ClassVar[frozenset[int]] = frozenset()
    double: ClassVar[int] = 0
    grasps: ClassVar[bool] = True

    @classmethod
    @abc.abstractmethod
    def build(cls, scene: SceneBuilder) -> None:
        """Add all objects of all variations to the scene."""

    def reset(self, stage: Stage, seed: int, variation: int | None = None, shift: Shift = NONE) -> str:
        """Lay out the objects and return the sentence; the variation is drawn from the seed unless given.

        Touches objects only, never the arm. Raises UnknownTaskError for a variation that does not exist.
        """
        self.check_variation(variation, shift)
        rng = np.random.default_rng([zlib.crc32(self.name.encode()), seed])
        kept = self._kept(shift)
        drawn = kept[int(rng.integers(len(kept)))]
        self.variation = drawn if variation is None or variation < 0 else variation
        self.sentence = self.instructions()[0]
        if shift.paraphrases:
            unheard = self.held_out_instructions()
            self.sentence = unheard[int(np.random.default_rng([seed, 11]).integers(len(unheard)))]
        self.right: tuple[int, ...] = (0, self.double) if shift.doubles else (0,)
        stage.clear()
        self._lay_out(stage, rng)
        stage.settle()
        return self.sentence

    @classmethod
    def check_variation(cls, variation: int | None, shift: Shift = NONE) -> None:
        """Raises UnknownTaskError for one that does not exist, or where a shift leaves none."""
        if variation is not None and variation >= cls.num_variations:
            raise UnknownTaskError(f"task '{cls.name}' has variations 0 to {cls.num_variations - 1}, got {variation}")
        if not cls._kept(shift):
            raise UnknownTaskError(f"task '{cls.name}' holds no variation back: it has no shift 'combinations'")
        if shift.doubles and not cls.double:
            raise UnknownTaskError(f"task '{cls.name}' has nothing to double: it has no shift 'doubles'")

    @classmethod
    def _kept(cls, shift: Shift) -> list[int]:
        """The variations that may be drawn."""
        return [v for v in range(cls.num_variations) if (v in cls.held_out) == shift.combinations]

    def instruction(self) -> str:
        """What was said at the reset."""
        return self.sentence

    @abc.abstractmethod
    def instructions(self) -> Sequence[str]:
        """Every sentence that training says for this variation, the canonical one first."""

    @abc.abstractmethod
    def held_out_instructions(self) -> Sequence[str]:
        """Sentences for this variation that training never says."""

    @abc.abstractmethod
    def _lay_out(self, stage: Stage, rng: np.random.Generator) -> None:
        """Place and paint the objects of this variation. All are parked, joints at rest, colours as last time."""

    def update(self, stage: Stage) -> None:  # noqa: B027
        """Watch one physics step and remember what must not have happened; most rules speak of the end only."""

    @abc.abstractmethod
    def success(self, stage: Stage) -> bool:
        """Whether the instruction is fulfilled now."""

    def mistake(self, stage: Stage) -> str:
        """What has been done that the sentence does not ask for, such as 'wrong object'; empty where nothing has."""
        return ""

    @abc.abstractmethod
    def expert(self, stage: Stage) -> Iterator[Keypose]:
        """The keyposes that perform the instruction from the freshly reset scene.

        Each may be computed from the scene as it is when it is asked for: the ones before have been executed.
        """


def down(x: float, y: float, z: float, opening: float, yaw: float = 0.0) -> Keypose:
    """A keypose with the hand pointing straight down, turned by `yaw` rad about the vertical.

    At yaw 0 the fingers open along y.
    """
    return Keypose(np.array([x, y, z]), quat_multiply(quat_from_yaw(yaw), POINTING_DOWN_WXYZ), opening)


def smallest_yaw(yaw: float, symmetry: int = 4) -> float:
    """Of all yaws that look the same on a thing with so many equal sides the smallest, in rad."""
    period = 2 * np.pi / symmetry
    return float((yaw + 0.5 * period) % period - 0.5 * period)


def scatter(rng: np.random.Generator, count: int, low: Array, high: Array, distance: float) -> Array:
    """`count` points [count, 2] drawn uniformly from a rectangle, no two closer than `distance`."""
    for _ in range(1000):
        points = rng.uniform(low, high, size=(count, 2))
        gaps = np.linalg.norm(points[:, None] - points[None], axis=-1) + np.eye(count)
        if gaps.min() >= distance:
            return points
    raise RuntimeError(f"{count} objects at {distance} m do not fit between {low} and {high}")


def some_colors(
    rng: np.random.Generator, first: Sequence[str], count: int, palette: Sequence[str] = COLOR_NAMES
) -> list[str]:
    """`count` colours without repetition: `first`, then others of the palette at random."""
    others = [color for color in palette if color not in first]
    return [*first, *rng.permutation(others)[: count - len(first)].tolist()]
