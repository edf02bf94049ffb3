"""The twist that leads the tool to a keypose, as a person at a joystick would: straight, steady, slower at the end."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.contract.errors import require_positive
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.geometry.rotation import rotation
from minidiffuser_ros.geometry.transform import pose_of

Array = NDArray[np.float64]


def _positive(default: float, description: str, unit: str) -> float:
    value: float = field(default=default, metadata={"description": description, "unit": unit, "range": (1e-4, 1e3)})
    return value


@dataclass(frozen=True)
class ReachSettings:
    """How fast, and how close is there. Raises ConfigurationError for what is not above 0."""

    linear_speed: float = _positive(0.15, "Speed of the tool on its way", "m/s")
    angular_speed: float = _positive(0.6, "Rate of its turn", "rad/s")
    approach_s: float = _positive(0.3, "Time constant with which the last part of the way is closed", "s")
    position_tolerance_m: float = _positive(0.002, "Distance that counts as there", "m")
    rotation_tolerance_deg: float = _positive(1.0, "Angle that counts as there", "deg")

    def __post_init__(self) -> None:
        require_positive(self, tuple(vars(self)))


def twist_towards(tool: Array, keypose: Keypose, settings: ReachSettings) -> Array:
    """Velocity of the tool [6]: linear in m/s, then angular in rad/s, both along the base's axes.

    tool: `T_base_tool` [4, 4]. Position and rotation arrive together: the slower of them sets the time.
    """
    way, turn = _difference(tool, keypose)
    time_s = max(
        float(np.linalg.norm(way)) / settings.linear_speed,
        float(np.linalg.norm(turn)) / settings.angular_speed,
        settings.approach_s,
    )
    return np.concatenate([way, turn]) / time_s


def is_there(tool: Array, keypose: Keypose, settings: ReachSettings, fraction: float = 1.0) -> bool:
    """Whether the tool is within the tolerances, or within a fraction of them."""
    way, turn = _difference(tool, keypose)
    return bool(
        np.linalg.norm(way) <= fraction * settings.position_tolerance_m
        and np.rad2deg(np.linalg.norm(turn)) <= fraction * settings.rotation_tolerance_deg
    )


def _difference(tool: Array, keypose: Keypose) -> tuple[Array, Array]:
    """From the tool to the keypose: metres [3] and a rotation vector [3] in rad, along the base's axes."""
    position, quat = pose_of(tool)
    turn: Array = (rotation(keypose.quat_wxyz) * rotation(quat).inv()).as_rotvec()
    return keypose.position - position, turn
