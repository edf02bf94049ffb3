"""The observer as a real node, fed by a synthetic camera pair that looks at a slab on the table."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from spinning import eventually, parameters, ros_context, spinning
from synthetic_robot import SLAB_HIGH, SLAB_LOW, SLAB_TOP, Rig, running

from minidiffuser_ros.arm.kinematics import FINGER_NAMES, HOME_JOINTS, JOINT_NAMES, FrankaKinematics
from minidiffuser_ros.bridge.conversions import points_from_cloud, stamp_to_ns
from minidiffuser_ros.bridge.parameters import check_parameter_file, parameter_names
from minidiffuser_ros.contract.observation import ObservationSpec
from minidiffuser_ros.nodes.observer import ObserverNode, ObserverSettings

pytestmark = pytest.mark.ros


@pytest.fixture
def rig() -> Iterator[Rig]:
    with running() as rig:
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


def test_what_a_planner_needs_to_see_is_not_thinned() -> None:
    with running(spec__max_points=64) as rig:
        answer = rig.capture()
        assert answer.success, answer.message
        points, _ = points_from_cloud(answer.points)
        surroundings, _ = points_from_cloud(eventually(lambda: rig.surroundings[-1:])[0])
    assert len(points) == 64
    assert len(surroundings) > 400
    assert {tuple(p) for p in points} <= {tuple(p) for p in surroundings}


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
