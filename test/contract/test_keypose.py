"""A keypose is a pose of the tool and an opening, or it does not come into being."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.contract.keypose import QUATERNION_TOLERANCE, Keypose

GOOD: dict[str, Any] = {"position": [0.5, 0.1, 0.2], "quat_wxyz": [0.0, 1.0, 0.0, 0.0], "opening": 1.0}


def keypose(**changes: Any) -> Keypose:
    return Keypose(**(GOOD | changes))


def test_numbers_of_any_kind_become_double_precision() -> None:
    made = keypose(position=np.array([1, 2, 3]), quat_wxyz=np.array([1, 0, 0, 0], np.float32), opening=np.float32(0.5))
    assert made.position.dtype == made.quat_wxyz.dtype == np.float64
    assert type(made.opening) is float
    np.testing.assert_array_equal(made.position, [1.0, 2.0, 3.0])


def test_a_keypose_does_not_change_with_the_arrays_it_was_made_from() -> None:
    position, quat = np.array([0.5, 0.1, 0.2]), np.array([0.0, 1.0, 0.0, 0.0])
    made = keypose(position=position, quat_wxyz=quat)
    position[:], quat[:] = 9.0, 9.0
    np.testing.assert_array_equal(made.position, [0.5, 0.1, 0.2])
    np.testing.assert_array_equal(made.quat_wxyz, [0.0, 1.0, 0.0, 0.0])


def test_a_field_of_a_keypose_cannot_be_set() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        keypose().opening = 0.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"position": [0.5, 0.1]}, r"shapes \(2,\) and \(4,\)"),
        ({"position": [[0.5, 0.1, 0.2]]}, r"shapes \(1, 3\) and \(4,\)"),
        ({"quat_wxyz": [1.0, 0.0, 0.0]}, r"shapes \(3,\) and \(3,\)"),
        ({"position": [0.5, float("nan"), 0.2]}, "finite, got .*nan"),
        ({"position": [0.5, float("inf"), 0.2]}, "finite, got .*inf"),
        ({"quat_wxyz": [float("nan"), 0.0, 0.0, 1.0]}, "finite, got .*nan"),
        ({"quat_wxyz": [0.0, 0.0, 0.0, 0.0]}, "norm 0.0000"),
        ({"quat_wxyz": [1.0, 1.0, 0.0, 0.0]}, "norm 1.4142"),
        ({"opening": -0.01}, "got -0.01"),
        ({"opening": 1.01}, "got 1.01"),
        ({"opening": float("nan")}, "got nan"),
    ],
)
def test_values_that_are_no_pose_are_refused_with_what_was_given(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        keypose(**changes)


@pytest.mark.parametrize("opening", [0.0, 1.0])
def test_both_ends_of_the_opening_are_allowed(opening: float) -> None:
    assert keypose(opening=opening).opening == opening


def test_a_quaternion_may_be_off_by_rounding_and_not_by_more() -> None:
    keypose(quat_wxyz=[0.0, 1.0 + 0.9 * QUATERNION_TOLERANCE, 0.0, 0.0])
    with pytest.raises(ConfigurationError, match="unit quaternion"):
        keypose(quat_wxyz=[0.0, 1.0 + 1.1 * QUATERNION_TOLERANCE, 0.0, 0.0])


@pytest.mark.parametrize(("opening", "is_open"), [(0.0, False), (0.5, False), (0.51, True), (1.0, True)])
def test_a_gripper_counts_as_open_above_one_half(opening: float, is_open: bool) -> None:
    assert keypose(opening=opening).is_open is is_open


@pytest.mark.parametrize("degrees", [0.0, 0.5, 30.0, 179.0])
def test_the_distance_to_a_pose_moved_and_turned_is_the_length_and_the_angle(degrees: float) -> None:
    start = Rotation.random(random_state=3)
    axis = np.random.default_rng(3).normal(size=3)
    turned = start * Rotation.from_rotvec(np.deg2rad(degrees) * axis / np.linalg.norm(axis))
    made = keypose(quat_wxyz=start.as_quat(scalar_first=True))
    moved = made.position + np.array([0.03, 0.0, 0.04])
    metres, angle = made.distance_to(moved, turned.as_quat(scalar_first=True))
    assert metres == pytest.approx(0.05)
    assert angle == pytest.approx(degrees, abs=1e-5)


def test_a_quaternion_and_its_negative_are_no_distance_apart() -> None:
    quat = Rotation.random(random_state=4).as_quat(scalar_first=True)
    made = keypose(quat_wxyz=quat)
    np.testing.assert_allclose(made.distance_to(made.position, -quat), 0.0, atol=1e-5)
