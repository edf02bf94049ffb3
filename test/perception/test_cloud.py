"""Operations on clouds keep colours with their points and do not depend on the order of the input."""

from __future__ import annotations

import numpy as np
import pytest

from minidiffuser_ros.perception.cloud import open3d_cloud, remove_outliers, thin, voxel_grid

VOXEL = 0.01


def some_cloud(count: int = 3000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A cloud whose colours follow from its positions."""
    points = np.random.default_rng(seed).uniform([0.25, -0.1, 0.0], [0.4, 0.1, 0.1], (count, 3)).astype(np.float32)
    return points, color_at(points)


def color_at(points: np.ndarray) -> np.ndarray:
    """A colour per position, with a slope of one step per 2 mm."""
    return np.round((points - [0.25, -0.1, 0.0]) * 500.0).astype(np.uint8)


def rows(points: np.ndarray, colors: np.ndarray) -> set[tuple[float, ...]]:
    return {tuple(row) for row in np.hstack([points.astype(np.float64), colors.astype(np.float64)])}


def test_every_cell_becomes_the_mean_of_its_points_and_colours() -> None:
    points, colors = some_cloud()
    cells: dict[tuple[int, ...], list[int]] = {}
    for index, cell in enumerate(np.floor(points / VOXEL).astype(int)):
        cells.setdefault(tuple(cell), []).append(index)
    merged, merged_colors = voxel_grid(points, colors, VOXEL)
    assert len(merged) == len(cells)
    for row, members in enumerate(cells[cell] for cell in sorted(cells)):
        np.testing.assert_allclose(merged[row], points[members].astype(float).mean(axis=0), atol=1e-7)
        np.testing.assert_array_equal(merged_colors[row], np.round(colors[members].mean(axis=0)))


def test_the_order_of_the_points_does_not_change_the_grid() -> None:
    points, colors = some_cloud()
    expected = voxel_grid(points, colors, VOXEL)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(points))
        shuffled = voxel_grid(points[order], colors[order], VOXEL)
        np.testing.assert_array_equal(shuffled[0], expected[0])
        np.testing.assert_array_equal(shuffled[1], expected[1])


def test_the_grid_is_fixed_in_space_and_not_to_the_cloud() -> None:
    points, colors = some_cloud()
    far = np.floor(points[:, 0] / VOXEL) > 31
    whole, part = voxel_grid(points, colors, VOXEL), voxel_grid(points[far], colors[far], VOXEL)
    assert rows(*part) <= rows(*whole)


def test_a_grid_keeps_number_types_and_takes_an_empty_cloud() -> None:
    for points, colors in (some_cloud(), some_cloud(0)):
        merged, merged_colors = voxel_grid(points, colors, VOXEL)
        assert merged.dtype == np.float32
        assert merged_colors.dtype == np.uint8
        assert (len(merged) == 0) == (len(points) == 0)


def test_the_brightest_colour_does_not_wrap_around() -> None:
    white = np.full((7, 3), 255, np.uint8)
    points = np.full((7, 3), 0.005, np.float32)
    np.testing.assert_array_equal(voxel_grid(points, white, VOXEL)[1], [[255, 255, 255]])


@pytest.mark.parametrize(("companions", "kept"), [(2, False), (3, True)])
def test_a_point_needs_three_others_within_two_and_a_half_voxels(companions: int, kept: bool) -> None:
    surface, colors = some_cloud(2000)
    lonely = np.array([[0.6, 0.3, 0.4]], np.float32)
    beside = lonely + 2.4 * VOXEL * np.eye(3, dtype=np.float32)[:companions]
    points = np.concatenate([surface, lonely, beside])
    remaining, _ = remove_outliers(points, np.concatenate([colors, np.zeros((1 + companions, 3), np.uint8)]), VOXEL)
    assert (remaining == lonely[0]).all(axis=1).any() == kept


def test_a_companion_farther_than_two_and_a_half_voxels_does_not_count() -> None:
    center = np.full((1, 3), 0.5, np.float32)
    points = np.concatenate([center, center + 2.6 * VOXEL * np.eye(3, dtype=np.float32)])
    assert len(remove_outliers(points, np.zeros((4, 3), np.uint8), VOXEL)[0]) == 0


def test_flying_points_go_and_what_stays_keeps_order_and_colour() -> None:
    points, colors = some_cloud()
    flying = np.random.default_rng(1).uniform([0.5, -0.3, 0.2], [0.75, 0.3, 0.5], (40, 3)).astype(np.float32)
    mixed = np.insert(points, np.arange(40) * 50, flying, axis=0)
    mixed_colors = np.insert(colors, np.arange(40) * 50, np.full((40, 3), 7, np.uint8), axis=0)
    remaining, remaining_colors = remove_outliers(mixed, mixed_colors, VOXEL)
    np.testing.assert_array_equal(remaining, points)
    np.testing.assert_array_equal(remaining_colors, colors)


def test_thinning_leaves_a_cloud_alone_that_is_small_enough() -> None:
    points, colors = some_cloud(100)
    for limit in (100, 101):
        np.testing.assert_array_equal(thin(points, colors, limit)[0], points)


def test_thinning_keeps_exactly_the_limit_of_the_points_in_their_order_with_their_colours() -> None:
    points, colors = some_cloud(1000)
    thinned, thinned_colors = thin(points, colors, 300)
    assert len(thinned) == 300
    assert rows(thinned, thinned_colors) <= rows(points, colors)
    kept = [int(np.flatnonzero((points == point).all(axis=1))[0]) for point in thinned]
    assert kept == sorted(set(kept))


def test_thinning_takes_from_everywhere_and_always_the_same() -> None:
    points, colors = some_cloud(4000)
    thinned, _ = thin(points, colors, 500)
    np.testing.assert_array_equal(thin(points, colors, 500)[0], thinned)
    octant = (thinned > np.median(points, axis=0)) @ [4, 2, 1]
    shares = np.bincount(octant, minlength=8) / 500
    np.testing.assert_allclose(shares, 1 / 8, atol=0.05)


def test_open3d_sees_the_same_points_and_colours() -> None:
    points, colors = some_cloud(50)
    cloud = open3d_cloud(points, colors)
    np.testing.assert_array_equal(np.asarray(cloud.points), points.astype(np.float64))
    np.testing.assert_allclose(np.asarray(cloud.colors) * 255.0, colors, atol=1e-9)
