"""Operations on coloured point clouds: voxel grid, outliers, thinning, and open3d's view of a cloud."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float32]
Colors = NDArray[np.uint8]

OUTLIER_NEIGHBOURS = 3
OUTLIER_RADIUS_VOXELS = 2.5


def voxel_grid(points: Points, colors: Colors, voxel_size: float) -> tuple[Points, Colors]:
    """One point per occupied cell of a grid fixed at the origin: mean position and mean colour.

    Cells come out sorted by their index, so the result does not depend on the order of the input.
    """
    if len(points) == 0:
        return points, colors
    cells = np.floor(points / voxel_size).astype(np.int64)
    cells -= cells.min(axis=0)
    extent = cells.max(axis=0) + 1
    keys = (cells[:, 0] * extent[1] + cells[:, 1]) * extent[2] + cells[:, 2]
    _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    # float64 sums: the mean must not depend on how many points came before.
    mean = [np.bincount(inverse, values, len(counts)) / counts for values in (*points.T.astype(np.float64), *colors.T)]
    return np.stack(mean[:3], 1).astype(np.float32), np.round(np.stack(mean[3:], 1)).astype(np.uint8)


def remove_outliers(points: Points, colors: Colors, voxel_size: float) -> tuple[Points, Colors]:
    """Drop points with fewer than three others within 2.5 voxels: flying pixels at depth edges.

    A cloud of three points or fewer is returned as it is.
    """
    if len(points) <= OUTLIER_NEIGHBOURS:
        return points, colors
    _, kept = open3d_cloud(points, colors).remove_radius_outlier(OUTLIER_NEIGHBOURS, OUTLIER_RADIUS_VOXELS * voxel_size)
    index = np.asarray(kept, dtype=np.int64)
    return points[index], colors[index]


def warm_up() -> None:
    """Import open3d and use it once, so that the first observation takes no longer than the others."""
    remove_outliers(
        np.zeros((OUTLIER_NEIGHBOURS + 1, 3), np.float32), np.zeros((OUTLIER_NEIGHBOURS + 1, 3), np.uint8), 1.0
    )


def thin(points: Points, colors: Colors, max_points: int) -> tuple[Points, Colors]:
    """At most `max_points` of the cloud: a fixed pseudo-random subset, the same for the same cloud."""
    if len(points) <= max_points:
        return points, colors
    index = np.sort(np.random.default_rng(len(points)).permutation(len(points))[:max_points])
    return points[index], colors[index]


def open3d_cloud(points: Points, colors: Colors):  # type: ignore[no-untyped-def]  # open3d ships no types
    """The cloud as open3d's own, for its filters and its pictures."""
    import open3d  # 0.7 s to import: only where a cloud is filtered or drawn

    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points.astype(np.float64)))
    cloud.colors = open3d.utility.Vector3dVector(colors.astype(np.float64) / 255.0)
    return cloud
