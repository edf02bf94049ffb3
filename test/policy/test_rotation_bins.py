"""Rotations as bins."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from minidiffuser_ros.geometry.rotation import angle_between_deg, euler_deg_from_quat, quat_from_euler_deg
from minidiffuser_ros.policy.rotation_bins import bins_from_quat, quat_from_bins


def test_a_round_trip_moves_no_axis_by_more_than_half_a_bin() -> None:
    quats = Rotation.random(2000, random_state=0).as_quat(scalar_first=True)
    before = euler_deg_from_quat(quats)
    after = bins_from_quat(quats, 72) * 5.0 - 180.0
    error = np.abs((after - before + 180.0) % 360.0 - 180.0)
    assert error.max() <= 2.5 + 1e-9


def test_bins_survive_the_way_through_a_quaternion_away_from_gimbal_lock() -> None:
    rng = np.random.default_rng(0)
    bins = np.stack([rng.integers(72, size=500), rng.integers(20, 53, size=500), rng.integers(72, size=500)], axis=-1)
    np.testing.assert_array_equal(bins_from_quat(quat_from_bins(bins, 72), 72), bins)


def test_minus_and_plus_180_degrees_are_one_bin() -> None:
    a, b = (bins_from_quat(quat_from_euler_deg([x, 0.0, 30.0]), 72) for x in (-179.9, 179.9))
    np.testing.assert_array_equal(a, b)


def test_both_signs_of_a_quaternion_are_one_rotation() -> None:
    quats = Rotation.random(200, random_state=1).as_quat(scalar_first=True)
    np.testing.assert_array_equal(bins_from_quat(quats, 72), bins_from_quat(-quats, 72))
    assert np.max(angle_between_deg(quats, -quats)) < 1e-5
