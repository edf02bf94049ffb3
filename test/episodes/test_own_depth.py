"""A recording whose depth has a size, a unit and intrinsics of its own is seen as the aligned one is."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from recorded_episode import START_NS, TOPICS, Bag, make_info
from scipy.spatial import cKDTree

from minidiffuser_ros.arm.kinematics import FINGER_NAMES, HOME_JOINTS, JOINT_NAMES
from minidiffuser_ros.contract.episode import CameraTopics
from minidiffuser_ros.contract.observation import CameraMount, Observation, ObservationSpec
from minidiffuser_ros.episodes.bag import EpisodeReader
from minidiffuser_ros.episodes.observing import EpisodeObserver
from minidiffuser_ros.episodes.timeline import topic_types
from minidiffuser_ros.geometry.camera import PinholeCamera
from minidiffuser_ros.geometry.transform import look_at, pose_of

COLOR = PinholeCamera.from_fov(160, 120, 45.0)
WIDE = PinholeCamera(130, 90, 95.0, 97.0, 66.0, 43.0)
T_BASE_CAMERA = look_at((0.5, 0.0, 0.8), (0.5, 0.0, 0.0), up=(1.0, 0.0, 0.0))
PLATE_M = 0.06
PLAIN = CameraTopics("/front/color", "/front/depth", "/front/info")


def recorded(folder: Path, camera: CameraTopics, lens: PinholeCamera, encoding: str) -> EpisodeReader:
    """A camera that looks straight down on a plate, and an arm at home."""
    position, quat_wxyz = pose_of(T_BASE_CAMERA)
    topics = dataclasses.replace(TOPICS, cameras={"front": camera})
    mount = CameraMount("front", "fr3_link0", tuple(map(float, position)), tuple(map(float, quat_wxyz)))
    info = dataclasses.replace(
        make_info(), spec=ObservationSpec(cameras=("front",)), mounts=(mount,), topics=topics
    )  # fmt: skip
    bag = Bag(folder, info, types=topic_types(topics))
    metres = np.full((lens.height, lens.width), 0.8 - PLATE_M, np.float32)
    metres[(np.abs(lens.deproject(metres)[..., :2]) > (0.09, 0.07)).any(axis=-1)] = 0.0
    # Colour tells the column, so that a colour of another place is noticed.
    color = np.zeros((COLOR.height, COLOR.width, 3), np.uint8)
    color[..., 0] = np.arange(COLOR.width)
    for number in range(20):
        stamp = START_NS + number * 20_000_000
        joints = bag.make.joints([*JOINT_NAMES, *FINGER_NAMES], [*HOME_JOINTS, 0.03, 0.03], stamp)
        bag.write(topics.joint_states, stamp, joints)
        if number % 5 == 0:
            depth = metres if encoding == "32FC1" else np.rint(metres / camera.depth_scale).astype(np.uint16)
            bag.write(camera.color, stamp, bag.make.image(color, "rgb8", "front", stamp))
            bag.write(camera.depth, stamp, bag.make.image(depth, encoding, "front", stamp))
            bag.write(camera.info, stamp, bag.make.info(COLOR, "front", stamp))
            if camera.depth_info:
                bag.write(camera.depth_info, stamp, bag.make.info(lens, "front", stamp))
    bag.close()
    return EpisodeReader(folder)


def seen(reader: EpisodeReader) -> Observation:
    return EpisodeObserver(reader).observe(START_NS + 300_000_000)


@pytest.mark.parametrize(
    ("camera", "lens", "encoding"),
    [
        (PLAIN, COLOR.scaled(80, 60), "32FC1"),
        (dataclasses.replace(PLAIN, depth_scale=0.0001), COLOR, "16UC1"),
        (dataclasses.replace(PLAIN, depth_info="/front/depth_info"), WIDE, "16UC1"),
    ],
)
def test_the_reader_sees_the_same_plate(
    tmp_path: Path, camera: CameraTopics, lens: PinholeCamera, encoding: str
) -> None:
    expected = seen(recorded(tmp_path / "aligned", PLAIN, COLOR, "16UC1"))
    reader = recorded(tmp_path / "own", camera, lens, encoding)
    found = seen(reader)
    assert len(expected.points) > 200
    np.testing.assert_allclose(found.points[:, 2], PLATE_M, atol=1e-3)
    apart, nearest = cKDTree(expected.points).query(found.points)
    assert apart.max() < 1.5 * expected.spec.voxel_size
    # A column of colour is 5 mm wide here: as near in colour as in place.
    assert np.abs(found.colors[:, 0].astype(int) - expected.colors[nearest, 0]).max() <= 8
    assert ("/front/depth_info" in reader.camera_infos(START_NS)) == bool(camera.depth_info)
