"""Laws of checking a camera's pose on the gripper, with depth that is computed from another pose."""

from __future__ import annotations

import numpy as np
import pytest

from minidiffuser_ros.arm.hand_shape import hand_triangles
from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.geometry.camera import PinholeCamera
from minidiffuser_ros.geometry.transform import invert, look_at
from minidiffuser_ros.perception.gripper_check import Gripper

CAMERA = PinholeCamera(320, 240, 306.0, 306.0, 160.0, 120.0)
# In the tool frame: the camera looks at the front of the hand from half a metre.
T_TOOL_CAMERA = look_at([0.5, 0.1, -0.1], [0.0, 0.0, -0.05], (0.0, 0.0, -1.0))
MESH = hand_triangles(0.5)


def gripper(shift: float = 0.0) -> Gripper:
    """Seen by a camera that is believed to be `shift` metres nearer than it is."""
    moved = T_TOOL_CAMERA.copy()
    moved[:3, 3] += shift * moved[:3, 2]
    return Gripper(*MESH, invert(moved), CAMERA)


def test_the_mesh_is_the_hand_in_metres_with_the_fingertips_at_the_tool() -> None:
    for opening in (0.0, 0.5, 1.0):
        vertices, triangles = hand_triangles(opening)
        assert triangles.max() < len(vertices)
        assert vertices[:, 2].max() == pytest.approx(0.009, abs=0.01)  # the tips reach a little beyond the tool frame
        assert np.ptp(vertices[:, 1]) == pytest.approx(0.205, abs=0.01)  # the hand's width, which Franka states
        tips = vertices[vertices[:, 2] > -0.02]
        assert np.abs(tips[:, 1]).min() == pytest.approx(0.04 * opening, abs=0.003)


def test_depth_of_the_right_pose_agrees() -> None:
    true = gripper()
    found = true.agreement(np.where(true.mask, true.depth, 1.5))
    assert found.median_mm < 0.1
    assert abs(found.depth_mm) < 0.1
    assert found.close == 1.0
    assert found.seen == pytest.approx(1.0)


@pytest.mark.parametrize("shift", [-0.02, 0.02])
def test_a_wrong_pose_shows_as_the_distance_it_is_wrong_by(shift: float) -> None:
    true = gripper()
    found = gripper(shift).agreement(np.where(true.mask, true.depth, 1.5))
    assert found.depth_mm == pytest.approx(1e3 * shift, abs=3.0)
    assert found.median_mm > 8.0
    assert found.close < 0.6


def test_what_lies_before_the_gripper_or_is_unknown_is_left_out() -> None:
    true = gripper()
    depth = np.where(true.mask, true.depth, 1.5)
    depth[:, :160] = 0.2  # something near
    depth[:110, 160:] = np.nan
    found = true.agreement(depth)
    assert found.median_mm < 0.1
    assert found.seen < 0.6


def test_a_view_without_the_gripper_is_refused() -> None:
    away = Gripper(*MESH, invert(look_at([0.5, 0.0, 0.0], [1.0, 0.0, 0.0], (0.0, 0.0, -1.0))), CAMERA)
    with pytest.raises(ConfigurationError, match="outside the picture"):
        away.drawn(np.zeros((240, 320, 3), np.uint8))
    with pytest.raises(ConfigurationError, match="the camera's pose is wrong"):
        gripper().agreement(np.full((240, 320), 3.0))


def test_the_outline_is_drawn_around_the_gripper_and_nowhere_else() -> None:
    true = gripper()
    color = np.full((240, 320, 3), 90, np.uint8)
    changed = (true.drawn(color) != color).any(axis=2)
    assert changed[true.mask].all()
    assert not changed[~true.mask].any()
