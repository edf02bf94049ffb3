"""Rotations as unit quaternions `quat_wxyz` (scalar first); scipy does the algebra.

Euler angles are extrinsic xyz in degrees, the convention of the keypose policies this package follows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation, Slerp

Array = NDArray[np.float64]

# Rotates the tool by half a turn about x: the hand points straight down at the table.
POINTING_DOWN_WXYZ: tuple[float, float, float, float] = (0.0, 1.0, 0.0, 0.0)


def rotation(quat_wxyz: ArrayLike) -> Rotation:
    """The scipy rotation of a scalar-first quaternion [..., 4]."""
    return Rotation.from_quat(np.asarray(quat_wxyz, dtype=np.float64), scalar_first=True)


def quat_of(r: Rotation) -> Array:
    """Scalar-first quaternion [..., 4] of a scipy rotation, with w >= 0 so that equal rotations compare equal."""
    quat: Array = r.as_quat(canonical=True, scalar_first=True)
    return quat


def matrix_from_quat(quat_wxyz: ArrayLike) -> Array:
    """Rotation matrix [..., 3, 3] of a quaternion [..., 4]."""
    matrix: Array = rotation(quat_wxyz).as_matrix()
    return matrix


def quat_from_matrix(matrix: ArrayLike) -> Array:
    """Quaternion [..., 4] of a rotation matrix [..., 3, 3]."""
    return quat_of(Rotation.from_matrix(np.asarray(matrix, dtype=np.float64)))


def quat_multiply(first_wxyz: ArrayLike, second_wxyz: ArrayLike) -> Array:
    """Hamilton product: the rotation that applies `second`, then `first`."""
    return quat_of(rotation(first_wxyz) * rotation(second_wxyz))


def quat_from_yaw(yaw_rad: float) -> Array:
    """Rotation about +z by `yaw_rad`."""
    return quat_of(Rotation.from_euler("z", yaw_rad))


def euler_deg_from_quat(quat_wxyz: ArrayLike) -> Array:
    """Extrinsic xyz Euler angles [..., 3] in degrees, each in [-180, 180]."""
    angles: Array = rotation(quat_wxyz).as_euler("xyz", degrees=True)
    return angles


def quat_from_euler_deg(euler_xyz_deg: ArrayLike) -> Array:
    """Quaternion [..., 4] of extrinsic xyz Euler angles in degrees."""
    return quat_of(Rotation.from_euler("xyz", np.asarray(euler_xyz_deg, dtype=np.float64), degrees=True))


def angle_between_deg(first_wxyz: ArrayLike, second_wxyz: ArrayLike) -> Any:
    """Geodesic distance in degrees between two rotations [..., 4]."""
    return np.rad2deg((rotation(first_wxyz).inv() * rotation(second_wxyz)).magnitude())


def interpolate_quat(start_wxyz: ArrayLike, end_wxyz: ArrayLike, fractions: ArrayLike) -> Array:
    """Shortest-arc interpolation [N, 4] at `fractions` [N] in [0, 1]."""
    pair = Rotation.from_quat(np.stack([np.asarray(start_wxyz), np.asarray(end_wxyz)]), scalar_first=True)
    return quat_of(Slerp([0.0, 1.0], pair)(np.asarray(fractions, dtype=np.float64)))
