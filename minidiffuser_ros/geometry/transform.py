"""Homogeneous transforms: `T_a_b` [4, 4] maps points given in frame b to frame a."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minidiffuser_ros.geometry.rotation import matrix_from_quat, quat_from_matrix

Array = NDArray[np.float64]


def transform_from(position: ArrayLike, quat_wxyz: ArrayLike) -> Array:
    """Transform [4, 4] of a position [3] in metres and a unit quaternion [4]."""
    matrix = np.eye(4)
    matrix[:3, :3] = matrix_from_quat(quat_wxyz)
    matrix[:3, 3] = np.asarray(position, dtype=np.float64)
    return matrix


def pose_of(transform: ArrayLike) -> tuple[Array, Array]:
    """Position [3] and quaternion `quat_wxyz` [4] of a transform."""
    matrix = np.asarray(transform, dtype=np.float64)
    return matrix[:3, 3].copy(), quat_from_matrix(matrix[:3, :3])


def invert(transform: ArrayLike) -> Array:
    """Inverse of a rigid transform, without a general matrix inversion."""
    matrix = np.asarray(transform, dtype=np.float64)
    inverse = np.eye(4)
    inverse[:3, :3] = matrix[:3, :3].T
    inverse[:3, 3] = -matrix[:3, :3].T @ matrix[:3, 3]
    return inverse


def apply(transform: ArrayLike, points: NDArray[np.floating]) -> NDArray[np.floating]:
    """Map points [..., 3] through a transform, keeping their dtype."""
    matrix = np.asarray(transform, dtype=points.dtype)
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def look_at(position: ArrayLike, target: ArrayLike, up: ArrayLike = (0.0, 0.0, 1.0)) -> Array:
    """Transform of an optical frame (x right, y down, z forward) at `position` that looks at `target`.

    Raises ValueError where `up` lies along the line of sight, so that left and right are not defined.
    """
    eye = np.asarray(position, dtype=np.float64)
    forward = np.asarray(target, dtype=np.float64) - eye
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, np.asarray(up, dtype=np.float64))
    if float(np.linalg.norm(right)) < 1e-9:
        raise ValueError(f"up lies along the line of sight {forward.tolist()}: choose another direction")
    right /= np.linalg.norm(right)
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    matrix[:3, 3] = eye
    return matrix
