"""Observations from clouds that another project has lifted already, with what it knows of the robot in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.contract.errors import EpisodeError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.contract.observation import Observation, ObservationSpec
from minidiffuser_ros.geometry.transform import transform_from
from minidiffuser_ros.geometry.volumes import Volume
from minidiffuser_ros.perception.builder import ObservationBuilder

MAX_STEPS = 10_000
# Single precision and the rounding of other programs; more is no unit quaternion.
QUATERNION_SLACK = 0.01

Cloud = tuple[NDArray[np.float32], NDArray[np.uint8]]


@dataclass(frozen=True)
class LiftedStep:
    """A view that was lifted elsewhere: clouds of the cameras, the tool, the joints, and the robot's solids."""

    clouds: Sequence[Cloud]
    pose: Keypose
    joints: NDArray[np.float64]
    robot: Sequence[Volume] = ()


def observe(step: LiftedStep, index: int, spec: ObservationSpec) -> Observation:
    """The observation of a step, by the same crop, voxel grid and thinning as a live one; its number is its stamp."""
    builder = ObservationBuilder(spec, lambda _joints, _opening: step.robot)
    tool = transform_from(step.pose.position, step.pose.quat_wxyz)
    seen = builder.build_from_clouds(step.clouds, step.joints, step.pose.opening, tool, index)
    # As given: the way through a matrix rounds it.
    return dataclasses.replace(seen, tool_quat_wxyz=step.pose.quat_wxyz)


def before_each_keypose(steps: Iterable[LiftedStep], spec: ObservationSpec) -> list[tuple[Observation, Keypose]]:
    """What was seen at each step, and the pose of the next. The last repeats its own: a finished policy stays there.

    A step is let go as soon as it was observed, so that only one large cloud is held at a time.
    """
    observations, poses = [], []
    for index, step in enumerate(steps):
        observations.append(observe(step, index, spec))
        poses.append(step.pose)
    if len(poses) < 2:
        raise EpisodeError(f"it has {len(poses)} steps: a demonstration needs a start and at least one keypose")
    return list(zip(observations, [*poses[1:], poses[-1]], strict=True))


def pose_from_xyzw(row: NDArray[Any], opening: float) -> Keypose:
    """The pose [7] of position and quaternion with the scalar last, as simulators and tf give it.

    Raises EpisodeError where the quaternion is none; one that is off by rounding is made unit.
    """
    position, quat = np.asarray(row[:3], np.float64), np.asarray(row[3:7], np.float64)[[3, 0, 1, 2]]
    norm = float(np.linalg.norm(quat))
    if not (np.isfinite(position).all() and abs(norm - 1.0) < QUATERNION_SLACK):
        raise EpisodeError(f"a pose must be finite with a quaternion of norm 1, is {np.round(row, 4).tolist()}")
    return Keypose(position, quat / norm, float(opening))


def cloud_of(points: NDArray[Any], colors: NDArray[Any]) -> Cloud:
    """Points [..., 3] and colours [..., 3] as a cloud; points that are not finite are left out.

    Colours are bytes, or fractions of 1 as open3d writes them. Raises EpisodeError where the two do not fit.
    """
    if points.shape != colors.shape or points.shape[-1:] != (3,) or points.dtype.kind != "f":
        raise EpisodeError(
            f"points and colours must be arrays of equal shape, of floats and 3 to a row, are {points.dtype} "
            f"{points.shape} and {colors.dtype} {colors.shape}"
        )
    with np.errstate(over="ignore"):  # what is too far for single precision becomes infinite and is left out
        points, colors = points.reshape(-1, 3).astype(np.float32), colors.reshape(-1, 3)
    finite = np.isfinite(points).all(axis=1)
    if colors.dtype == np.uint8:
        return points[finite], colors[finite].copy()
    if colors.dtype.kind != "f" or not np.isfinite(colors).all():
        raise EpisodeError(f"colours must be bytes or fractions, are {colors.dtype}")
    # Fractions where nothing exceeds 1; some stores keep bytes as floats.
    scale = 255.0 if colors.size == 0 or colors.max() <= 1.0 else 1.0
    if colors.size and (colors.min() < 0.0 or colors.max() * scale > 255.0):
        raise EpisodeError(f"colours must lie in [0, 1] or [0, 255], reach from {colors.min()} to {colors.max()}")
    return points[finite], np.round(colors[finite] * scale).astype(np.uint8)
