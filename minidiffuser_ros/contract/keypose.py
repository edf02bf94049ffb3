"""Keypose: one waypoint of the tool, the unit of action of the whole package (Mini-Diffuser v2, eq. 1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.geometry.rotation import angle_between_deg

QUATERNION_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Keypose:
    """Where the tool shall be, and how far the gripper is open when it got there.

    position: [3] m, in the policy frame. quat_wxyz: [4], unit. opening: gripper in [0, 1], 1 is open.
    Raises ConfigurationError for values that are no pose.
    """

    position: NDArray[np.float64]
    quat_wxyz: NDArray[np.float64]
    opening: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "position", np.array(self.position, dtype=np.float64))
        object.__setattr__(self, "quat_wxyz", np.array(self.quat_wxyz, dtype=np.float64))
        object.__setattr__(self, "opening", float(self.opening))
        if self.position.shape != (3,) or self.quat_wxyz.shape != (4,):
            raise ConfigurationError(
                f"a keypose has a position of 3 and a quaternion of 4 numbers, "
                f"got shapes {self.position.shape} and {self.quat_wxyz.shape}"
            )
        if not (np.isfinite(self.position).all() and np.isfinite(self.quat_wxyz).all()):
            raise ConfigurationError(f"a keypose must be finite, got {self.position} and {self.quat_wxyz}")
        norm = float(np.linalg.norm(self.quat_wxyz))
        if abs(norm - 1.0) > QUATERNION_TOLERANCE:
            raise ConfigurationError(f"a keypose needs a unit quaternion, got one of norm {norm:.4f}")
        if not 0.0 <= self.opening <= 1.0:
            raise ConfigurationError(f"gripper opening must lie in [0, 1], got {self.opening}")

    @property
    def is_open(self) -> bool:
        """Whether the gripper counts as open."""
        return self.opening > 0.5

    def distance_to(self, position: ArrayLike, quat_wxyz: ArrayLike) -> tuple[float, float]:
        """Distance to another pose: metres, and degrees on the rotation group."""
        return (
            float(np.linalg.norm(self.position - np.asarray(position))),
            float(angle_between_deg(self.quat_wxyz, quat_wxyz)),
        )
