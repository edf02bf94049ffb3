"""Twists that lead to a keypose: integrated, they get there, straight and no faster than allowed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from minidiffuser_ros.arm.reaching import ReachSettings, is_there, twist_towards
from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.geometry.rotation import quat_of

SETTINGS = ReachSettings()
PERIOD_S = 0.02


def follow(tool: np.ndarray, keypose: Keypose) -> np.ndarray:
    """Every pose [N, 4, 4] on the way of a tool that does exactly what it is told."""
    poses = [tool]
    while not is_there(poses[-1], keypose, SETTINGS):
        assert len(poses) < 2000, "it never arrives"
        twist = twist_towards(poses[-1], keypose, SETTINGS)
        assert np.linalg.norm(twist[:3]) <= SETTINGS.linear_speed + 1e-9
        assert np.linalg.norm(twist[3:]) <= SETTINGS.angular_speed + 1e-9
        following = poses[-1].copy()
        following[:3, 3] += PERIOD_S * twist[:3]
        following[:3, :3] = Rotation.from_rotvec(PERIOD_S * twist[3:]).as_matrix() @ following[:3, :3]
        poses.append(following)
    return np.array(poses)


@pytest.mark.parametrize("seed", range(10))
def test_the_tool_arrives_on_a_straight_line(seed: int) -> None:
    rng = np.random.default_rng(seed)
    start = np.eye(4)
    start[:3, :3] = Rotation.random(rng=rng).as_matrix()
    start[:3, 3] = rng.uniform(-0.3, 0.3, 3)
    goal = Keypose(rng.uniform(-0.3, 0.3, 3), quat_of(Rotation.random(rng=rng)), 1.0)
    way = follow(start, goal)[:, :3, 3]
    along = (goal.position - start[:3, 3]) / np.linalg.norm(goal.position - start[:3, 3])
    beside = (way - start[:3, 3]) - np.outer((way - start[:3, 3]) @ along, along)
    assert np.abs(beside).max() < 1e-9


def test_position_and_rotation_arrive_together() -> None:
    start = np.eye(4)
    goal = Keypose(np.array([0.2, 0.0, 0.0]), quat_of(Rotation.from_euler("z", 90, degrees=True)), 1.0)
    half = follow(start, goal)
    share = half[:, 0, 3] / 0.2
    turned = np.rad2deg(np.arctan2(half[:, 1, 0], half[:, 0, 0])) / 90.0
    np.testing.assert_allclose(share, turned, atol=1e-6)


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="approach_s"):
        ReachSettings(approach_s=0.0)
