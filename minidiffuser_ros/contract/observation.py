"""Observation and ObservationSpec: what a policy sees, and the numbers that make two observations comparable."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.contract.errors import ConfigurationError


@dataclass(frozen=True)
class ObservationSpec:
    """How a view of the table becomes points; written into every dataset and checkpoint.

    Lengths in metres, in the policy frame. `table_margin` is the thickness above `table_height` that counts
    as table. The workspace box crops the cloud, bounds the goals and normalises positions to [-1, 1].
    """

    policy_frame: str = "fr3_link0"
    workspace_min: tuple[float, float, float] = (0.25, -0.40, 0.0)
    workspace_max: tuple[float, float, float] = (0.75, 0.40, 0.50)
    voxel_size: float = 0.008
    max_points: int = 512
    table_height: float = 0.0
    table_margin: float = 0.006
    cameras: tuple[str, ...] = ("front", "wrist")

    def __post_init__(self) -> None:
        low, high = np.array(self.workspace_min), np.array(self.workspace_max)
        if low.shape != (3,) or high.shape != (3,) or not (low < high).all():
            raise ConfigurationError(
                f"workspace_min {self.workspace_min} must lie below workspace_max {self.workspace_max}"
            )
        if not 0.001 <= self.voxel_size <= 0.1:
            raise ConfigurationError(f"voxel_size must lie between 0.001 and 0.1 m, got {self.voxel_size}")
        if self.max_points < 16:
            raise ConfigurationError(f"max_points must be at least 16, got {self.max_points}")
        if not self.cameras:
            raise ConfigurationError("an observation needs at least one camera, got none")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON and YAML."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ObservationSpec:
        """Inverse of `to_dict`. Raises ConfigurationError for keys that do not exist."""
        known = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ConfigurationError(f"unknown observation settings {unknown}; known are {sorted(known)}")
        settings: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**settings)

    def differences(self, other: ObservationSpec) -> list[str]:
        """One line per field that differs, empty where the specs are the same."""
        mine, theirs = self.to_dict(), other.to_dict()
        return [f"{key}: {mine[key]} against {theirs[key]}" for key in mine if mine[key] != theirs[key]]


@dataclass(frozen=True)
class Observation:
    """What a policy sees at one instant, in the policy frame.

    points: [P, 3] float32 m. colors: [P, 3] uint8. tool_position: [3] m. tool_quat_wxyz: [4].
    joint_positions: [7] rad. opening: gripper in [0, 1]. stamp_ns: when the last pixel was taken.
    """

    points: NDArray[np.float32]
    colors: NDArray[np.uint8]
    tool_position: NDArray[np.float64]
    tool_quat_wxyz: NDArray[np.float64]
    joint_positions: NDArray[np.float64]
    opening: float
    stamp_ns: int
    spec: ObservationSpec


@dataclass(frozen=True)
class CameraMount:
    """Where a camera sits: the pose of its optical frame in `parent_frame` (the base or the tool)."""

    name: str
    parent_frame: str
    position: tuple[float, float, float]
    quat_wxyz: tuple[float, float, float, float]
