"""Spheres that together hold a convex solid: what of the arm is looked up among seen obstacles.

Greedy: of all spheres around places inside that stick out by no more than `overshoot`, take the one that covers most
of what is not covered yet, until everything is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from scipy.spatial.distance import cdist

Array = NDArray[np.float64]

SAMPLES = 16  # along the longest edge of the solid's box, of the places to cover and of the spheres' centres
BETWEEN = 0.1  # of their spacing: how much deeper in a sphere a sample lies, for what is between it and the next


def cover_hull(vertices: Array, overshoot: float) -> Array:
    """Spheres [S, 4], centre and radius in metres, around the convex hull of `vertices` [V, 3].

    Every point of the hull lies in one of them, and none reaches farther than `overshoot` metres beyond it.
    """
    hull = ConvexHull(vertices)
    normals, offsets = hull.equations[:, :3], hull.equations[:, 3]
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    spacing = float((high - low).max()) / SAMPLES
    inside = _grid(low, high, spacing)
    inside = inside[(inside @ normals.T + offsets <= 0.0).all(axis=1)]
    samples = _distinct(np.concatenate([inside, _surface(vertices[hull.simplices], spacing)]), 0.5 * spacing)
    radii = overshoot - (samples @ normals.T + offsets).max(axis=1)
    covers = cdist(samples, samples) <= np.maximum(radii - BETWEEN * spacing, 0.0)[:, None]
    chosen = _greedy(covers.astype(np.float32))
    return np.column_stack([samples[chosen], radii[chosen]])


def cover_box(half_size: Array, overshoot: float) -> Array:
    """Spheres [S, 4] that cover the outside of a box of half sizes [3] metres around the origin.

    They are equal, stand in a grid, and stick out by `overshoot` metres at most.
    """
    counts, cell = np.ones(3, int), half_size
    while np.linalg.norm(cell) - cell.min() > overshoot:
        counts[int(cell.argmax())] += 1
        cell = half_size / counts
    axes = [(2 * np.arange(n) + 1 - n) * c for n, c in zip(counts, cell, strict=True)]
    centers = _product(axes)
    centers = centers[(np.abs(centers) + 1.5 * cell > half_size).any(axis=1)]
    return np.column_stack([centers, np.full(len(centers), np.linalg.norm(cell))])


def _grid(low: Array, high: Array, spacing: float) -> Array:
    return _product([np.arange(a, b, spacing) + 0.5 * ((b - a) % spacing) for a, b in zip(low, high, strict=True)])


def _product(axes: list[Array]) -> Array:
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


def _surface(triangles: Array, spacing: float) -> Array:
    """Points on triangles [T, 3, 3], corners included, no farther apart than `spacing`."""
    points = []
    for corners in triangles:
        longest = max(float(np.linalg.norm(corners[i] - corners[i - 1])) for i in range(3))
        n = max(1, int(np.ceil(longest / spacing)))
        a, b = np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij")
        points.append(np.stack([a, b, n - a - b], axis=-1)[a + b <= n] / n @ corners)
    return np.concatenate(points)


def _distinct(points: Array, cell: float) -> Array:
    """One point of each cell."""
    _, first = np.unique(np.floor(points / cell).astype(np.int64), axis=0, return_index=True)
    return points[np.sort(first)]


def _greedy(covers: NDArray[np.float32]) -> list[int]:
    """Rows of [S, P] that together have a one in every column."""
    left = np.ones(covers.shape[1], np.float32)
    chosen = []
    while left.any():
        best = int((covers @ left).argmax())
        chosen.append(best)
        left *= 1.0 - covers[best]
    return chosen
