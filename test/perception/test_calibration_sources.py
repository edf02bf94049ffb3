"""Laws of what the poses of the cameras are read from, and of what is kept beside them."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from minidiffuser_ros.arm.frames import known_frames
from minidiffuser_ros.contract.calibration import CalibrationRecord, CalibrationSource, calibration_sources
from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.contract.observation import CameraMount
from minidiffuser_ros.geometry.rotation import angle_between_deg, quat_from_euler_deg
from minidiffuser_ros.perception.calibration import (
    CalibrationEntry,
    load_calibration,
    parse_entries,
    read_calibration,
    write_calibration,
)

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
FRONT = CameraMount("front", "fr3_link0", (1.0, 0.0, 0.5), (0.0, 1.0, 0.0, 0.0))
WRIST = CameraMount("wrist", "fr3_hand_tcp", (0.05, 0.0, -0.06), (0.5, 0.5, 0.5, 0.5))
UNTURNED = {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0}
ABOUT: dict[str, Any] = {
    "date": "2026-05-02T12:00:00+00:00",
    "method": "hand_eye charuco",
    "residuals": {"rms_px": 0.25, "views": 15.0},
    "image_size": (640, 480),
    "intrinsics": (612.0, 611.0, 320.5, 240.5),
}


def calib(path: Path, **changes: Any) -> Path:
    """A file as easy_handeye2 2.x writes it."""
    parameters = {
        "name": "wrist",
        "calibration_type": "eye_in_hand",
        "robot_base_frame": "fr3_link0",
        "robot_effector_frame": "fr3_hand_tcp",
        "tracking_base_frame": "wrist_color_optical_frame",
        "tracking_marker_frame": "board",
        "freehand_robot_movement": True,
        "move_group_namespace": "/",
        "move_group": "manipulator",
    }
    transform = {
        "translation": {"x": 0.05, "y": 0.01, "z": -0.06},
        "rotation": {"x": 0.5, "y": 0.5, "z": 0.5, "w": 0.5},
    }
    transform = changes.pop("transform", transform)
    path.write_text(yaml.safe_dump({"parameters": parameters | changes, "transform": transform}))
    return path


def read(path: Path, camera: str = "wrist") -> CameraMount:
    sources = (CalibrationSource("", str(path)),)
    return read_calibration(sources, [camera], known_frames()).mounts[camera]


def test_a_written_file_reads_back_with_everything_it_was_told(tmp_path: Path) -> None:
    path = tmp_path / "cameras.yaml"
    write_calibration(path, CalibrationEntry(FRONT, **ABOUT), False, NOW)
    write_calibration(path, CalibrationEntry(WRIST), False, NOW)
    entries = parse_entries(yaml.safe_load(path.read_text()), "file")
    assert entries == [CalibrationEntry(FRONT, **ABOUT), CalibrationEntry(WRIST)]
    assert load_calibration(path, ["front", "wrist"]) == {"front": FRONT, "wrist": WRIST}


def test_a_pose_is_replaced_only_when_asked_to_and_the_old_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "cameras.yaml"
    write_calibration(path, CalibrationEntry(FRONT), False, NOW)
    before = path.read_text()
    other = CalibrationEntry(CameraMount("front", "fr3_link0", (0.9, 0.0, 0.5), (0.0, 1.0, 0.0, 0.0)))
    with pytest.raises(ConfigurationError, match="--replace"):
        write_calibration(path, other, False, NOW)
    assert path.read_text() == before
    backup = write_calibration(path, other, True, NOW)
    assert backup == tmp_path / "cameras.20260601-120000.yaml"
    assert backup.read_text() == before
    assert load_calibration(path, ["front"])["front"].position[0] == 0.9


def test_a_file_that_cannot_be_read_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "cameras.yaml"
    path.write_text("notes: of somebody else\n")
    with pytest.raises(ConfigurationError, match="needs a list"):
        write_calibration(path, CalibrationEntry(FRONT), True, NOW)
    assert path.read_text() == "notes: of somebody else\n"


def test_a_record_tells_the_file_its_hash_and_its_age(tmp_path: Path) -> None:
    path = tmp_path / "cameras.yaml"
    write_calibration(path, CalibrationEntry(FRONT, **ABOUT), False, NOW)
    record = read_calibration(calibration_sources(str(path)), ["front"], {}).records["front"]
    assert record.source == str(path)
    assert record.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert record.age_days(NOW) == 30.0
    assert record.method == "hand_eye charuco"
    assert CalibrationRecord("front", "x", "y").age_days(NOW) is None


@pytest.mark.parametrize(
    "text", ["2026-01-31", "2026-01-31T14:00:00Z", "'2026-01-31 14:00'", "2026-01-31T15:00:00+01:00"]
)
def test_dates_are_utc_whichever_way_they_are_written_and_one_may_serve_all_cameras(text: str) -> None:
    content = yaml.safe_load(
        f"date: {text}\ncameras:\n- {{name: a, parent_frame: fr3_link0, position: [1, 0, 0], quat_wxyz: [1, 0, 0, 0]}}"
    )
    moment = datetime.fromisoformat(parse_entries(content, "file")[0].date)
    assert moment.utcoffset().total_seconds() == 0.0
    assert moment in (datetime(2026, 1, 31, tzinfo=UTC), datetime(2026, 1, 31, 14, tzinfo=UTC))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"date": "yesterday"}, "a date is written as"),
        ({"date": 3}, "date must be written as"),
        ({"method": 3}, "method must be text"),
        ({"residuals": [1.0]}, "numbers by name"),
        ({"residuals": {"rms_px": "small"}}, r"residuals\.rms_px"),
        ({"image_size": [640]}, "image_size must be 2"),
        ({"intrinsics": [0.0, 600.0, 320.0, 240.0]}, "above 0"),
        ({"position": [0.0, 0.0, 0.0], "quat_wxyz": [1.0, 0.0, 0.0, 0.0]}, "is the identity"),
    ],
)
def test_what_a_file_tells_beside_the_pose_is_checked_too(changes: dict[str, Any], message: str) -> None:
    good = {"name": "a", "parent_frame": "fr3_link0", "position": [1.0, 0, 0], "quat_wxyz": [1.0, 0, 0, 0]}
    with pytest.raises(ConfigurationError, match=message):
        parse_entries({"cameras": [good | changes]}, "file")


def test_easy_handeye2_files_are_read_for_both_mounts(tmp_path: Path) -> None:
    in_hand = read(calib(tmp_path / "wrist.calib"))
    assert in_hand == CameraMount("wrist", "fr3_hand_tcp", (0.05, 0.01, -0.06), (0.5, 0.5, 0.5, 0.5))
    on_base = read(calib(tmp_path / "base.calib", calibration_type="eye_on_base"))
    assert on_base.parent_frame == "fr3_link0"
    assert on_base.position == in_hand.position


def test_poses_in_the_hand_or_flange_frame_are_brought_to_the_tool(tmp_path: Path) -> None:
    still = {"translation": {"x": 0.05, "y": 0.0, "z": 0.02}, "rotation": UNTURNED}
    hand = read(calib(tmp_path / "a.calib", robot_effector_frame="fr3_hand", transform=still))
    # The tool frame lies 0.1034 m along the hand's z, with its axes.
    np.testing.assert_allclose(hand.position, [0.05, 0.0, 0.02 - 0.1034], atol=1e-9)
    np.testing.assert_allclose(hand.quat_wxyz, [1.0, 0.0, 0.0, 0.0], atol=1e-9)
    flange = read(calib(tmp_path / "b.calib", robot_effector_frame="panda_link8", transform=still))
    # The hand sits on the flange, turned by -45 degrees about their common z.
    assert angle_between_deg(flange.quat_wxyz, quat_from_euler_deg([0.0, 0.0, 45.0])) < 1e-4
    half = 0.05 * np.sqrt(0.5)
    np.testing.assert_allclose(flange.position, [half, half, 0.02 - 0.1034], atol=1e-6)


def test_the_first_format_of_easy_handeye2_is_read_as_well(tmp_path: Path) -> None:
    path = tmp_path / "old.calib"
    parameters = {
        "namespace": "/calibration/wrist/", "eye_on_hand": True, "robot_base_frame": "fr3_link0",
        "robot_effector_frame": "fr3_hand_tcp", "tracking_base_frame": "wrist_color_optical_frame",
    }  # fmt: skip
    pose = {"x": 0.05, "y": 0.01, "z": -0.06, "qx": 0.5, "qy": 0.5, "qz": 0.5, "qw": 0.5}
    path.write_text(yaml.safe_dump({"parameters": parameters, "transformation": pose}))
    assert read(path) == read(calib(tmp_path / "new.calib"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tracking_base_frame": "wrist_link"}, "not the optical frame"),
        ({"tracking_base_frame": "wrist_depth_optical_frame"}, "not the optical frame of the colour"),
        ({"tracking_base_frame": None}, "tracking_base_frame must name a frame"),
        ({"robot_effector_frame": "tool0"}, "'tool0', whose place on the arm is not known"),
        ({"calibration_type": "eye_somewhere"}, "eye_in_hand or eye_on_base"),
        ({"transform": {"translation": {"x": 0.0, "y": 0.0, "z": 0.0}, "rotation": UNTURNED}}, "is the identity"),
        ({"transform": {"translation": {"x": 0.1, "y": 0.0}, "rotation": UNTURNED}}, "translation must be 3"),
        ({"transform": None}, "as easy_handeye2 writes them"),
    ],
)
def test_what_a_calib_file_leaves_open_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read(calib(tmp_path / "wrist.calib", **changes))


def test_each_camera_may_have_a_file_of_its_own(tmp_path: Path) -> None:
    write_calibration(tmp_path / "a.yaml", CalibrationEntry(FRONT), False, NOW)
    calib(tmp_path / "b.calib", name="some_name")
    setting = f"front={tmp_path}/a.yaml, wrist={tmp_path}/b.calib"
    found = read_calibration(calibration_sources(setting), ["front", "wrist"], known_frames())
    assert sorted(found.mounts) == ["front", "wrist"]
    assert found.mounts["wrist"].name == "wrist"
    assert {record.source for record in found.records.values()} == {f"{tmp_path}/a.yaml", f"{tmp_path}/b.calib"}


def test_cameras_that_tf_stands_for_are_left_to_it(tmp_path: Path) -> None:
    write_calibration(tmp_path / "a.yaml", CalibrationEntry(FRONT), False, NOW)
    setting = f"front={tmp_path}/a.yaml,wrist=tf"
    assert sorted(read_calibration(calibration_sources(setting), ["front", "wrist"], {}).mounts) == ["front"]
    assert read_calibration(calibration_sources("tf"), ["front"], {}).mounts == {}
    with pytest.raises(ConfigurationError, match="no pose for the cameras"):
        read_calibration(calibration_sources(f"{tmp_path}/a.yaml"), ["front", "wrist"], {})


@pytest.mark.parametrize(
    ("setting", "message"),
    [("", "empty"), (" ", "empty"), ("a.yaml,", "empty part"), ("=a.yaml", "empty part"), ("a=x,a=y", "twice")],
)
def test_settings_that_name_nothing_or_one_camera_twice_are_refused(setting: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        calibration_sources(setting)


def test_one_camera_in_two_files_is_refused(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        write_calibration(tmp_path / name, CalibrationEntry(FRONT), False, NOW)
    with pytest.raises(ConfigurationError, match="given twice"):
        read_calibration(calibration_sources(f"{tmp_path}/a.yaml,{tmp_path}/b.yaml"), ["front"], {})


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "cameras.yaml"
    path.write_bytes(b"#" * 1_000_001)
    with pytest.raises(ConfigurationError, match="larger than"):
        load_calibration(path, ["front"])
