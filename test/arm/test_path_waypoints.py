"""A path as waypoints: on the path, at its pace, and entered smoothly where the arm has stopped on the way."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import CubicHermiteSpline

from minidiffuser_ros.arm.path_waypoints import PathWaypoints
from minidiffuser_ros.arm.planning.timing import Trajectory

DURATION_S = 4.0
TIMES = np.linspace(0.0, DURATION_S, 401)
DONE = (TIMES / DURATION_S) ** 3 * (10 - 15 * (TIMES / DURATION_S) + 6 * (TIMES / DURATION_S) ** 2)
JOINTS = np.stack([np.sin((1 + 0.2 * i) * DONE) for i in range(7)], axis=1)
PATH = Trajectory(TIMES, JOINTS, np.gradient(JOINTS, TIMES, axis=0) * np.r_[0, np.ones(399), 0][:, None])


def test_waypoints_lie_on_the_path_at_even_times_with_its_velocities() -> None:
    period, joints, velocities = PathWaypoints(PATH).after(0.0, 0.1, 0.5)
    assert period == pytest.approx(0.1)
    way = CubicHermiteSpline(TIMES, PATH.joints, PATH.velocities)
    np.testing.assert_allclose(joints, way(0.1 * np.arange(1, 41)), atol=1e-9)
    np.testing.assert_allclose(velocities[:-1], way(0.1 * np.arange(1, 40), 1), atol=1e-9)
    np.testing.assert_array_equal(velocities[-1], 0.0)


def test_the_nearest_place_is_found() -> None:
    instant, away = PathWaypoints(PATH).nearest(JOINTS[173] + 0.004 * np.array([1, -1, 1, -1, 1, -1, 1]))
    assert instant == pytest.approx(TIMES[173], abs=0.03)
    assert away == pytest.approx(0.004, abs=0.0015)


@pytest.mark.parametrize("begin_s", [0.5, 2.0, 3.5, 3.9, DURATION_S])
def test_the_rest_of_a_path_is_entered_at_rest_and_ends_where_the_path_does(begin_s: float) -> None:
    way, ramp = PathWaypoints(PATH), 0.5
    period, joints, velocities = way.after(begin_s, 0.02, ramp)
    np.testing.assert_allclose(joints[-1], JOINTS[-1], atol=1e-9)
    np.testing.assert_array_equal(velocities[-1], 0.0)
    # Each waypoint follows from the ones before: its velocity is that of the way there.
    start = CubicHermiteSpline(TIMES, PATH.joints, PATH.velocities)(begin_s)
    path, speeds = np.vstack([start, joints]), np.vstack([np.zeros(7), velocities])
    mean = np.diff(path, axis=0) / max(period, 1e-12)
    between = 0.5 * (speeds[1:] + speeds[:-1])
    np.testing.assert_allclose(mean[:-1], between[:-1], atol=0.02)
    assert np.abs(np.diff(speeds[:-1], axis=0)).max(initial=0.0) < 0.06
