"""A timed path keeps every limit, starts and ends at rest, and goes where the path goes."""

from __future__ import annotations

import numpy as np
import pytest

from minidiffuser_ros.arm.kinematics import HOME_JOINTS
from minidiffuser_ros.arm.model import FER, FR3, ArmModel
from minidiffuser_ros.arm.planning.path import ROUNDING_RAD, JointPath, densify
from minidiffuser_ros.arm.planning.timing import PERIOD_S, Trajectory, time_path
from minidiffuser_ros.contract.errors import ConfigurationError, PlanningError
from minidiffuser_ros.contract.refusal import Reason


def some_path(seed: int, corners: int = 4) -> JointPath:
    steps = np.random.default_rng(seed).normal(0.0, 0.25, (corners, 7))
    return JointPath(np.clip(np.array(HOME_JOINTS) + np.cumsum(steps, axis=0), *FR3.position_limits(0.2)))


def at_rest_around(trajectory: Trajectory) -> np.ndarray:
    """Its joints, with the arm standing before and after."""
    joints = trajectory.joints
    return np.concatenate([np.repeat(joints[:1], 5, axis=0), joints, np.repeat(joints[-1:], 5, axis=0)])


@pytest.mark.parametrize("model", [FR3, FER], ids=["fr3", "fer"])
@pytest.mark.parametrize(("seed", "speed"), [(0, 1.0), (1, 1.0), (2, 0.3), (3, 0.05)])
def test_no_limit_of_velocity_acceleration_or_jerk_is_exceeded(model: ArmModel, seed: int, speed: float) -> None:
    path = JointPath(np.clip(some_path(seed).joints, *model.position_limits(0.2)))
    trajectory = time_path(path, model, speed)
    joints = at_rest_around(trajectory)
    velocity = np.diff(joints, axis=0) / PERIOD_S
    low, high = model.velocity_limits(0.5 * (joints[1:] + joints[:-1]))
    assert (velocity <= speed * high + 1e-6).all()
    assert (velocity >= speed * low - 1e-6).all()
    for order, limit in ((2, model.acceleration), (3, model.jerk)):
        largest = np.abs(np.diff(joints, order, axis=0)).max(axis=0) / PERIOD_S**order
        assert (largest <= speed * np.array(limit) * 1.0001).all(), order


@pytest.mark.parametrize("seed", range(3))
def test_it_starts_and_ends_at_rest_at_the_ends_of_the_path(seed: int) -> None:
    path = some_path(seed)
    trajectory = time_path(path, speed=0.5)
    np.testing.assert_allclose(trajectory.joints[[0, -1]], path.joints[[0, -1]], atol=1e-9)
    np.testing.assert_array_equal(trajectory.velocities[[0, -1]], 0.0)
    assert trajectory.times_s[0] == 0.0
    np.testing.assert_allclose(np.diff(trajectory.times_s), PERIOD_S, atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_it_stays_on_the_path_and_passes_its_corners(seed: int) -> None:
    path = some_path(seed)
    joints = time_path(path).joints
    segments = densify(path.joints, 2e-3)
    off = [np.linalg.norm(segments - place, axis=1).min() for place in joints[::7]]
    missed = [np.linalg.norm(joints - corner, axis=1).min() for corner in path.joints]
    assert max(off) < ROUNDING_RAD + 2e-3
    assert max(missed) < ROUNDING_RAD + 2e-3


def test_somewhere_a_limit_is_reached_at_nearly_every_instant() -> None:
    trajectory = time_path(some_path(0), speed=0.3)
    joints = trajectory.joints
    low, high = FR3.velocity_limits(joints[1:-1])
    velocity = np.diff(joints, axis=0)[1:] / (0.3 * PERIOD_S)
    velocity = np.where(velocity < 0.0, velocity / low, velocity / high)
    acceleration = np.abs(np.diff(joints, 2, axis=0)) / PERIOD_S**2 / (0.3 * np.array(FR3.acceleration))
    used = np.maximum(velocity, acceleration).max(axis=1)
    assert np.mean(used > 0.8) > 0.9


def test_half_the_speed_takes_longer_but_no_more_than_twice_as_long() -> None:
    path = some_path(1)
    full, half = time_path(path).duration_s, time_path(path, speed=0.5).duration_s
    assert full < half <= 2.05 * full


def test_between_two_instants_joints_move_evenly_and_outside_they_stand() -> None:
    trajectory = time_path(some_path(2))
    middle = trajectory.at(np.array([10.5 * PERIOD_S]))[0]
    np.testing.assert_allclose(middle, trajectory.joints[10:12].mean(axis=0), atol=1e-9)
    np.testing.assert_array_equal(trajectory.at(np.array([-1.0, 1e3])), trajectory.joints[[0, -1]])


def test_a_path_that_leads_nowhere_takes_no_time() -> None:
    assert time_path(JointPath(np.array([HOME_JOINTS, HOME_JOINTS]))).duration_s == 0.0


def test_a_path_onto_a_joint_limit_has_no_pace() -> None:
    edge = np.array(HOME_JOINTS)
    edge[0] = FR3.upper[0] + 0.01
    with pytest.raises(PlanningError, match="joint_margin") as caught:
        time_path(JointPath(np.array([HOME_JOINTS, edge])))
    assert caught.value.reason.code is Reason.NO_PATH  # type: ignore[attr-defined]


@pytest.mark.parametrize("speed", [0.0, -0.1, 1.5, float("nan")])
def test_a_speed_that_is_none_is_refused(speed: float) -> None:
    with pytest.raises(ConfigurationError, match="speed"):
        time_path(some_path(0), speed=speed)
