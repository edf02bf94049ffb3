"""A camera pair that looks at a slab on the table, an arm at home, and an observer that is fed by them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock as RosClock
from rclpy.clock import ClockType
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState, PointCloud2
from spinning import eventually, parameters, ros_context, spinning

from minidiffuser_ros.arm.kinematics import FINGER_NAMES, HOME_JOINTS, JOINT_NAMES, FrankaKinematics
from minidiffuser_ros.bridge.conversions import (
    image_from_color,
    image_from_depth,
    info_from_camera,
    joint_state,
    stamp_from_ns,
)
from minidiffuser_ros.bridge.qos import LATCHED, RELIABLE, SENSOR_DATA
from minidiffuser_ros.contract.observation import CameraMount
from minidiffuser_ros.geometry.camera import PinholeCamera
from minidiffuser_ros.geometry.transform import transform_from
from minidiffuser_ros.msg import ObserverStatus
from minidiffuser_ros.nodes.observer import ObserverNode
from minidiffuser_ros.perception.calibration import load_calibration
from minidiffuser_ros.srv import Capture

CALIBRATION = Path(__file__).parents[2] / "config" / "simulation_cameras.yaml"
CAMERA = PinholeCamera.from_fov(106, 60, 42.0)
SLAB_TOP, SLAB_LOW, SLAB_HIGH = 0.04, np.array([0.40, -0.10]), np.array([0.52, 0.10])
RATE_HZ, STATES_HZ = 8.0, 25.0
# What flickers in a sensor: one grey level, a third of a millimetre.
NOISE_M = 0.0003


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
    """Publishes what two cameras and an arm at home would; parts of it can be switched off or broken.

    Topics are called `front/color`, `wrist/depth`, `joint_states` and so on. silent: publish nothing. stuck: the stamp
    stays. still: the sensor does not flicker. behind_ns: of each camera's clock.
    """

    def __init__(self, context: Context, qos: QoSProfile = SENSOR_DATA, sim_time: bool = False) -> None:
        overrides = parameters(use_sim_time=True) if sim_time else []
        super().__init__("synthetic_robot", context=context, parameter_overrides=overrides)
        self.encoding, self.color_encoding = "16UC1", ""
        self.silent: set[str] = set()
        self.stuck: dict[str, int] = {}
        self.still = self.blind = False
        self.stamp_offset_ns = 0
        self.behind_ns = {"front": 0, "wrist": 0}
        self.cut_bytes = 0
        self.info_camera, self.depth_rows = CAMERA, CAMERA.height
        self.joint_names = (*JOINT_NAMES, *FINGER_NAMES)
        self.rng = np.random.default_rng(5)
        mounts = load_calibration(CALIBRATION, ["front", "wrist"])
        self.depths = {name: slab_depth(self.camera_pose(mount)) for name, mount in mounts.items()}
        self.outputs = {
            name: (
                self.create_publisher(Image, f"{name}/color/image_raw", qos),
                self.create_publisher(Image, f"{name}/aligned_depth_to_color/image_raw", qos),
                self.create_publisher(CameraInfo, f"{name}/color/camera_info", qos),
            )
            for name in mounts
        }
        self.joints = self.create_publisher(JointState, "joint_states", RELIABLE)
        steady = RosClock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0 / RATE_HZ, self.publish, clock=steady)
        self.create_timer(1.0 / STATES_HZ, self.publish_joints, clock=steady)

    @staticmethod
    def camera_pose(mount: CameraMount) -> np.ndarray:
        tool = FrankaKinematics().forward(HOME_JOINTS) if mount.parent_frame == "fr3_hand_tcp" else np.eye(4)
        return tool @ transform_from(mount.position, mount.quat_wxyz)

    def now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds) + self.stamp_offset_ns

    def publish_joints(self) -> None:
        if "joint_states" not in self.silent:
            values = [*HOME_JOINTS, 0.03, 0.03][: len(self.joint_names)]
            self.joints.publish(joint_state(self.joint_names, values, self.now_ns()))

    def publish(self) -> None:
        now_ns = self.now_ns()
        for name, (color, depth, info) in self.outputs.items():
            stamp = now_ns - self.behind_ns[name]
            if f"{name}/color" not in self.silent:
                color.publish(self._color(name, self.stuck.get(f"{name}/color", stamp)))
            if f"{name}/depth" not in self.silent:
                depth.publish(self._depth(name, self.stuck.get(f"{name}/depth", stamp)))
            if f"{name}/info" not in self.silent:
                info.publish(info_from_camera(self.info_camera, name, stamp))

    def _color(self, name: str, stamp: int) -> Image:
        picture = np.full((CAMERA.height, CAMERA.width, 3), (200, 30, 30), np.uint8)
        if not self.still:
            picture += self.rng.integers(0, 2, picture.shape, np.uint8)
        message = image_from_color(picture, name, stamp)
        message.encoding = self.color_encoding or message.encoding
        if self.cut_bytes:
            message.data = message.data[: -self.cut_bytes]
        return message

    def _depth(self, name: str, stamp: int) -> Image:
        metres = np.full_like(self.depths[name], np.nan) if self.blind else self.depths[name][: self.depth_rows]
        if not self.still:
            metres = metres + self.rng.normal(0.0, NOISE_M, metres.shape).astype(np.float32)
        return image_from_depth(metres, name, stamp, self.encoding)


class Rig:
    """A running observer, its synthetic surroundings and a client."""

    def __init__(
        self, context: Context, qos: QoSProfile = SENSOR_DATA, sim_time: bool = False, **settings: object
    ) -> None:
        self.robot = SyntheticRobot(context, qos, sim_time)
        chosen = {"streams__silent_after_s": 0.8, "streams__set_tolerance_s": 0.1, **settings}
        if sim_time:
            chosen["use_sim_time"] = True
        self.observer = ObserverNode(
            context=context,
            parameter_overrides=parameters(calibration=str(CALIBRATION), autostart=True, **chosen),
        )
        self.client = Node("client", context=context)
        self.captures = self.client.create_client(Capture, "observer/capture")
        self.statuses: list[ObserverStatus] = []
        self.diagnoses: list[DiagnosticStatus] = []
        self.clouds: list[PointCloud2] = []
        self.client.create_subscription(ObserverStatus, "observer/status", self.statuses.append, LATCHED)
        self.surroundings: list[PointCloud2] = []
        self.client.create_subscription(PointCloud2, "observer/points", self.clouds.append, RELIABLE)
        self.client.create_subscription(PointCloud2, "observer/surroundings", self.surroundings.append, RELIABLE)
        self.client.create_subscription(
            DiagnosticArray, "/diagnostics", lambda array: self.diagnoses.extend(array.status), RELIABLE
        )
        self.clock_ns, self._ticking = 0, threading.Lock()
        self._clock = self.client.create_publisher(Clock, "/clock", RELIABLE) if sim_time else None
        if sim_time:
            self.clock_ns = 1_000_000_000_000
            self.client.create_timer(0.02, self._tick)

    def _tick(self, jump_ns: int = 0) -> None:
        assert self._clock is not None
        with self._ticking:
            self.clock_ns += 20_000_000 + jump_ns
            self._clock.publish(Clock(clock=stamp_from_ns(self.clock_ns)))

    def jump(self, jump_ns: int) -> None:
        """Set the time of the graph forth or back, and wait until all know it."""
        self._tick(jump_ns)
        for node in (self.robot, self.observer):
            eventually(lambda node=node: abs(node.get_clock().now().nanoseconds - self.clock_ns) < 1_000_000_000)

    def now_ns(self) -> int:
        return self.clock_ns or int(self.client.get_clock().now().nanoseconds)

    def capture(self, not_before_ns: int = 0, timeout_s: float = 3.0) -> Capture.Response:
        assert self.captures.wait_for_service(10.0)
        future = self.captures.call_async(Capture.Request(not_before=stamp_from_ns(not_before_ns), timeout_s=timeout_s))
        return eventually(lambda: future.result() if future.done() else None, 15.0)

    def refuses_because(self, *words: str) -> None:
        """An observation is refused, and all who ask are told why; each sentence holds these words."""

        def told(sentence: str) -> bool:
            return all(word in sentence for word in words)

        eventually(lambda: any(not s.ready and told(" ".join(s.reasons)) for s in self.statuses))
        eventually(lambda: any(d.level == DiagnosticStatus.ERROR and told(d.message) for d in self.diagnoses))
        # Whatever its age: what is not well is not acted on.
        answer = self.capture(timeout_s=0.3)
        assert not answer.success
        assert told(answer.message)
        assert len(answer.points.data) == 0


@contextmanager
def running(qos: QoSProfile = SENSOR_DATA, sim_time: bool = False, **settings: object) -> Iterator[Rig]:
    """A rig that spins."""
    with ros_context() as context:
        rig = Rig(context, qos, sim_time, **settings)
        with spinning(context, rig.robot, rig.observer, rig.client):
            yield rig
