"""Solids say which points lie inside them, wherever they stand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from minidiffuser_ros.geometry.transform import apply, transform_from
from minidiffuser_ros.geometry.volumes import Capsule, OrientedBox

POINTS = np.random.default_rng(9).uniform(-0.5, 0.5, (4000, 3))
POSE = transform_from([0.4, -0.2, 0.3], Rotation.random(random_state=6).as_quat(scalar_first=True))


def test_a_capsule_holds_what_is_near_its_segment() -> None:
    start, end = np.array([-0.2, 0.1, 0.0]), np.array([0.15, -0.1, 0.2])
    on_segment = start + np.linspace(0.0, 1.0, 2001)[:, None] * (end - start)
    nearest = np.array([np.linalg.norm(on_segment - point, axis=1).min() for point in POINTS])
    inside = Capsule(start, end, 0.15).contains(POINTS)
    clear = np.abs(nearest - 0.15) > 1e-4  # the segment is only sampled
    np.testing.assert_array_equal(inside[clear], (nearest < 0.15)[clear])
    assert 100 < inside.sum() < len(POINTS) - 100


def test_a_capsule_without_length_is_a_ball() -> None:
    center = np.array([0.1, 0.0, -0.1])
    inside = Capsule(center, center, 0.3).contains(POINTS)
    np.testing.assert_array_equal(inside, np.linalg.norm(POINTS - center, axis=1) <= 0.3)


def test_a_box_holds_what_is_within_its_half_sizes() -> None:
    half_size = np.array([0.1, 0.2, 0.3])
    inside = OrientedBox(np.eye(4), half_size).contains(POINTS)
    np.testing.assert_array_equal(inside, (np.abs(POINTS) <= half_size).all(axis=1))
    assert inside.any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_solid_moved_together_with_the_points_holds_the_same_ones(dtype: type) -> None:
    start, end = np.array([-0.2, 0.1, 0.0]), np.array([0.15, -0.1, 0.2])
    moved: np.ndarray = apply(POSE, POINTS).astype(dtype)
    here = Capsule(start, end, 0.15).contains(POINTS)
    there = Capsule(apply(POSE, start), apply(POSE, end), 0.15).contains(moved)
    assert (here != there).sum() <= 1  # a point on the surface may fall to either side
    box = OrientedBox(np.eye(4), np.array([0.1, 0.2, 0.3])).contains(POINTS)
    turned = OrientedBox(POSE, np.array([0.1, 0.2, 0.3])).contains(moved)
    assert (box != turned).sum() <= 1


@pytest.mark.parametrize("solid", [Capsule(np.zeros(3), np.ones(3), 0.1), OrientedBox(np.eye(4), np.ones(3))])
def test_no_points_give_no_answers(solid: Capsule | OrientedBox) -> None:
    assert solid.contains(np.zeros((0, 3), np.float32)).shape == (0,)
