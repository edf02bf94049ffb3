"""What the arm is asked for: a keypose, where it comes from, and which way the tool shall go there."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minidiffuser_ros.arm.kinematics import BASE_FRAME
from minidiffuser_ros.contract.errors import GoalRejectedError
from minidiffuser_ros.contract.keypose import QUATERNION_TOLERANCE, Keypose
from minidiffuser_ros.contract.refusal import Reason, Refusal
from minidiffuser_ros.geometry.transform import transform_from

# The arm reaches 0.86 m. Numbers far beyond it are no far places, but places in another unit.
LARGEST_METRES = 5.0
LONGEST_OFFSET_M = 0.5


class Way(enum.IntEnum):
    """How the tool gets to the pose; the numbers are those of the Keypose message."""

    AUTO = 0  # the straight line where the arm can follow it, else a planned way
    LINE = 1  # the straight line or nothing, as contact needs it
    PLANNED = 2  # any way that touches nothing


@dataclass(frozen=True)
class KeyposeGoal:
    """A keypose and where it comes from: `stamp_ns` of the observation it answers, 0 where there is none.

    approach_m: length of the straight last part of the way, along the tool's own z; retreat_m: of the straight way
    back after the gripper has moved, against it. 0: none.
    """

    keypose: Keypose
    stamp_ns: int = 0
    frame: str = BASE_FRAME
    way: Way = Way.AUTO
    approach_m: float = 0.0
    retreat_m: float = 0.0

    def stations(self) -> dict[str, NDArray[np.float64]]:
        """`T_base_tool` [4, 4] of the poses that straight lines connect, in their order, and what each of them is."""
        pose = transform_from(self.keypose.position, self.keypose.quat_wxyz)
        stations = {"the goal": pose}
        if self.approach_m > 0.0:
            stations = {"the start of the approach": _behind(pose, self.approach_m), **stations}
        if self.retreat_m > 0.0:
            stations["the end of the retreat"] = _behind(pose, self.retreat_m)
        return stations

    def problems(self) -> list[Refusal]:
        """What makes no sense in it, wherever the arm is."""
        offsets = _offset_problems(self.approach_m, self.retreat_m)
        return _unit_problems(self.keypose.position) + offsets


def goal_from_numbers(
    position: ArrayLike,
    quat_wxyz: ArrayLike,
    opening: float,
    *,
    stamp_ns: int = 0,
    frame: str = BASE_FRAME,
    way: int = Way.AUTO,
    approach_m: float = 0.0,
    retreat_m: float = 0.0,
) -> KeyposeGoal:
    """A goal from position [3] m, quaternion [4] and gripper opening [0, 1], as they came from somewhere.

    Raises GoalRejectedError with every reason, each with its code, where they are none.
    """
    reasons = _pose_problems(position, quat_wxyz) + _offset_problems(approach_m, retreat_m)
    if not np.isfinite(opening):
        reasons.append(Refusal(Reason.NOT_FINITE, f"the gripper opening is not finite: {opening}"))
    elif not 0.0 <= opening <= 1.0:
        reasons.append(
            Refusal(Reason.BAD_OPENING, f"gripper opening must lie in [0, 1], 0 closed and 1 open, got {opening:g}")
        )
    if way not in tuple(Way):
        known = ", ".join(f"{member.value} ({member.name})" for member in Way)
        reasons.append(Refusal(Reason.UNKNOWN_WAY, f"motion must be one of {known}, got {way}"))
    if reasons:
        raise GoalRejectedError(*reasons)
    keypose = Keypose(np.array(position, dtype=np.float64), np.array(quat_wxyz, dtype=np.float64), opening)
    return KeyposeGoal(keypose, stamp_ns, frame, Way(way), float(approach_m), float(retreat_m))


def _behind(tool: NDArray[np.float64], distance_m: float) -> NDArray[np.float64]:
    behind = tool.copy()
    behind[:3, 3] -= distance_m * tool[:3, 2]
    return behind


def _pose_problems(position: ArrayLike, quat_wxyz: ArrayLike) -> list[Refusal]:
    place, turn = np.asarray(position, dtype=np.float64), np.asarray(quat_wxyz, dtype=np.float64)
    reasons = []
    for name, values, count in (("position", place, 3), ("quaternion", turn, 4)):
        if values.shape != (count,) or not np.isfinite(values).all():
            reasons.append(
                Refusal(Reason.NOT_FINITE, f"the {name} must be {count} finite numbers, got {values.tolist()}")
            )
    if reasons:
        return reasons
    norm = float(np.linalg.norm(turn))
    if abs(norm - 1.0) > QUATERNION_TOLERANCE:
        reasons.append(
            Refusal(Reason.NOT_A_ROTATION, f"a unit quaternion is needed, got one of norm {norm:.4f}: normalize it")
        )
    return reasons + _unit_problems(place)


def _unit_problems(position: NDArray[np.float64]) -> list[Refusal]:
    if float(np.abs(position).max()) <= LARGEST_METRES:
        return []
    text = "({:g}, {:g}, {:g})".format(*position)
    return [Refusal(Reason.WRONG_UNIT, f"the position {text} looks like millimetres: give it in metres")]


def _offset_problems(approach_m: float, retreat_m: float) -> list[Refusal]:
    return [
        Refusal(Reason.BAD_OFFSET, f"{name} must lie in [0, {LONGEST_OFFSET_M:g}] m, got {value:g}")
        for name, value in (("approach", approach_m), ("retreat", retreat_m))
        if not 0.0 <= value <= LONGEST_OFFSET_M  # NaN, too
    ]
