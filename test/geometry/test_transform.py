"""Rigid transforms: a group that keeps distances, and cameras that look where they are told."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from minidiffuser_ros.geometry.transform import apply, invert, look_at, pose_of, transform_from

RNG = np.random.default_rng(5)
POINTS = RNG.normal(size=(30, 3))


def some_transform(seed: int) -> np.ndarray:
    quat = Rotation.random(random_state=seed).as_quat(scalar_first=True)
    return transform_from(np.random.default_rng(seed).normal(size=3), quat)


@pytest.mark.parametrize("seed", range(10))
def test_pose_and_transform_are_inverse_to_each_other(seed: int) -> None:
    transform = some_transform(seed)
    np.testing.assert_allclose(transform_from(*pose_of(transform)), transform, atol=1e-12)


def test_the_position_of_a_transform_is_a_copy() -> None:
    transform = some_transform(0)
    before = transform.copy()
    pose_of(transform)[0][:] = 9.0
    np.testing.assert_array_equal(transform, before)


@pytest.mark.parametrize("seed", range(10))
def test_a_transform_and_its_inverse_cancel(seed: int) -> None:
    transform = some_transform(seed)
    np.testing.assert_allclose(invert(transform) @ transform, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(invert(transform), np.linalg.inv(transform), atol=1e-12)
    np.testing.assert_allclose(apply(invert(transform), apply(transform, POINTS)), POINTS, atol=1e-12)


def test_a_point_is_turned_and_then_moved() -> None:
    quarter_turn_about_z = transform_from([1.0, 2.0, 3.0], [np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5)])
    np.testing.assert_allclose(apply(quarter_turn_about_z, np.array([1.0, 0.0, 0.0])), [1.0, 3.0, 3.0], atol=1e-12)


def test_two_transforms_in_a_row_are_their_product() -> None:
    first, second = some_transform(1), some_transform(2)
    np.testing.assert_allclose(apply(first @ second, POINTS), apply(first, apply(second, POINTS)), atol=1e-12)


def test_distances_do_not_change() -> None:
    moved = apply(some_transform(3), POINTS)
    before, after = (np.linalg.norm(p[:, None] - p[None], axis=-1) for p in (POINTS, moved))
    np.testing.assert_allclose(after, before, atol=1e-12)


def test_points_keep_their_shape_and_precision() -> None:
    transform = some_transform(4)
    grid = POINTS.reshape(5, 6, 3).astype(np.float32)
    moved = apply(transform, grid)
    assert moved.shape == (5, 6, 3)
    assert moved.dtype == np.float32
    np.testing.assert_allclose(moved.reshape(-1, 3), apply(transform, POINTS), atol=1e-5)
    assert apply(transform, np.zeros((0, 3), np.float32)).shape == (0, 3)


@pytest.mark.parametrize("seed", range(10))
def test_a_camera_sees_what_it_looks_at_on_its_axis_with_up_above(seed: int) -> None:
    rng = np.random.default_rng(seed)
    position, target, up = rng.normal(size=(3, 3))
    transform = look_at(position, target, up)
    np.testing.assert_allclose(transform[:3, :3] @ transform[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(transform[:3, :3]) == pytest.approx(1.0)
    np.testing.assert_allclose(pose_of(transform)[0], position)
    distance = float(np.linalg.norm(target - position))
    np.testing.assert_allclose(apply(invert(transform), target), [0.0, 0.0, distance], atol=1e-12)
    above = apply(invert(transform), position + up)
    assert above[0] == pytest.approx(0.0, abs=1e-12)
    assert above[1] < 0.0  # y of an optical frame points down


def test_a_view_straight_along_up_is_refused() -> None:
    with pytest.raises(ValueError, match="up lies along the line of sight"):
        look_at((0.0, 0.0, 1.0), (0.0, 0.0, 0.0))
