"""Cameras of other makes: whatever the size, unit and lens of their depth, the observer sees the same cloud."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from rclpy.context import Context
from rclpy.node import Node
from scipy.spatial import cKDTree
from sensor_msgs.msg import CameraInfo, Image, JointState
from spinning import eventually, parameters, spinning

from minidiffuser_ros.arm.kinematics import FINGER_NAMES, HOME_JOINTS, JOINT_NAMES
from minidiffuser_ros.bridge.camera_topics import own_prefix
from minidiffuser_ros.bridge.conversions import (
    image_from_color,
    image_from_depth,
    info_from_camera,
    joint_state,
    observation_from_capture,
)
from minidiffuser_ros.bridge.conversions import image_from_millimetres as image_from_counts
from minidiffuser_ros.bridge.parameters import check_parameter_file, parameter_names
from minidiffuser_ros.bridge.qos import RELIABLE, SENSOR_DATA
from minidiffuser_ros.bridge.recording import RecorderSettings
from minidiffuser_ros.contract.episode import OwnTopics
from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.contract.observation import CameraMount, Observation
from minidiffuser_ros.geometry.camera import PinholeCamera
from minidiffuser_ros.geometry.transform import look_at, pose_of, transform_from
from minidiffuser_ros.nodes.observer import ObserverNode, ObserverSettings
from minidiffuser_ros.nodes.recorder import RecorderNode
from minidiffuser_ros.srv import Capture

pytestmark = pytest.mark.ros

ROBOCEPTION = Path(__file__).parents[2] / "config" / "roboception.yaml"
POSITION, QUAT = pose_of(look_at((1.1, 0.1, 0.7), (0.5, 0.0, 0.0), up=(0.0, 0.0, 1.0)))
MOUNT = CameraMount("front", "fr3_link0", tuple(POSITION), tuple(QUAT))
COLOR = PinholeCamera.from_fov(320, 240, 42.0)
# Half the size, as Roboception's quality High; and a lens that sees more than the colour camera does.
HALF = COLOR.scaled(160, 120)
WIDE = PinholeCamera(200, 150, 205.0, 205.0, 97.0, 77.0)
SLAB_TOP, SLAB_LOW, SLAB_HIGH = 0.05, np.array([0.40, -0.12]), np.array([0.55, 0.10])
RATE_HZ = 8.0


def seen_by(lens: PinholeCamera) -> tuple[np.ndarray, np.ndarray]:
    """Exact depth [H, W] in m of a slab on the table at the optical frame of MOUNT, and whether it is the slab."""
    pose = transform_from(MOUNT.position, MOUNT.quat_wxyz)
    rays = lens.deproject(np.ones((lens.height, lens.width))).astype(np.float64) @ pose[:3, :3].T
    table, top = (-(pose[2, 3] - height) / rays[..., 2] for height in (0.0, SLAB_TOP))
    meets = pose[:2, 3] + top[..., None] * rays[..., :2]
    on_slab = (top > 0) & ((meets >= SLAB_LOW) & (meets <= SLAB_HIGH)).all(axis=-1)
    depth = np.where(on_slab, top, np.where(table > 0, table, np.nan))
    return depth.astype(np.float32), on_slab


@dataclass(frozen=True)
class Driver:
    """How a camera's driver publishes: topics, lens, encoding and unit of depth, encoding of colour."""

    color: str = "front/color/image_raw"
    depth: str = "front/aligned_depth_to_color/image_raw"
    info: str = "front/color/camera_info"
    depth_info: str = ""
    lens: PinholeCamera = COLOR
    encoding: str = "16UC1"
    scale: float = 0.001
    grey: bool = False


class SlabCamera(Node):
    """Publishes the slab as a driver would, and an arm at home."""

    def __init__(self, context: Context, driver: Driver) -> None:
        super().__init__("slab_camera", context=context)
        self.driver = driver
        self.depth, _ = seen_by(driver.lens)
        # Two colours, so that a colour from beside a pixel is noticed.
        self.picture = np.where(seen_by(COLOR)[1][..., None], (200, 30, 30), (30, 30, 200)).astype(np.uint8)
        self.outputs = {t: self.create_publisher(Image, t, SENSOR_DATA) for t in (driver.color, driver.depth)}
        infos = [t for t in (driver.info, driver.depth_info) if t]
        self.infos = {t: self.create_publisher(CameraInfo, t, SENSOR_DATA) for t in infos}
        self.joints = self.create_publisher(JointState, "joint_states", RELIABLE)
        self.create_timer(1.0 / RATE_HZ, self.publish)

    def publish(self) -> None:
        driver, stamp = self.driver, int(self.get_clock().now().nanoseconds)
        self.joints.publish(joint_state((*JOINT_NAMES, *FINGER_NAMES), [*HOME_JOINTS, 0.03, 0.03], stamp))
        color = image_from_color(self.picture, "camera", stamp)
        if driver.grey:
            color.encoding, color.step = "mono8", COLOR.width
            color.data = np.ascontiguousarray(self.picture[..., 0]).tobytes()
        if driver.encoding == "16UC1":
            counts = np.rint(np.nan_to_num(self.depth) / driver.scale).clip(0, 65535).astype(np.uint16)
            depth = image_from_counts(counts, "camera", stamp)
        else:
            depth = image_from_depth(self.depth, "camera", stamp, driver.encoding)
        self.outputs[driver.color].publish(color)
        self.outputs[driver.depth].publish(depth)
        self.infos[driver.info].publish(info_from_camera(COLOR, "camera", stamp))
        if driver.depth_info:
            self.infos[driver.depth_info].publish(info_from_camera(driver.lens, "camera", stamp))


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("calibration") / "cameras.yaml"
    entry = {
        "name": "front",
        "parent_frame": MOUNT.parent_frame,
        "position": [float(x) for x in MOUNT.position],
        "quat_wxyz": [float(x) for x in MOUNT.quat_wxyz],
    }
    path.write_text(yaml.safe_dump({"cameras": [entry]}))
    return path


@contextmanager
def captured(
    context: Context, driver: Driver, calibration: Path, *files: Path, **values: object
) -> Iterator[Capture.Response]:
    """What an observer with these parameter files and values answers to somebody who asks."""
    robot, client = SlabCamera(context, driver), Node("client", context=context)
    arguments = [word for file in files for word in ("--params-file", str(file))]
    observer = ObserverNode(
        context=context,
        cli_args=["--ros-args", *arguments] if files else None,
        parameter_overrides=parameters(calibration=str(calibration), spec__cameras=["front"], **values),
    )
    captures = client.create_client(Capture, "observer/capture")
    with spinning(context, robot, observer, client):
        assert captures.wait_for_service(20.0)
        future = captures.call_async(Capture.Request(timeout_s=10.0))
        eventually(future.done, 20.0)
        yield future.result()


def cloud_of(context: Context, driver: Driver, calibration: Path, *files: Path, **values: object) -> Observation:
    with captured(context, driver, calibration, *files, **values) as answer:
        return observation_from_capture(answer)


def assert_same_slab(found: Observation, expected: Observation) -> None:
    """The same surface within the size of a voxel and of a pixel, of the same colour."""
    voxel = expected.spec.voxel_size
    np.testing.assert_allclose(found.points[:, 2], SLAB_TOP, atol=0.003)
    for mine, theirs in ((found, expected), (expected, found)):
        apart, nearest = cKDTree(theirs.points).query(mine.points)
        assert apart.max() < 1.5 * voxel
        assert np.mean(apart) < 0.6 * voxel
        # At the rim a pixel of depth may show the table's colour.
        alike = np.abs(mine.colors.astype(int) - theirs.colors[nearest]).max(axis=1) < 60
        assert alike.mean() > 0.85
    np.testing.assert_allclose(found.points.mean(axis=0), expected.points.mean(axis=0), atol=0.003)


@pytest.fixture(scope="module")
def aligned(calibration: Path) -> Observation:
    from spinning import ros_context

    with ros_context() as context:
        return cloud_of(context, Driver(), calibration)


def test_a_roboception_stream_is_lifted_to_the_cloud_of_an_aligned_camera(
    context: Context, calibration: Path, aligned: Observation
) -> None:
    driver = Driver(
        "/stereo/left/image_rect_color", "/stereo/depth", "/stereo/left/camera_info", lens=HALF, encoding="32FC1"
    )
    found = cloud_of(context, driver, calibration, ROBOCEPTION)
    assert len(aligned.points) > 150
    assert_same_slab(found, aligned)


def test_depth_through_a_lens_of_its_own_in_tenths_of_millimetres_gives_the_same_cloud(
    context: Context, calibration: Path, aligned: Observation
) -> None:
    driver = Driver(depth="front/depth/image", depth_info="front/depth/info", lens=WIDE, scale=0.0001)
    own = {"depth_topic": driver.depth, "depth_info_topic": driver.depth_info, "depth_scale": driver.scale}
    values = {f"cameras__front__{name}": value for name, value in own.items()}
    found = cloud_of(context, driver, calibration, **values)
    assert_same_slab(found, aligned)
    with captured(context, driver, calibration, **{**values, "cameras__front__depth_scale": 0.001}) as wrong:
        assert not wrong.success, "the test would not notice a unit that is not used"


def test_grey_pictures_are_seen_in_grey(context: Context, calibration: Path, aligned: Observation) -> None:
    found = cloud_of(context, Driver(grey=True), calibration)
    assert (found.colors == found.colors[:, :1]).all()
    np.testing.assert_allclose(found.points, aligned.points, atol=1e-6)


def test_intrinsics_of_depth_that_never_come_are_named(context: Context, calibration: Path) -> None:
    with captured(context, Driver(), calibration, cameras__front__depth_info_topic="front/depth/info") as answer:
        assert not answer.success
        assert answer.reasons == ["nothing has arrived on /front/depth/info yet"]


@pytest.mark.parametrize("node", [ObserverNode, RecorderNode])
def test_compressed_pictures_are_refused_with_a_sentence(context: Context, node: type) -> None:
    topic = "front/color/image_raw/compressed"
    with pytest.raises(ConfigurationError, match="compressed pictures") as caught:
        node(context=context, parameter_overrides=parameters(cameras__front__color_topic=topic))
    assert "front" in str(caught.value)


def test_observer_and_recorder_have_the_same_topics_of_the_same_parameters(context: Context) -> None:
    arguments = ["--ros-args", "--params-file", str(ROBOCEPTION)]
    observer, recorder = (kind(context=context, cli_args=arguments) for kind in (ObserverNode, RecorderNode))
    assert dict(recorder._topics.cameras) == observer._topics
    assert observer._topics["front"].depth == "/stereo/depth"
    assert observer._topics["wrist"].depth == "/wrist/aligned_depth_to_color/image_raw"
    for node in (observer, recorder):
        node.destroy_node()


def test_the_shipped_parameter_file_sets_only_what_the_nodes_know() -> None:
    own = parameter_names(OwnTopics(), own_prefix("front"))
    known = {"observer": [*parameter_names(ObserverSettings()), *own]}
    known["recorder"] = [*parameter_names(RecorderSettings()), *own]
    check_parameter_file(ROBOCEPTION, known)
