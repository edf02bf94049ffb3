"""Episodes on disk for tests: a rosbag2 folder written with rosbags, of a demonstration in the simulator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from minidiffuser_ros.arm.kinematics import BASE_FRAME, FINGER_NAMES, JOINT_NAMES, MAX_GRIPPER_WIDTH
from minidiffuser_ros.contract.episode import SUCCESS, CameraTopics, EpisodeInfo, EpisodeTopics
from minidiffuser_ros.contract.observation import ObservationSpec
from minidiffuser_ros.episodes.timeline import topic_types
from minidiffuser_ros.episodes.typestore import typestore
from minidiffuser_ros.geometry.camera import PinholeCamera
from minidiffuser_ros.geometry.transform import pose_of
from minidiffuser_ros.simulation.rendering import RgbdRenderer
from minidiffuser_ros.simulation.tabletop import shared_world
from minidiffuser_ros.simulation.world import CAMERA_MOUNTS

START_NS = 1_700_000_000_123_456_789
CAMERA = PinholeCamera.from_fov(212, 120, 42.0)
LATENCY_NS = {"state": 2_000_000, "picture": 35_000_000}
TOPICS = EpisodeTopics(
    {
        name: CameraTopics(
            f"/{name}/color/image_raw", f"/{name}/aligned_depth_to_color/image_raw", f"/{name}/color/camera_info"
        )
        for name in CAMERA_MOUNTS
    },
    "/joint_states",
    "/tcp_pose",
    "/gripper_target",
    "/recorder/keyposes",
)


def make_info(task: str = "stack_pair", instruction: str = "stack them", **changes: Any) -> EpisodeInfo:
    values: dict[str, Any] = {"outcome": SUCCESS, "operator": "test", **changes}
    return EpisodeInfo(
        task, instruction, spec=ObservationSpec(), mounts=tuple(CAMERA_MOUNTS.values()), topics=TOPICS, **values
    )


class Messages:
    """Makes messages of the types that ROS 2 Jazzy brings, as rosbags has them."""

    def __init__(self) -> None:
        self.types = typestore().types

    def __call__(self, kind: str, *values: Any) -> Any:
        package, name = kind.split("/")
        return self.types[f"{package}/msg/{name}"](*values)

    def header(self, frame: str, stamp_ns: int) -> Any:
        return self("std_msgs/Header", self("builtin_interfaces/Time", *divmod(stamp_ns, 10**9)), frame)

    def pose(self, position: Any, quat_wxyz: Any) -> Any:
        x, y, z = (float(v) for v in position)
        w, i, j, k = (float(v) for v in quat_wxyz)
        return self(
            "geometry_msgs/Pose", self("geometry_msgs/Point", x, y, z), self("geometry_msgs/Quaternion", i, j, k, w)
        )

    def joints(self, names: Any, positions: Any, stamp_ns: int, velocities: Any = ()) -> Any:
        arrays = (np.array(values, np.float64) for values in (positions, velocities, ()))
        return self("sensor_msgs/JointState", self.header("", stamp_ns), list(names), *arrays)

    def tool(self, position: Any, quat_wxyz: Any, stamp_ns: int) -> Any:
        return self("geometry_msgs/PoseStamped", self.header(BASE_FRAME, stamp_ns), self.pose(position, quat_wxyz))

    def image(self, pixels: np.ndarray, encoding: str, frame: str, stamp_ns: int) -> Any:
        data = np.frombuffer(pixels.tobytes(), np.uint8)
        height, width = pixels.shape[:2]
        return self(
            "sensor_msgs/Image", self.header(frame, stamp_ns), height, width, encoding, 0, len(data) // height, data
        )

    def info(self, camera: PinholeCamera, frame: str, stamp_ns: int) -> Any:
        k = np.array([camera.fx, 0, camera.cx, 0, camera.fy, camera.cy, 0, 0, 1])
        p = np.array([camera.fx, 0, camera.cx, 0, 0, camera.fy, camera.cy, 0, 0, 0, 1, 0])
        region = self("sensor_msgs/RegionOfInterest", 0, 0, 0, 0, False)
        head = (self.header(frame, stamp_ns), camera.height, camera.width, "plumb_bob", np.zeros(5))
        return self("sensor_msgs/CameraInfo", *head, k, np.eye(3).ravel(), p, 0, 0, region)

    def marker(self, number: int, action: int, position: Any, quat_wxyz: Any, stamp_ns: int) -> Any:
        zero = self("builtin_interfaces/Duration", 0, 0)
        scale, color = self("geometry_msgs/Vector3", 0.1, 0.1, 0.1), self("std_msgs/ColorRGBA", 1.0, 0.0, 0.0, 1.0)
        texture = self("sensor_msgs/CompressedImage", self.header("", 0), "", np.zeros(0, np.uint8))
        mesh = self("visualization_msgs/MeshFile", "", np.zeros(0, np.uint8))
        return self(
            "visualization_msgs/Marker", self.header(BASE_FRAME, stamp_ns), "keypose", number, 0, action,
            self.pose(position, quat_wxyz), scale, color, zero, False, [], [], "", texture, [], "", "", mesh, False,
        )  # fmt: skip


class Bag:
    """Writes messages; the folder is an episode once it is closed."""

    def __init__(
        self, folder: Path, info: EpisodeInfo | None, compression: str = "storage", types: dict[str, str] | None = None
    ) -> None:
        self.make = Messages()
        self._writer = Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.set_compression(CompressionMode[compression.upper()], CompressionFormat.ZSTD)
        for key, value in (info.to_custom_data() if info else {}).items():
            self._writer.set_custom_data(key, value)
        self._writer.open()
        self._types = topic_types(TOPICS) if types is None else types
        self._connections = {
            topic: self._writer.add_connection(topic, kind, typestore=typestore())
            for topic, kind in self._types.items()
        }

    def write(self, topic: str, log_ns: int, message: Any) -> None:
        content = message if isinstance(message, bytes) else typestore().serialize_cdr(message, self._types[topic])
        self._writer.write(self._connections[topic], log_ns, bytes(content))

    def close(self) -> None:
        self._writer.close()


def record_demonstration(
    folder: Path,
    task: str = "stack_pair",
    seed: int = 3,
    *,
    picture_hz: float = 6.0,
    state_hz: float = 50.0,
    pause_s: float = 0.4,
    mark: bool = False,
    compression: str = "storage",
    **info: Any,
) -> list[Any]:
    """The expert's demonstration, as a recorder would have kept it; returns the expert's keyposes.

    mark: the operator marks every keypose, and the second one a second time by mistake, which is undone.
    """
    world = shared_world()
    sentence = world.reset(task, seed)
    world.views()  # the looks of the scene are drawn now
    bag = Bag(folder, make_info(task, sentence, **info), compression)
    recorder = _Sampler(bag, world, picture_hz, state_hz)
    world.arm.after_step, step = recorder.after_step(world.arm.after_step), world.arm.after_step
    keyposes = []
    try:
        world.arm._hold(pause_s)
        for number, keypose in enumerate(world.expert()):
            world.execute(keypose)
            world.arm._hold(pause_s)
            keyposes.append(keypose)
            if mark:
                recorder.mark(number, 0)
                if number == 1:
                    recorder.mark(77, 0)
                    recorder.mark(77, 2)
    finally:
        world.arm.after_step = step
        recorder.renderer.close()
        recorder.finish()
    assert world.success()
    return keyposes


class _Sampler:
    """Samples the simulated world at the rates of a robot's and a camera's topics."""

    def __init__(self, bag: Bag, world: Any, picture_hz: float, state_hz: float) -> None:
        self.bag, self.world = bag, world
        self.renderer = RgbdRenderer(world.model, CAMERA)
        self._periods = {"state": 1.0 / state_hz, "picture": 1.0 / picture_hz}
        self._next = {"state": 0.0, "picture": 0.0}
        self._pending: list[tuple[int, int, str, Any]] = []

    def after_step(self, before: Callable[[], None]) -> Callable[[], None]:
        def step() -> None:
            before()
            for name, sample in (("state", self._state), ("picture", self._pictures)):
                if self.world.data.time >= self._next[name] - 1e-9:
                    self._next[name] += self._periods[name]
                    sample(START_NS + self.world.stamp_ns())

        return step

    def mark(self, number: int, action: int) -> None:
        stamp_ns = START_NS + self.world.stamp_ns()
        pose = pose_of(self.world.arm.tool_transform)
        self._add("state", TOPICS.keyposes, stamp_ns, self.bag.make.marker(number, action, *pose, stamp_ns))

    def finish(self) -> None:
        for log_ns, _, topic, message in sorted(self._pending, key=lambda entry: entry[:2]):
            self.bag.write(topic, log_ns, message)
        self.bag.close()

    def _add(self, kind: str, topic: str, stamp_ns: int, message: Any) -> None:
        self._pending.append((stamp_ns + LATENCY_NS[kind], len(self._pending), topic, message))

    def _state(self, stamp_ns: int) -> None:
        arm, make = self.world.arm, self.bag.make
        fingers = [0.5 * arm.opening * MAX_GRIPPER_WIDTH] * 2
        velocities = [*self.world.data.qvel[arm._dofs], 0.0, 0.0]
        names = (*JOINT_NAMES, *FINGER_NAMES)
        state = make.joints(names, [*arm.joint_positions, *fingers], stamp_ns, velocities)
        self._add("state", TOPICS.joint_states, stamp_ns, state)
        self._add("state", TOPICS.tool_pose, stamp_ns, make.tool(*pose_of(arm.tool_transform), stamp_ns))
        target = make.joints(["fr3_gripper"], [float(np.clip(arm.asked_opening, 0, 1))], stamp_ns)
        self._add("state", TOPICS.gripper_target, stamp_ns, target)

    def _pictures(self, stamp_ns: int) -> None:
        make = self.bag.make
        for name, topics in TOPICS.cameras.items():
            color, depth = self.renderer.render(self.world.model, self.world.data, name)
            millimetres = np.where(np.nan_to_num(depth) < 65, np.rint(np.nan_to_num(depth) * 1000), 0).astype(np.uint16)
            self._add("picture", topics.color, stamp_ns, make.image(color, "rgb8", name, stamp_ns))
            self._add("picture", topics.depth, stamp_ns, make.image(millimetres, "16UC1", name, stamp_ns))
            self._add("picture", topics.info, stamp_ns, make.info(CAMERA, name, stamp_ns))
