"""The observer as a real node, fed by a synthetic camera pair that looks at a slab on the table."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rclpy.context import Context
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image, JointState, PointCloud2
from spinning import eventually, parameters, ros_context, spinning

from minidiffuser_ros.arm.kinematics import FINGER_NAMES, HOME_JOINTS, JOINT_NAMES, FrankaKinematics
from minidiffuser_ros.bridge.conversions import (
    image_from_color,
    image_from_depth,
    info_from_camera,
    joint_state,
    points_from_cloud,
    stamp_from_ns,
    stamp_to_ns,
)
from minidiffuser_ros.bridge.parameters import check_parameter_file, parameter_names
from minidiffuser_ros.bridge.qos import LATCHED, RELIABLE, SENSOR_DATA
from minidiffuser_ros.contract.observation import CameraMount, ObservationSpec
from minidiffuser_ros.geometry.camera import PinholeCamera
from minidiffuser_ros.geometry.transform import transform_from
from minidiffuser_ros.msg import ObserverStatus
from minidiffuser_ros.nodes.observer import ObserverNode, ObserverSettings
from minidiffuser_ros.perception.calibration import load_calibration
from minidiffuser_ros.srv import Capture

pytestmark = pytest.mark.ros

CALIBRATION = Path(__file__).parents[2] / "config" / "simulation_cameras.yaml"
CAMERA = PinholeCamera.from_fov(106, 60, 42.0)
SLAB_TOP, SLAB_LOW, SLAB_HIGH = 0.04, np.array([0.40, -0.10]), np.array([0.52, 0.10])
RATE_HZ = 8.0


def slab_depth(T_base_camera: np.ndarray) -> np.ndarray:
    """Exact depth [H, W] of a table at z = 0 that carries a slab (its top only)."""
    rays = CAMERA.deproject(np.ones((CAMERA.height, CAMERA.width))) @ T_base_camera[:3, :3].T
    origin = T_base_camera[:3, 3]
    depth = np.full(rays.shape[:2], np.nan)
    for height in (0.0, SLAB_TOP):
        along = (height - origin[2]) / rays[..., 2]
        hit = origin[:2] + along[..., None] * rays[..., :2]
        on_slab = ((hit >= SLAB_LOW) & (hit <= SLAB_HIGH)).all(axis=-1)
        valid = (along > 0) & (on_slab | (height == 0.0))
        depth = np.where(valid, along, depth)
    return depth.astype(np.float32)


class SyntheticRobot(Node):
    """Publishes what two cameras and an arm at home would; parts of it can be switched off or broken."""

    def __init__(self, context: Context) -> None:
        super().__init__("synthetic_robot", context=context)
        self.encoding = "16UC1"
        self.silent: set[str] = set()
        self.blind = False
        self.stamp_offset_ns = 0
        self.joint_names = (*JOINT_NAMES, *FINGER_NAMES)
        mounts = load_calibration(CALIBRATION, ["front", "wrist"])
        self.depths = {name: slab_depth(self.camera_pose(mount)) for name, mount in mounts.items()}
        self.outputs = {
            name: (
                self.create_publisher(Image, f"{name}/color/image_raw", SENSOR_DATA),
                self.create_publisher(Image, f"{name}/aligned_depth_to_color/image_raw", SENSOR_DATA),
                self.create_publisher(CameraInfo, f"{name}/color/camera_info", SENSOR_DATA),
            )
            for name in mounts
        }
        self.joints = self.create_publisher(JointState, "joint_states", RELIABLE)
        self.create_timer(1.0 / RATE_HZ, self.publish)

    @staticmethod
    def camera_pose(mount: CameraMount) -> np.ndarray:
        tool = FrankaKinematics().forward(HOME_JOINTS) if mount.parent_frame == "fr3_hand_tcp" else np.eye(4)
        return tool @ transform_from(mount.position, mount.quat_wxyz)

    def publish(self) -> None:
        stamp = int(self.get_clock().now().nanoseconds) + self.stamp_offset_ns
        if "joint_states" not in self.silent:
            values = [*HOME_JOINTS, 0.03, 0.03][: len(self.joint_names)]
            self.joints.publish(joint_state(self.joint_names, values, stamp))
        for name, (color, depth, info) in self.outputs.items():
            metres = np.full_like(self.depths[name], np.nan) if self.blind else self.depths[name]
            picture = np.full((CAMERA.height, CAMERA.width, 3), (200, 30, 30), np.uint8)
            if f"{name}/color" not in self.silent:
                color.publish(image_from_color(picture, name, stamp))
            if f"{name}/depth" not in self.silent:
                depth.publish(image_from_depth(metres, name, stamp, self.encoding))
            info.publish(info_from_camera(CAMERA, name, stamp))


class Rig:
    """A running observer, its synthetic surroundings and a client."""

    def __init__(self, context: Context) -> None:
        self.robot = SyntheticRobot(context)
        self.observer = ObserverNode(
            context=context,
            parameter_overrides=parameters(
                calibration=str(CALIBRATION), autostart=True, streams__silent_after_s=0.8, streams__set_tolerance_s=0.1
            ),
        )
        self.client = Node("client", context=context)
        self.captures = self.client.create_client(Capture, "observer/capture")
        self.statuses: list[ObserverStatus] = []
        self.clouds: list[PointCloud2] = []
        self.client.create_subscription(ObserverStatus, "observer/status", self.statuses.append, LATCHED)
        self.client.create_subscription(PointCloud2, "observer/points", self.clouds.append, RELIABLE)

    def now_ns(self) -> int:
        return int(self.client.get_clock().now().nanoseconds)

    def capture(self, not_before_ns: int = 0, timeout_s: float = 3.0) -> Capture.Response:
        assert self.captures.wait_for_service(10.0)
        future = self.captures.call_async(Capture.Request(not_before=stamp_from_ns(not_before_ns), timeout_s=timeout_s))
        return eventually(lambda: future.result() if future.done() else None, 15.0)


@pytest.fixture
def rig() -> Iterator[Rig]:
    with ros_context() as context:
        rig = Rig(context)
        with spinning(context, rig.robot, rig.observer, rig.client):
            yield rig


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
def test_the_slab_is_seen_where_it_lies_in_both_depth_encodings(rig: Rig, encoding: str) -> None:
    rig.robot.encoding = encoding
    asked_ns = rig.now_ns()
    answer = rig.capture(asked_ns)
    assert answer.success, answer.message
    points, colors = points_from_cloud(answer.points)
    assert len(points) > 50
    np.testing.assert_allclose(points[:, 2], SLAB_TOP, atol=0.003)
    assert (points[:, :2] >= SLAB_LOW - 0.01).all()
    assert (points[:, :2] <= SLAB_HIGH + 0.01).all()
    # Voxels blend colours, so this one-coloured scene must keep its colour.
    assert np.abs(colors.astype(int) - [200, 30, 30]).max() <= 2
    assert stamp_to_ns(answer.points.header.stamp) >= asked_ns
    assert answer.points.header.frame_id == "fr3_link0"
    np.testing.assert_allclose(answer.joint_positions, HOME_JOINTS, atol=1e-9)
    assert answer.opening == pytest.approx(0.75)
    assert ObservationSpec.from_dict(json.loads(answer.spec)) == ObservationSpec()
    tool = FrankaKinematics().forward(HOME_JOINTS)[:3, 3]
    p = answer.tool_pose.position
    np.testing.assert_allclose([p.x, p.y, p.z], tool, atol=1e-9)
    cloud = eventually(lambda: rig.clouds[-1:])[0]
    assert cloud.width == len(points)


def test_a_capture_waits_for_pictures_taken_after_the_given_stamp(rig: Rig) -> None:
    assert rig.capture().success
    later = rig.now_ns() + 400_000_000
    answer = rig.capture(later)
    assert answer.success, answer.message
    assert stamp_to_ns(answer.points.header.stamp) >= later


def test_a_silent_topic_is_named_and_the_answer_comes_in_time(rig: Rig) -> None:
    assert rig.capture().success
    rig.robot.silent = {"wrist/depth"}
    started = time.monotonic()
    answer = rig.capture(rig.now_ns(), timeout_s=1.0)
    assert not answer.success
    assert time.monotonic() - started < 5.0
    assert len(answer.reasons) == 1
    assert "/wrist/aligned_depth_to_color/image_raw has been silent for" in answer.reasons[0]
    status = eventually(lambda: next((s for s in rig.statuses if not s.ready and s.reasons), None))
    assert not status.ready


def test_missing_joint_states_and_missing_joints_are_told_apart(rig: Rig) -> None:
    assert rig.capture().success
    rig.robot.joint_names = JOINT_NAMES
    answer = rig.capture(rig.now_ns(), timeout_s=0.5)
    assert not answer.success
    assert "lacks fr3_finger_joint1, fr3_finger_joint2" in answer.message
    rig.robot.silent = {"joint_states"}
    rig.robot.joint_names = (*JOINT_NAMES, *FINGER_NAMES)


def test_depth_without_a_valid_pixel_is_a_reason_for_each_camera(rig: Rig) -> None:
    assert rig.capture().success
    rig.robot.blind = True
    answer = rig.capture(rig.now_ns() + 100_000_000)
    assert not answer.success
    assert answer.reasons == [f"camera '{name}' has no valid depth pixel" for name in ("front", "wrist")]


def test_pictures_older_than_asked_for_are_not_served(rig: Rig) -> None:
    rig.robot.stamp_offset_ns = -10_000_000_000
    answer = rig.capture(rig.now_ns(), timeout_s=1.0)
    assert not answer.success
    assert any("stale" in reason for reason in answer.reasons)


@pytest.mark.parametrize("timeout_s", [float("nan"), -1.0, 1e9])
def test_an_impossible_timeout_is_refused_at_once(rig: Rig, timeout_s: float) -> None:
    answer = rig.capture(timeout_s=timeout_s)
    assert not answer.success
    assert "timeout_s must lie between" in answer.message


@pytest.mark.parametrize("calibration", ["", "/nowhere/cameras.yaml"])
def test_without_a_calibration_the_node_ends_with_a_sentence(calibration: str) -> None:
    with ros_context() as context:
        overrides = parameters(calibration=calibration) if calibration else []
        observer = ObserverNode(context=context, parameter_overrides=overrides)
        with spinning(context, observer):
            eventually(observer.ended.is_set)
            assert observer.exit_code == 2
            assert "calibration" in observer.stop_reason


def test_the_shipped_parameter_file_sets_only_what_the_node_knows() -> None:
    path = Path(__file__).parents[2] / "config" / "observer.yaml"
    check_parameter_file(path, {"observer": parameter_names(ObserverSettings())})
