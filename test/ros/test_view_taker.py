"""Views taken from the running graph, for calibration."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from rclpy.context import Context
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image, JointState
from spinning import own_domain, ros_context, spinning

from minidiffuser_ros.arm.kinematics import HOME_JOINTS, STATE_NAMES, FrankaKinematics
from minidiffuser_ros.bridge import view_taker
from minidiffuser_ros.bridge.conversions import image_from_color, image_from_depth, info_from_camera, joint_state
from minidiffuser_ros.bridge.qos import SENSOR_DATA
from minidiffuser_ros.bridge.view_taker import ViewTaker
from minidiffuser_ros.cli import calibrate
from minidiffuser_ros.contract.errors import ConfigurationError, ConnectionLostError, MessageError, MotionError
from minidiffuser_ros.geometry.camera import PinholeCamera
from minidiffuser_ros.perception.boards import Board, page
from minidiffuser_ros.perception.view_folder import read_view_folder

pytestmark = pytest.mark.ros

CAMERA = PinholeCamera.from_fov(64, 48, 42.0)
COLOR, DEPTH, INFO = "front/color/image_raw", "front/depth", "front/color/camera_info"
PICTURE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


class Lab(Node):
    """A camera and an arm; the arm can be led, the camera switched off."""

    def __init__(self, context: Context) -> None:
        super().__init__("lab", context=context)
        self.speed, self.has_camera, self.model, self.d = 0.0, True, "plumb_bob", [0.0] * 5
        self.picture, self.camera = PICTURE, CAMERA
        self._joints = np.array(HOME_JOINTS)
        self._out = {name: self.create_publisher(Image, name, SENSOR_DATA) for name in (COLOR, DEPTH)}
        self._info = self.create_publisher(CameraInfo, INFO, SENSOR_DATA)
        self._states = self.create_publisher(JointState, "joint_states", SENSOR_DATA)
        self.create_timer(0.1, self._publish_pictures)
        self.create_timer(0.02, self._publish_states)

    def _now(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def _publish_pictures(self) -> None:
        if not self.has_camera:
            return
        stamp = self._now()
        info = info_from_camera(self.camera, "front", stamp)
        info.d, info.distortion_model = self.d, self.model
        self._info.publish(info)
        self._out[DEPTH].publish(image_from_depth(np.full(self.picture.shape[:2], 0.7), "front", stamp))
        self._out[COLOR].publish(image_from_color(self.picture, "front", stamp))

    def _publish_states(self) -> None:
        self._joints = self._joints + 0.02 * self.speed
        self._states.publish(joint_state(STATE_NAMES, [*self._joints, 0.02, 0.02], self._now()))


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(own_domain()))
    with ros_context() as context:
        node = Lab(context)
        with spinning(context, node):
            yield node


def test_a_view_is_the_picture_with_the_joints_and_the_camera_of_its_moment(lab: Lab) -> None:
    with ViewTaker(COLOR, DEPTH, INFO) as taker:
        view = taker.take()
    np.testing.assert_array_equal(view.color, PICTURE)
    np.testing.assert_allclose(view.joints, HOME_JOINTS, atol=1e-9)
    assert view.opening == pytest.approx(0.5)
    assert (view.camera.width, view.camera.height) == (64, 48)
    assert view.camera.fx == pytest.approx(CAMERA.fx)
    assert view.distortion == ()
    if view.depth is not None:
        np.testing.assert_allclose(view.depth, 0.7, atol=1e-3)


def test_a_moving_arm_gives_no_view_and_one_that_has_stopped_does(lab: Lab) -> None:
    lab.speed = 0.05
    with ViewTaker(COLOR, DEPTH, INFO) as taker:
        with pytest.raises(MotionError, match="hold it still"):
            taker.take()
        lab.speed = 0.0
        assert taker.take().color.shape == (48, 64, 3)


def test_distortion_is_taken_along_unless_the_pictures_are_rectified(lab: Lab) -> None:
    lab.d = [0.1, -0.05, 0.0, 0.001, 0.0]
    with ViewTaker(COLOR, DEPTH, INFO) as taker:
        assert taker.take().distortion == pytest.approx(tuple(lab.d))
    lab.model = "equidistant"
    with ViewTaker(COLOR, DEPTH, INFO) as taker, pytest.raises(MessageError, match="equidistant"):
        taker.take()
    with ViewTaker(COLOR, DEPTH, INFO, rectified=True) as taker:
        assert taker.take().distortion == ()


def test_a_silent_camera_is_named(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view_taker, "TIMEOUT_S", 0.5)
    lab.has_camera = False
    with ViewTaker(COLOR, DEPTH, INFO) as taker, pytest.raises(ConnectionLostError, match="/front/color/camera_info"):
        taker.take()


def test_a_person_collects_views_and_may_go_on_later(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    board = cv2.resize(page(Board()), (594, 420), interpolation=cv2.INTER_AREA)
    lab.picture, lab.camera = np.repeat(board[..., None], 3, axis=2), PinholeCamera.from_fov(594, 420, 42.0)
    for keys, count in ((["", "", "q"], 2), (["", "q"], 3)):
        pressed = iter(keys)
        monkeypatch.setattr("builtins.input", lambda prompt, pressed=pressed: next(pressed))
        capture(tmp_path, "--color-topic", COLOR, "--depth-topic", DEPTH, "--info-topic", INFO)
        found = read_view_folder(tmp_path, lambda joints: joints)
        assert [view.image for view in found.views] == [f"{i:03d}.png" for i in range(count)]
    assert "going on after 2 views" in capsys.readouterr().out
    assert (found.camera, found.on_hand, found.intrinsics.width) == ("front", False, 594)
    np.testing.assert_allclose(found.views[2].T_base_tool, FrankaKinematics().forward(HOME_JOINTS), atol=1e-9)
    np.testing.assert_array_equal(found.color(found.views[0]), lab.picture)
    with pytest.raises(ConfigurationError, match="name another folder"):
        capture(tmp_path, "--columns", "9")


def capture(out: Path, *arguments: str) -> None:
    parser = argparse.ArgumentParser()
    calibrate.add_arguments(parser)
    assert calibrate.run(parser.parse_args(["capture", "--camera", "front", "--out", str(out), *arguments])) == 0
