"""What is seen in the arm's reach, as voxels, and how far places are from it.

Thousands of voxels against hundreds of spheres of the arm at dozens of postures: a coarse grid knows a lower bound of
the distance to the nearest voxel and answers for nearly all spheres (10 ns each); the few that may touch ask a
k-d tree (400 ns each). Against one geom a voxel in MuJoCo this does not grow with the number of voxels, and against
an exact distance field of all cells (scipy.ndimage, 15 to 50 ms a cloud) it is ready in a few milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.geometry.transform import apply, invert

Array = NDArray[np.float64]

REACH_M = 1.2  # from the base's axis, farther reaches no part of the arm
LOWEST_M, HIGHEST_M = -0.9, 1.4  # likewise along z
FIELD_CELL_M = 0.015
MAX_CELLS = 2_000_000  # counted without sorting, and of the coarse grid: a wide cloud gets larger cells


@dataclass(frozen=True)
class Obstacles:
    """Voxels: balls of diameter `size` metres around `centers` [N, 3] in metres in the base frame."""

    centers: Array
    size: float

    def __post_init__(self) -> None:
        if np.ndim(self.centers) != 2 or np.shape(self.centers)[1] != 3 or not np.isfinite(self.centers).all():
            raise ConfigurationError(f"obstacles need finite centers [N, 3] in metres, got {np.shape(self.centers)}")
        if not 0.001 <= self.size <= 0.1:
            raise ConfigurationError(f"the size of voxels must lie between 0.001 and 0.1 m, got {self.size}")

    @classmethod
    def from_points(cls, points: ArrayLike, size: float) -> Obstacles:
        """One voxel for each occupied cell of a grid of `size` metres within the arm's reach, at its points' mean.

        points: [P, 3] metres in the base frame; those that are not finite or out of reach are left out.
        """
        if not 0.001 <= size <= 0.1:
            raise ConfigurationError(f"the size of voxels must lie between 0.001 and 0.1 m, got {size}")
        cloud = np.asarray(points, dtype=np.float64).reshape(-1, 3)
        near = np.hypot(cloud[:, 0], cloud[:, 1]) < REACH_M
        cloud = cloud[near & (cloud[:, 2] > LOWEST_M) & (cloud[:, 2] < HIGHEST_M)]
        if not len(cloud):
            return cls(np.zeros((0, 3)), size)
        cells = np.floor(cloud / size).astype(np.int64)
        cells -= cells.min(axis=0)
        extent = cells.max(axis=0) + 1
        keys = (cells[:, 0] * extent[1] + cells[:, 1]) * extent[2] + cells[:, 2]
        if np.prod(extent) > MAX_CELLS:
            keys = np.unique(keys, return_inverse=True)[1]
        counts = np.bincount(keys)
        occupied = counts > 0
        sums = np.stack([np.bincount(keys, axis)[occupied] for axis in cloud.T], axis=1)
        return cls(sums / counts[occupied, None], size)

    def without_box(self, T_base_box: ArrayLike, half_size: ArrayLike) -> Obstacles:
        """The voxels outside a box [4, 4] of half sizes [3] metres: a held object is not in its own way."""
        inside = (np.abs(apply(invert(T_base_box), self.centers)) <= np.asarray(half_size)).all(axis=1)
        return Obstacles(self.centers[~inside], self.size)

    def without_balls(self, centers: Array, radius: float) -> Obstacles:
        """The voxels whose centres are farther than `radius` metres from each of `centers` [K, 3]."""
        away = (cdist(self.centers, centers) > radius).all(axis=1)
        return Obstacles(self.centers[away], self.size)


class DistanceField:
    """Which balls touch the centres of voxels. Made for balls of up to `max_radius` metres."""

    def __init__(self, centers: Array, max_radius: float) -> None:
        """centers: [N, 3] metres; there may be none."""
        self._tree = cKDTree(centers, balanced_tree=False, compact_nodes=False) if len(centers) else None
        if self._tree is None:
            return
        self._max_radius = max_radius
        low, high = centers.min(axis=0) - max_radius, centers.max(axis=0) + max_radius
        self._cell = max(FIELD_CELL_M, float(np.prod(high - low) / MAX_CELLS) ** (1.0 / 3.0))
        self._low = low - self._cell
        shape = np.ceil((high - low) / self._cell).astype(int) + 2
        occupied = np.zeros(shape, bool)
        occupied[tuple(((centers - self._low) / self._cell).astype(int).T)] = True
        self._last = (shape - 1).astype(np.float64)
        self._strides = np.array([shape[1] * shape[2], shape[2], 1], dtype=np.float64)
        bound = _nearest_cells(occupied, int(np.ceil(max_radius / self._cell)) + 1)
        self._bound = (np.sqrt(bound.ravel()) * self._cell).astype(np.float32)

    def touches(self, centers: Array, radii: Array) -> NDArray[np.bool_]:
        """Whether balls at `centers` [..., S, 3] of `radii` [S] metres hold a voxel's centre: [..., S]."""
        hits = np.zeros(centers.shape[:-1], bool)
        if self._tree is None:
            return hits
        places = np.floor((centers - self._low) / self._cell)
        np.clip(places, 0.0, self._last, out=places)
        near = np.nonzero(self._bound[(places @ self._strides).astype(np.intp)] < radii)
        if len(near[0]):
            limits = radii[near[-1]]
            distances, _ = self._tree.query(centers[near], distance_upper_bound=self._max_radius)
            hits[near] = distances < limits
        return hits


def _nearest_cells(occupied: NDArray[np.bool_], band: int) -> NDArray[np.uint16]:
    """Square of the least distance between a place in each cell and one in an occupied cell, in cells.

    Exact up to `band` cells, more than that is `band` squared: places in cells k apart along an axis are k - 1 apart
    at least, and squares add up over the axes.
    """
    squares = np.where(occupied, np.uint16(0), np.uint16(band * band))
    for axis in range(3):
        lines = np.moveaxis(squares, axis, 0)
        nearest = lines.copy()
        for k in range(1, min(band, len(lines) - 1) + 1):
            farther = lines + np.uint16((k - 1) ** 2)
            np.minimum(nearest[k:], farther[:-k], out=nearest[k:])
            np.minimum(nearest[:-k], farther[k:], out=nearest[:-k])
        squares = np.moveaxis(nearest, 0, axis)
    return np.ascontiguousarray(squares)
