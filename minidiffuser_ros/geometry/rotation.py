"""Rotations as unit quaternions `quat_wxyz` (scalar first); scipy does the algebra.

Euler angles are extrinsic xyz in degrees, the convention of the keypose policies this package follows. Where a
network has to regress a rotation it is `six`: the first two columns of its matrix, one after the other, which unlike
angles and quaternions are a continuous function of the rotation (Zhou et al. 2019, "On the continuity of rotation
representations in neural networks", sec. 4).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation, Slerp

Array = NDArray[np.float64]

# Rotates the tool by half a turn about x: the hand points straight down at the table.
POINTING_DOWN_WXYZ: tuple[float, float, float, float] = (0.0, 1.0, 0.0, 0.0)

PARALLEL = 1e-8  # rad: two vectors closer in direction than this span no plane


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


def six_from_quat(quat_wxyz: ArrayLike) -> Array:
    """The first two columns [..., 6] of the matrix of a quaternion [..., 4]."""
    columns: Array = matrix_from_quat(quat_wxyz)[..., :2].swapaxes(-1, -2)
    return columns.reshape(*columns.shape[:-2], 6)


def quat_from_six(six: ArrayLike) -> Array:
    """Quaternion [..., 4] of the rotation that any six numbers [..., 6] stand for, by Gram-Schmidt.

    What they leave open the identity decides: a first column of zeros becomes its x axis, a second one parallel to
    the first becomes the one of its axes that is farthest from the first. Numbers that are not finite give NaN.
    """
    columns = np.asarray(six, dtype=np.float64).reshape(*np.shape(six)[:-1], 2, 3)
    finite = np.all(np.isfinite(six), axis=-1, keepdims=True)
    columns = np.where(finite[..., None], columns, 0.0)
    first = _direction(columns[..., 0, :], np.array([1.0, 0.0, 0.0]))
    beside = _without(_direction(columns[..., 1, :], first), first)
    farthest = np.eye(3)[np.abs(first).argmin(axis=-1)]
    is_open = np.linalg.norm(beside, axis=-1, keepdims=True) < PARALLEL
    beside = _direction(np.where(is_open, _without(farthest, first), beside), farthest)
    # Once more: where the columns are nearly parallel, a rounding error along the first has grown.
    second = _direction(_without(beside, first), farthest)
    matrix = np.stack([first, second, np.cross(first, second)], axis=-1)
    return np.where(finite, quat_from_matrix(matrix), np.nan)


def _direction(vectors: Array, otherwise: Array) -> Array:
    """Unit vectors [..., 3], whatever their length was; `otherwise` in place of zeros."""
    largest = np.abs(vectors).max(axis=-1, keepdims=True)
    scaled = np.where(largest > 0.0, vectors / np.where(largest > 0.0, largest, 1.0), otherwise)
    unit: Array = scaled / np.linalg.norm(scaled, axis=-1, keepdims=True)
    return unit


def _without(vectors: Array, units: Array) -> Array:
    """Vectors [..., 3] minus their share along unit vectors [..., 3]."""
    remainder: Array = vectors - (vectors * units).sum(axis=-1, keepdims=True) * units
    return remainder


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
