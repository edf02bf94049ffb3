"""What an episode says of itself survives its journey through text, and nothing else does."""

from __future__ import annotations

import dataclasses
import json

import pytest

from minidiffuser_ros.contract.calibration import CalibrationRecord
from minidiffuser_ros.contract.episode import CameraTopics, EpisodeInfo, EpisodeTopics
from minidiffuser_ros.contract.errors import EpisodeError
from minidiffuser_ros.contract.observation import CameraMount, ObservationSpec

INFO = EpisodeInfo(
    task="push_button",
    instruction="push the red button",
    operator="somebody",
    spec=ObservationSpec(cameras=("front",)),
    mounts=(CameraMount("front", "fr3_link0", (1.0, 0.0, 0.5), (1.0, 0.0, 0.0, 0.0)),),
    topics=EpisodeTopics(
        {"front": CameraTopics("/front/color", "/front/depth", "/front/info")}, "/joint_states", "/tcp_pose",
        "/gripper_target", "/recorder/keyposes",
    ),
    variation=2,
    seed=17,
)  # fmt: skip


def test_it_comes_back_from_text_as_it_was() -> None:
    assert EpisodeInfo.from_custom_data(INFO.to_custom_data()) == INFO
    assert EpisodeInfo.from_custom_data(INFO.labelled("success").to_custom_data()).outcome == "success"


def test_depth_with_intrinsics_and_a_unit_of_its_own_comes_back_and_costs_the_others_nothing() -> None:
    camera = CameraTopics("/front/color", "/front/depth", "/front/info", "/front/depth_info", 0.0001)
    topics = dataclasses.replace(INFO.topics, cameras={"front": camera})
    info = dataclasses.replace(INFO, topics=topics)
    assert EpisodeInfo.from_custom_data(info.to_custom_data()) == info
    assert "/front/depth_info" in topics.all()
    # As it was written before there was such a thing, so that older versions read it.
    plain = json.loads(INFO.to_custom_data()["topics"])["cameras"]["front"]
    assert plain == {"color": "/front/color", "depth": "/front/depth", "info": "/front/info"}


@pytest.mark.parametrize("scale", [0.0, -1.0, "x", True, None, float("nan")])
def test_an_impossible_unit_of_depth_is_refused(scale: object) -> None:
    topics = json.loads(INFO.to_custom_data()["topics"])
    topics["cameras"]["front"]["depth_scale"] = scale
    with pytest.raises(EpisodeError, match="description"):
        EpisodeInfo.from_custom_data({**INFO.to_custom_data(), "topics": json.dumps(topics)})


def test_it_tells_where_its_calibration_came_from_and_older_episodes_that_do_not_are_read() -> None:
    record = CalibrationRecord("front", "lab/cameras.yaml", "0" * 64, "2026-01-31T14:00:00+00:00", "hand_eye")
    info = dataclasses.replace(INFO, calibrations=(record,))
    data = info.to_custom_data()
    assert EpisodeInfo.from_custom_data(data) == info
    data.pop("calibration_records")
    assert EpisodeInfo.from_custom_data(data) == INFO


@pytest.mark.parametrize(
    ("key", "text", "complaint"),
    [
        ("format", "99", "format 99"),
        ("task", "[1]", "'task'"),
        ("task", '""', "name of its task"),
        ("instruction", json.dumps("a\nb"), "'instruction'"),
        ("operator", json.dumps("x" * 5000), "'operator'"),
        ("outcome", '"splendid"', "outcome"),
        ("seed", "true", "seed"),
        ("variation", "-7", "variation"),
        ("spec", '{"voxel_size": 0.01}', "hash"),
        ("calibration", "[]", "hash"),
        ("topics", '{"cameras": 3}', "description"),
        ("calibration_records", '[{"camera": "front"}]', "description"),
        ("calibration_records", "3", "description"),
        ("topics", "[" * 100_000, "no JSON"),
        ("task", "{", "no JSON"),
    ],
)
def test_what_was_changed_is_refused_by_name(key: str, text: str, complaint: str) -> None:
    with pytest.raises(EpisodeError, match=complaint):
        EpisodeInfo.from_custom_data({**INFO.to_custom_data(), key: text})


def test_a_foreign_recording_is_told_as_such() -> None:
    with pytest.raises(EpisodeError, match="not made by this package"):
        EpisodeInfo.from_custom_data({})


def test_a_camera_without_a_pose_is_refused() -> None:
    with pytest.raises(EpisodeError, match="front"):
        EpisodeInfo("push", "push it", "", INFO.spec, (), INFO.topics)
