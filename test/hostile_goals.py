"""Goals that no arm may follow, drawn from a seed: class by class, each with the code that it must be refused with.

`Numbers` are as a message carries them, before anybody has looked at them. Every other number of a hostile goal is
that of a good one, so that nothing else refuses it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from minidiffuser_ros.arm.goal import KeyposeGoal, goal_from_numbers
from minidiffuser_ros.arm.limits import SafetyLimits
from minidiffuser_ros.contract.refusal import Reason
from minidiffuser_ros.geometry.rotation import POINTING_DOWN_WXYZ, quat_from_euler_deg, quat_from_yaw, quat_multiply

SECOND = 10**9
# From home every good goal is nearer than this, and the far end of the table is not.
LIMITS = SafetyLimits(max_step_m=0.6, allow_undated=False)
Draw = np.random.Generator


@dataclass(frozen=True)
class Numbers:
    """Position [3] m, quaternion [4] wxyz, opening; and what else a goal says of itself."""

    position: tuple[float, ...]
    quat_wxyz: tuple[float, ...]
    opening: float
    stamp_ns: int
    frame: str = "fr3_link0"
    way: int = 0
    approach_m: float = 0.0
    retreat_m: float = 0.0

    def goal(self) -> KeyposeGoal:
        """Raises GoalRejectedError where they are none."""
        return goal_from_numbers(
            self.position, self.quat_wxyz, self.opening, stamp_ns=self.stamp_ns, frame=self.frame, way=self.way,
            approach_m=self.approach_m, retreat_m=self.retreat_m,
        )  # fmt: skip


def good(draw: Draw, now_ns: int) -> Numbers:
    """A goal over the middle of the table, which answers an observation of a second ago."""
    position = draw.uniform([0.40, -0.15, 0.15], [0.55, 0.15, 0.35])
    quat = quat_multiply(quat_from_yaw(draw.uniform(-0.5, 0.5)), POINTING_DOWN_WXYZ)
    return Numbers(_floats(position), _floats(quat), float(draw.choice([0.0, 1.0])), now_ns - SECOND)


def _broken(value: Callable[[Draw], float]) -> Callable[[Draw, Numbers], Numbers]:
    """One of the eight numbers of the pose becomes a value."""

    def broken(draw: Draw, numbers: Numbers) -> Numbers:
        values = [*numbers.position, *numbers.quat_wxyz, numbers.opening]
        values[draw.integers(8)] = value(draw)
        return dataclasses.replace(numbers, position=tuple(values[:3]), quat_wxyz=tuple(values[3:7]), opening=values[7])

    return broken


def _at(low: list[float], high: list[float], sides: int = 1) -> Callable[[Draw, Numbers], Numbers]:
    """The position lies in a box, on one of so many sides of the robot."""

    def at(draw: Draw, numbers: Numbers) -> Numbers:
        x, y, z = draw.uniform(low, high)
        return dataclasses.replace(numbers, position=(x, y * draw.choice([-1.0, 1.0]) if sides == 2 else y, z))

    return at


def _turned(*rpy_deg: tuple[float, float]) -> Callable[[Draw, Numbers], Numbers]:
    """The tool points down and is turned about its own axes by angles from these ranges."""

    def turned(draw: Draw, numbers: Numbers) -> Numbers:
        angles = [draw.uniform(*sorted(span)) for span in rpy_deg]
        return dataclasses.replace(
            numbers, quat_wxyz=_floats(quat_multiply(POINTING_DOWN_WXYZ, quat_from_euler_deg(angles)))
        )

    return turned


def _scaled_quat(draw: Draw, numbers: Numbers) -> Numbers:
    factor = draw.choice([0.0, draw.uniform(0.0, 0.99), draw.uniform(1.01, 10.0)])
    return dataclasses.replace(numbers, quat_wxyz=tuple(factor * value for value in numbers.quat_wxyz))


def _millimetres(draw: Draw, numbers: Numbers) -> Numbers:
    return dataclasses.replace(numbers, position=tuple(1000.0 * value for value in numbers.position))


def _low_and_tilted(draw: Draw, numbers: Numbers) -> Numbers:
    low = dataclasses.replace(numbers, position=(*numbers.position[:2], draw.uniform(0.010, 0.018)))
    return _turned((0.0, 0.0), (80.0, 90.0), (0.0, 0.0))(draw, low)


def _pointing_back_to_the_base(draw: Draw, numbers: Numbers) -> Numbers:
    place = _at([0.55, -0.3, 0.1], [0.7, 0.3, 0.4])(draw, numbers)
    return _turned((-5.0, 5.0), (-90.0, -80.0), (0.0, 0.0))(draw, place)


def _stamped(low_s: float, high_s: float) -> Callable[[Draw, Numbers], Numbers]:
    """So many seconds later than a good one."""

    def stamped(draw: Draw, numbers: Numbers) -> Numbers:
        return dataclasses.replace(numbers, stamp_ns=numbers.stamp_ns + int(SECOND * draw.uniform(low_s, high_s)))

    return stamped


def _offset(draw: Draw, numbers: Numbers) -> Numbers:
    value = float(draw.choice([-0.02, np.nan, np.inf, 0.6, 80.0]))
    return dataclasses.replace(numbers, **{str(draw.choice(["approach_m", "retreat_m"])): value})  # type: ignore[arg-type]


HOSTILE: dict[str, tuple[Reason, Callable[[Draw, Numbers], Numbers]]] = {
    "not a number": (Reason.NOT_FINITE, _broken(lambda draw: float("nan"))),
    "infinite": (Reason.NOT_FINITE, _broken(lambda draw: float(draw.choice([np.inf, -np.inf])))),
    "no rotation": (Reason.NOT_A_ROTATION, _scaled_quat),
    "opening": (
        Reason.BAD_OPENING,
        lambda draw, n: dataclasses.replace(n, opening=float(draw.choice([-1e-3, 1.001, -5.0, 80.0]))),
    ),
    "outside": (Reason.OUTSIDE_WORKSPACE, _at([0.35, 0.41, 0.1], [0.6, 1.5, 0.6], sides=2)),
    "behind": (Reason.OUTSIDE_WORKSPACE, _at([-0.8, -0.3, 0.1], [0.24, 0.3, 0.5])),
    "under the table": (Reason.BELOW_TABLE, _at([0.4, -0.2, -0.5], [0.6, 0.2, 0.0085])),
    "hand into the table": (Reason.HAND_INTO_TABLE, _low_and_tilted),
    "out of reach": (Reason.UNREACHABLE, _at([0.72, 0.36, 0.46], [0.75, 0.40, 0.50], sides=2)),
    "no such posture": (Reason.UNREACHABLE, _pointing_back_to_the_base),
    "a jump": (Reason.TOO_FAR, _at([0.68, 0.34, 0.02], [0.75, 0.40, 0.06], sides=2)),
    "a turn": (Reason.TOO_LARGE_TURN, _turned((0.0, 0.0), (0.0, 0.0), (174.0, 186.0))),
    "stale": (Reason.STALE, _stamped(-1e6, -60.0)),
    "from the future": (Reason.FROM_THE_FUTURE, _stamped(60.0, 1e6)),
    "undated": (Reason.UNDATED, lambda draw, n: dataclasses.replace(n, stamp_ns=0)),
    "another frame": (
        Reason.UNKNOWN_FRAME,
        lambda draw, n: dataclasses.replace(n, frame=str(draw.choice(["map", "camera", "fr3_hand_tcp", "FR3_LINK0"]))),
    ),
    "millimetres": (Reason.WRONG_UNIT, _millimetres),
    "an offset": (Reason.BAD_OFFSET, _offset),
    "an unknown way": (
        Reason.UNKNOWN_WAY,
        lambda draw, n: dataclasses.replace(n, way=int(draw.integers(3, 255))),
    ),
}


def hostile(name: str, count: int, now_ns: int) -> list[Numbers]:
    """So many goals of one class; the same ones each time."""
    _, spoil = HOSTILE[name]
    draw = np.random.default_rng([7, list(HOSTILE).index(name)])
    return [spoil(draw, good(draw, now_ns)) for _ in range(count)]


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
