"""Rotations: the laws of the rotation group, and scipy's own numbers where both have a say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from minidiffuser_ros.geometry.rotation import (
    POINTING_DOWN_WXYZ,
    angle_between_deg,
    euler_deg_from_quat,
    interpolate_quat,
    matrix_from_quat,
    quat_from_euler_deg,
    quat_from_matrix,
    quat_from_six,
    quat_from_yaw,
    quat_multiply,
    rotation,
    six_from_quat,
)

MANY = Rotation.random(200, random_state=11)
QUATS = MANY.as_quat(scalar_first=True)
IDENTITY = np.array([1.0, 0.0, 0.0, 0.0])


def same_rotations(first: np.ndarray, second: np.ndarray) -> None:
    """Equal up to the sign of the quaternion."""
    np.testing.assert_allclose(np.abs(np.sum(first * second, axis=-1)), 1.0, atol=1e-12)


def test_a_quaternion_is_scalar_first() -> None:
    half_turn_about_x = matrix_from_quat([0.0, 1.0, 0.0, 0.0])
    np.testing.assert_allclose(half_turn_about_x, np.diag([1.0, -1.0, -1.0]), atol=1e-15)
    np.testing.assert_allclose(matrix_from_quat(IDENTITY), np.eye(3), atol=1e-15)


def test_the_hand_that_points_down_looks_along_minus_z() -> None:
    np.testing.assert_allclose(matrix_from_quat(POINTING_DOWN_WXYZ) @ [0, 0, 1], [0, 0, -1], atol=1e-15)


def test_matrix_and_quaternion_are_inverse_to_each_other() -> None:
    same_rotations(quat_from_matrix(matrix_from_quat(QUATS)), QUATS)
    np.testing.assert_allclose(matrix_from_quat(quat_from_matrix(MANY.as_matrix())), MANY.as_matrix(), atol=1e-12)


def test_euler_angles_and_quaternion_are_inverse_to_each_other() -> None:
    same_rotations(quat_from_euler_deg(euler_deg_from_quat(QUATS)), QUATS)
    angles = np.random.default_rng(0).uniform([-179, -89, -179], [179, 89, 179], (200, 3))
    np.testing.assert_allclose(euler_deg_from_quat(quat_from_euler_deg(angles)), angles, atol=1e-8)


def test_euler_angles_turn_about_the_fixed_axes_x_then_y_then_z() -> None:
    def about(axis: list[float], degrees: float) -> np.ndarray:
        half = 0.5 * np.deg2rad(degrees)
        return matrix_from_quat([np.cos(half), *(np.sin(half) * np.array(axis))])

    expected = about([0, 0, 1], 70.0) @ about([0, 1, 0], -40.0) @ about([1, 0, 0], 20.0)
    np.testing.assert_allclose(matrix_from_quat(quat_from_euler_deg([20.0, -40.0, 70.0])), expected, atol=1e-12)


def test_equal_rotations_get_the_same_quaternion() -> None:
    for quats in (QUATS, -QUATS):
        made = quat_from_matrix(matrix_from_quat(quats))
        assert (made[:, 0] >= 0.0).all()
        np.testing.assert_allclose(made, QUATS * np.where(QUATS[:, :1] < 0, -1.0, 1.0), atol=1e-12)


def test_a_product_applies_the_second_rotation_first() -> None:
    first, second, vector = QUATS[0], QUATS[1], np.array([0.3, -0.2, 0.9])
    through_both = rotation(first).apply(rotation(second).apply(vector))
    np.testing.assert_allclose(rotation(quat_multiply(first, second)).apply(vector), through_both, atol=1e-12)


def test_the_product_is_hamiltons() -> None:
    i, j, k = np.eye(4)[1:]
    np.testing.assert_allclose(quat_multiply(i, j), k, atol=1e-15)


def test_a_yaw_turns_x_towards_y() -> None:
    np.testing.assert_allclose(matrix_from_quat(quat_from_yaw(np.pi / 2)) @ [1, 0, 0], [0, 1, 0], atol=1e-15)
    same_rotations(quat_multiply(quat_from_yaw(0.4), quat_from_yaw(0.5)), quat_from_yaw(0.9))


def test_the_angle_is_a_distance_between_rotations() -> None:
    a, b, c = QUATS[:50], QUATS[50:100], QUATS[100:150]
    ab = angle_between_deg(a, b)
    np.testing.assert_allclose(ab, np.rad2deg((MANY[:50].inv() * MANY[50:100]).magnitude()), atol=1e-9)
    np.testing.assert_allclose(angle_between_deg(b, a), ab, atol=1e-9)
    assert (ab <= angle_between_deg(a, c) + angle_between_deg(c, b) + 1e-9).all()
    assert (ab >= 0.0).all()
    assert (ab <= 180.0).all()


def test_the_angle_ignores_the_sign_of_a_quaternion() -> None:
    np.testing.assert_allclose(angle_between_deg(QUATS, -QUATS), 0.0, atol=1e-5)


@pytest.mark.parametrize("degrees", [1e-3, 1.0, 90.0, 180.0])
def test_the_angle_of_a_turn_is_its_angle(degrees: float) -> None:
    assert angle_between_deg(IDENTITY, quat_from_yaw(np.deg2rad(degrees))) == pytest.approx(degrees, rel=1e-9)


def test_the_angle_stays_when_both_rotations_are_turned_alike() -> None:
    both = [quat_multiply(QUATS[2], quat) for quat in (QUATS[0], QUATS[1])]
    assert angle_between_deg(*both) == pytest.approx(angle_between_deg(QUATS[0], QUATS[1]), abs=1e-9)


def test_interpolation_starts_and_ends_where_it_should_and_turns_evenly() -> None:
    fractions = np.linspace(0.0, 1.0, 11)
    for start, end in zip(QUATS[:20], QUATS[20:40], strict=True):
        path = interpolate_quat(start, end, fractions)
        same_rotations(path[[0, -1]], np.stack([start, end]))
        turned = angle_between_deg(start[None], path)
        np.testing.assert_allclose(turned, fractions * angle_between_deg(start, end), atol=1e-6)


def test_interpolation_takes_the_short_way_whatever_the_signs() -> None:
    start, end = quat_from_yaw(np.deg2rad(-20.0)), quat_from_yaw(np.deg2rad(30.0))
    middle = quat_from_yaw(np.deg2rad(5.0))
    for sign in (1.0, -1.0):
        same_rotations(interpolate_quat(start, sign * end, [0.5])[0], middle)


def test_six_numbers_are_the_first_two_columns_and_bring_the_rotation_back() -> None:
    np.testing.assert_allclose(six_from_quat(QUATS[3]), MANY.as_matrix()[3, :, :2].T.ravel(), atol=1e-15)
    many = Rotation.random(5000, random_state=3).as_quat(scalar_first=True).reshape(50, 100, 4)
    same_rotations(quat_from_six(six_from_quat(many)), many)
    np.testing.assert_allclose(six_from_quat(quat_from_six(six_from_quat(many))), six_from_quat(many), atol=1e-12)


@pytest.mark.parametrize("scale", [1e-300, 1e-6, 1.0, 1e300])
def test_any_six_numbers_of_two_directions_become_a_rotation_in_their_plane(scale: float) -> None:
    numbers = np.random.default_rng(0).normal(size=(500, 6))
    numbers[:100, 3:] = numbers[:100, :3] + 1e-6 * numbers[:100, 3:]  # nearly parallel
    matrix = matrix_from_quat(quat_from_six(scale * numbers))
    np.testing.assert_allclose(matrix @ matrix.swapaxes(-1, -2), np.broadcast_to(np.eye(3), matrix.shape), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(matrix), 1.0, atol=1e-12)
    first, second = numbers[:, :3], numbers[:, 3:]
    along = first / np.linalg.norm(first, axis=-1, keepdims=True)
    np.testing.assert_allclose(matrix[..., 0], along, atol=1e-12)
    np.testing.assert_allclose(np.sum(matrix[..., 2] * second, axis=-1), 0.0, atol=1e-8)
    assert (np.sum(matrix[..., 1] * second, axis=-1) > 0.0).all()


@pytest.mark.parametrize(
    ("six", "columns"),
    [
        ([0, 0, 0, 0, 0, 0], [[1, 0, 0], [0, 1, 0]]),
        ([0, 0, 0, 0, 0, 2], [[1, 0, 0], [0, 0, 1]]),
        ([0, -3, 0, 0, 0, 0], [[0, -1, 0], [1, 0, 0]]),
        ([0, 2, 0, 0, -5, 0], [[0, 1, 0], [1, 0, 0]]),
        ([1, 1, 0, 1, 1, 0], [[0.5**0.5, 0.5**0.5, 0], [0, 0, 1]]),
    ],
    ids=str,
)
def test_what_six_numbers_leave_open_the_identity_decides(six: list[float], columns: list[list[float]]) -> None:
    np.testing.assert_allclose(matrix_from_quat(quat_from_six(six))[:, :2].T, columns, atol=1e-12)


def test_numbers_that_are_not_finite_are_no_rotation_and_spoil_no_other() -> None:
    six = six_from_quat(QUATS[:4])
    six[1, 4], six[2, 0] = np.nan, np.inf
    quats = quat_from_six(six)
    assert np.isnan(quats[[1, 2]]).all()
    same_rotations(quats[[0, 3]], QUATS[[0, 3]])
