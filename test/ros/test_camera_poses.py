"""Where nodes take the cameras' poses from: files and TF, with their age watched."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.context import Context
from rclpy.node import Node
from spinning import eventually, parameters, ros_context, spinning
from synthetic_robot import CALIBRATION, SyntheticRobot
from tf_stand_in import stand_in

from minidiffuser_ros.arm.frames import known_frames
from minidiffuser_ros.bridge.camera_poses import CameraPoses
from minidiffuser_ros.bridge.conversions import points_from_cloud
from minidiffuser_ros.bridge.qos import LATCHED
from minidiffuser_ros.bridge.transforms import TransformTree, mount_from_tf
from minidiffuser_ros.contract.calibration import CameraPoseSettings
from minidiffuser_ros.contract.errors import ConfigurationError, MessageError
from minidiffuser_ros.contract.observation import CameraMount
from minidiffuser_ros.geometry.transform import transform_from
from minidiffuser_ros.msg import ObserverStatus
from minidiffuser_ros.nodes.observer import ObserverNode
from minidiffuser_ros.perception.calibration import CalibrationEntry, load_calibration, write_calibration
from minidiffuser_ros.srv import Capture

pytestmark = pytest.mark.ros

UNMOVED = np.eye(4)
MOUNTS = load_calibration(CALIBRATION, ["front", "wrist"])
Edges = dict[str, tuple[str, np.ndarray]]


def pose(mount: CameraMount) -> np.ndarray:
    return transform_from(mount.position, mount.quat_wxyz)


def lab() -> Edges:
    """A tree as franka_description and two camera drivers publish it: cameras on links of their own, a world."""
    T_tool_hand = known_frames()["fr3_hand"][1]
    T_link_optical = transform_from([0.0, 0.015, 0.0], [0.5, -0.5, 0.5, -0.5])
    T_world_base = transform_from([0.3, -0.2, 0.7], [np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5)])
    back = np.linalg.inv(T_link_optical)
    return {
        "fr3_link0": ("world", T_world_base),
        "fr3_link1": ("fr3_link0", transform_from([0.0, 0.0, 0.333], [1.0, 0.0, 0.0, 0.0])),
        "fr3_hand": ("fr3_link1", transform_from([0.4, 0.1, 0.2], [0.0, 1.0, 0.0, 0.0])),
        "front_link": ("world", T_world_base @ pose(MOUNTS["front"]) @ back),
        "front_color_optical_frame": ("front_link", T_link_optical),
        "wrist_link": ("fr3_hand", np.linalg.inv(T_tool_hand) @ pose(MOUNTS["wrist"]) @ back),
        "wrist_color_optical_frame": ("wrist_link", T_link_optical),
    }


@pytest.fixture
def edges(monkeypatch: pytest.MonkeyPatch) -> Edges:
    tree = lab()
    monkeypatch.setitem(sys.modules, "tf2_ros", stand_in(tree))
    return tree


def mount(camera: str) -> CameraMount:
    with ros_context() as context:
        node = Node("listener", context=context)
        found = mount_from_tf(TransformTree(node), camera, f"{camera}_color_optical_frame", known_frames())
        node.destroy_node()
        return found


@pytest.mark.parametrize("camera", ["front", "wrist"])
def test_tf_gives_the_pose_in_the_base_or_in_the_tool_whatever_lies_between(edges: Edges, camera: str) -> None:
    found = mount(camera)
    assert found.parent_frame == MOUNTS[camera].parent_frame
    np.testing.assert_allclose(pose(found), pose(MOUNTS[camera]), atol=1e-6)


def test_frames_that_tf_does_not_have_are_named(edges: Edges) -> None:
    with pytest.raises(MessageError, match=r"no frame 'left_color_optical_frame' .* it has \['fr3_hand'"):
        mount("left")
    edges["front_link"] = ("elsewhere", UNMOVED)
    with pytest.raises(MessageError, match="does not connect the camera 'front'"):
        mount("front")


def test_a_camera_on_a_link_that_moves_against_base_and_hand_is_refused(edges: Edges) -> None:
    edges["wrist_link"] = ("fr3_link4", transform_from([0.1, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]))
    with pytest.raises(MessageError, match="'fr3_link4', which is neither the base nor the hand"):
        mount("wrist")


def test_an_identity_on_tf_is_refused(edges: Edges) -> None:
    edges["front_color_optical_frame"] = ("fr3_link0", UNMOVED)
    with pytest.raises(ConfigurationError, match="is the identity"):
        mount("front")


def test_without_tf2_ros_one_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tf2_ros", None)
    with ros_context() as context:
        node = Node("listener", context=context)
        with pytest.raises(ConfigurationError, match="needs the package tf2_ros, which is not installed"):
            CameraPoses(node, CameraPoseSettings(calibration="tf"), ["front"])
        node.destroy_node()


def test_the_observer_waits_for_tf_and_then_sees_what_it_sees_with_the_file(edges: Edges) -> None:
    late = edges.pop("wrist_link")
    with observing("tf") as looker:
        answer = looker.capture()
        assert not answer.success
        assert "the pose of camera 'wrist' is not known yet" in answer.message
        eventually(lambda: any("does not connect the camera 'wrist'" in reason for reason in looker.reasons()))
        edges["wrist_link"] = late
        from_tf = looker.points()
        eventually(lambda: looker.statuses[-1].ready)
    with observing(str(CALIBRATION)) as looker:
        from_file = looker.points()
    np.testing.assert_allclose(from_tf, from_file, atol=1e-5)


@contextmanager
def observing(calibration: str) -> Iterator[Looker]:
    """A client of a running observer with its synthetic surroundings."""
    overrides = parameters(calibration=calibration, streams__set_tolerance_s=0.1, streams__silent_after_s=2.0)
    with ros_context() as context:
        looker, observer = Looker(context), ObserverNode(context=context, parameter_overrides=overrides)
        robot = SyntheticRobot(context)
        robot.still = True  # so that two clouds can be the same
        with spinning(context, robot, observer, looker):
            yield looker


class Looker(Node):
    """A client of the observer."""

    def __init__(self, context: Context) -> None:
        super().__init__("looker", context=context)
        self.statuses: list[ObserverStatus] = []
        self.create_subscription(ObserverStatus, "observer/status", self.statuses.append, LATCHED)
        self._captures = self.create_client(Capture, "observer/capture")

    def reasons(self) -> list[str]:
        return [reason for status in self.statuses for reason in status.reasons]

    def capture(self) -> Capture.Response:
        assert self._captures.wait_for_service(10.0)
        future = self._captures.call_async(Capture.Request(timeout_s=3.0))
        return eventually(lambda: future.result() if future.done() else None, 15.0)

    def points(self) -> np.ndarray:
        """Points [P, 3] of the first capture that succeeds."""
        answer = eventually(lambda: (found := self.capture()).success and found, 20.0)
        return points_from_cloud(answer.points)[0]


@pytest.mark.parametrize(
    ("days", "level"), [(30.0, DiagnosticStatus.OK), (120.0, DiagnosticStatus.WARN), (-2.0, DiagnosticStatus.WARN)]
)
def test_diagnostics_tell_source_hash_and_age_and_warn_of_an_old_calibration(
    tmp_path: Path, days: float, level: bytes
) -> None:
    path, now = tmp_path / "cameras.yaml", datetime.now(UTC)
    moment = (now - timedelta(days=days)).isoformat(timespec="seconds")
    for camera in MOUNTS.values():
        write_calibration(path, CalibrationEntry(camera, moment if camera.name == "front" else ""), False, now)
    arrays: list[DiagnosticArray] = []
    with ros_context() as context:
        node, client = Node("looker", context=context), Node("client", context=context)
        client.create_subscription(DiagnosticArray, "/diagnostics", arrays.append, 10)
        settings = CameraPoseSettings(calibration=str(path), max_calibration_age_days=90.0)
        poses = CameraPoses(node, settings, ["front", "wrist"])
        node.create_timer(0.1, poses.tell)
        with spinning(context, node, client):
            status = eventually(lambda: arrays[-1:])[0].status[0]
    values = {entry.key: entry.value for entry in status.values}
    assert status.name == "looker: calibration"
    assert status.level == level
    assert values["front.source"] == str(path)
    assert values["front.sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert float(values["front.age_days"]) == pytest.approx(days, abs=0.1)
    assert values["wrist.age_days"] == "unknown"
    assert ("120 days old" in status.message) == (days > 90.0)
    assert ("in the future" in status.message) == (days < 0.0)
    assert [record.camera for record in poses.records] == ["front", "wrist"]
