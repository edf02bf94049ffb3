"""What a recorder listens to, made up: small pictures of two cameras, joint states, tool pose, gripper target."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.context import Context
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image, JointState

from minidiffuser_ros.arm.kinematics import FINGER_NAMES, HOME_JOINTS, JOINT_NAMES
from minidiffuser_ros.bridge.conversions import (
    image_from_color,
    image_from_depth,
    info_from_camera,
    joint_state,
    stamped_pose,
)
from minidiffuser_ros.bridge.qos import SENSOR_DATA
from minidiffuser_ros.geometry.camera import PinholeCamera

CAMERA = PinholeCamera.from_fov(64, 48, 42.0)
PICTURE_RATE_HZ, STATE_RATE_HZ = 10.0, 50.0


class RecordedRobot(Node):
    """Publishes best effort, as hardware does; parts of it can be switched off or be given wrong stamps."""

    def __init__(self, context: Context) -> None:
        super().__init__("recorded_robot", context=context)
        self.silent: set[str] = set()
        self.stamp_offset_ns = 0
        self.joint_names = (*JOINT_NAMES, *FINGER_NAMES)
        self.color_encoding = "rgb8"
        self.tool = np.array([0.4, 0.0, 0.3])
        self.published: dict[str, int] = {}
        self._rng = np.random.default_rng(0)
        self._outputs = {
            f"{name}/{topic}": self.create_publisher(kind, f"{name}/{topic}", SENSOR_DATA)
            for name in ("front", "wrist")
            for topic, kind in (
                ("color/image_raw", Image),
                ("aligned_depth_to_color/image_raw", Image),
                ("color/camera_info", CameraInfo),
            )
        }
        for topic, kind in (("joint_states", JointState), ("gripper_target", JointState), ("tcp_pose", PoseStamped)):
            self._outputs[topic] = self.create_publisher(kind, topic, SENSOR_DATA)
        self.create_timer(1.0 / PICTURE_RATE_HZ, self._publish_pictures)
        self.create_timer(1.0 / STATE_RATE_HZ, self._publish_states)

    def _send(self, topic: str, message: object) -> None:
        if topic not in self.silent:
            self._outputs[topic].publish(message)
            self.published[topic] = self.published.get(topic, 0) + 1

    def _stamp(self) -> int:
        return int(self.get_clock().now().nanoseconds) + self.stamp_offset_ns

    def _publish_pictures(self) -> None:
        stamp = self._stamp()
        color = self._rng.integers(0, 256, (CAMERA.height, CAMERA.width, 3), dtype=np.uint8)
        depth = self._rng.uniform(0.3, 1.0, (CAMERA.height, CAMERA.width)).astype(np.float32)
        for name in ("front", "wrist"):
            picture = image_from_color(color, name, stamp)
            picture.encoding = self.color_encoding
            self._send(f"{name}/color/image_raw", picture)
            self._send(f"{name}/aligned_depth_to_color/image_raw", image_from_depth(depth, name, stamp, "16UC1"))
            self._send(f"{name}/color/camera_info", info_from_camera(CAMERA, name, stamp))

    def _publish_states(self) -> None:
        stamp = self._stamp()
        values = [*HOME_JOINTS, 0.03, 0.03][: len(self.joint_names)]
        self._send("joint_states", joint_state(self.joint_names, values, stamp))
        self._send("gripper_target", joint_state(["fr3_gripper"], [1.0], stamp))
        self._send("tcp_pose", stamped_pose(self.tool, (1.0, 0.0, 0.0, 0.0), "fr3_link0", stamp))
