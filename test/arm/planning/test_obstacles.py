"""Voxels and their distance field: nothing seen is lost, and what the field says is what brute force says."""

from __future__ import annotations

import numpy as np
import pytest

from minidiffuser_ros.arm.planning.obstacles import DistanceField, Obstacles
from minidiffuser_ros.contract.errors import ConfigurationError


@pytest.mark.parametrize(("extent", "count"), [(0.3, 5), (0.6, 2000), (2.0, 4000)])
def test_the_field_says_of_every_ball_what_brute_force_says(extent: float, count: int) -> None:
    rng = np.random.default_rng(count)
    voxels = rng.uniform(-extent, extent, (count, 3))
    radii = rng.uniform(0.005, 0.09, 40)
    balls = rng.uniform(-1.3 * extent, 1.3 * extent, (50, 40, 3))
    expected = np.array([[np.linalg.norm(voxels - c, axis=1).min() < r for c, r in zip(row, radii, strict=True)]
                         for row in balls])  # fmt: skip
    np.testing.assert_array_equal(DistanceField(voxels, 0.09).touches(balls, radii), expected)
    assert 0 < expected.sum() < expected.size


def test_nothing_touches_an_empty_field() -> None:
    assert not DistanceField(np.zeros((0, 3)), 0.09).touches(np.zeros((3, 5, 3)), np.full(5, 0.09)).any()


def test_every_point_in_reach_lies_in_the_cell_of_a_voxel() -> None:
    points = np.random.default_rng(0).uniform((-0.8, -0.8, 0.0), (0.8, 0.8, 0.6), (3000, 3))
    obstacles = Obstacles.from_points(points, 0.02)
    nearest = [np.linalg.norm(obstacles.centers - point, axis=1).min() for point in points]
    assert max(nearest) <= 0.02 * np.sqrt(3.0)
    assert len(np.unique(np.floor(obstacles.centers / 0.02), axis=0)) == len(obstacles.centers)


def test_points_that_are_not_finite_or_out_of_reach_are_left_out() -> None:
    points = [[0.5, 0.0, 0.1], [np.nan, 0.0, 0.1], [3.0, 0.0, 0.1], [0.5, 0.0, np.inf]]
    np.testing.assert_allclose(Obstacles.from_points(points, 0.01).centers, [[0.5, 0.0, 0.1]])
    assert len(Obstacles.from_points(np.zeros((0, 3)), 0.01).centers) == 0


def test_a_held_object_is_taken_out_of_what_is_seen() -> None:
    obstacles = Obstacles(np.array([[0.5, 0.0, 0.1], [0.5, 0.0, 0.3]]), 0.01)
    place = np.eye(4)
    place[:3, 3] = (0.5, 0.0, 0.12)
    np.testing.assert_array_equal(obstacles.without_box(place, (0.03, 0.03, 0.03)).centers, [[0.5, 0.0, 0.3]])


@pytest.mark.parametrize("size", [0.0, -0.01, 0.5, float("nan")])
def test_voxels_of_a_size_that_is_none_are_refused(size: float) -> None:
    with pytest.raises(ConfigurationError, match="size"):
        Obstacles.from_points([[0.5, 0.0, 0.1]], size)
    with pytest.raises(ConfigurationError, match="size"):
        Obstacles(np.zeros((1, 3)), size)


def test_centers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="finite centers"):
        Obstacles(np.full((1, 3), np.nan), 0.01)
