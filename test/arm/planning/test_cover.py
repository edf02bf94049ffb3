"""Spheres that cover a solid hold all of it and little more."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import ConvexHull

from minidiffuser_ros.arm.planning.cover import cover_box, cover_hull


def outside(points: np.ndarray, spheres: np.ndarray) -> float:
    """How far the farthest of points [N, 3] lies outside of all spheres [S, 4]."""
    gaps = np.linalg.norm(points[:, None] - spheres[:, :3], axis=-1) - spheres[:, 3]
    return float(gaps.min(axis=1).max())


@pytest.mark.parametrize("seed", range(4))
def test_the_spheres_hold_the_hull_and_stick_out_no_farther_than_asked(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vertices = rng.normal(0.0, (0.05, 0.08, 0.03), (30, 3))
    spheres = cover_hull(vertices, 0.012)
    inside = rng.dirichlet(np.full(30, 0.1), 5000) @ vertices
    assert outside(inside, spheres) < 1e-3
    hull = ConvexHull(vertices)
    reach = (spheres[:, :3] @ hull.equations[:, :3].T + hull.equations[:, 3]).max(axis=1) + spheres[:, 3]
    assert reach.max() <= 0.012 + 1e-9


@pytest.mark.parametrize("half_size", [(0.02, 0.02, 0.02), (0.03, 0.01, 0.15), (0.004, 0.05, 0.05)])
def test_the_spheres_hold_the_surface_of_a_box_and_stick_out_no_farther_than_asked(half_size: tuple) -> None:
    half, rng = np.array(half_size), np.random.default_rng(0)
    surface = rng.uniform(-half, half, (5000, 3))
    axis = rng.integers(3, size=5000)
    surface[np.arange(5000), axis] = half[axis] * rng.choice([-1.0, 1.0], 5000)
    spheres = cover_box(half, 0.008)
    assert outside(surface, spheres) < 1e-9
    assert (np.abs(spheres[:, :3]) + spheres[:, 3:] - half).max() <= 0.008 + 1e-9
