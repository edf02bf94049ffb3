"""Clouds, poses, joints and observations survive the way through messages."""

from __future__ import annotations

import numpy as np
import pytest
from geometry_msgs.msg import Quaternion, Transform, Vector3
from sensor_msgs.msg import JointState, PointCloud2
from visualization_msgs.msg import Marker

from minidiffuser_ros.bridge.conversions import (
    candidate_markers,
    cloud_from_points,
    fill_capture,
    joint_positions,
    joint_state,
    keypose_from_message,
    keypose_to_message,
    observation_from_capture,
    points_from_cloud,
    pose_from_message,
    pose_to_message,
    refuse_capture,
    stamp_from_ns,
    stamp_to_ns,
    transform_from_message,
)
from minidiffuser_ros.contract.errors import ConfigurationError, MessageError, ObservationError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.contract.observation import Observation, ObservationSpec
from minidiffuser_ros.geometry.rotation import quat_from_yaw
from minidiffuser_ros.srv import Capture

pytestmark = pytest.mark.ros

RNG = np.random.default_rng(3)
POINTS = RNG.normal(size=(50, 3)).astype(np.float32)
COLORS = RNG.integers(0, 256, (50, 3), dtype=np.uint8)
QUAT_WXYZ = np.array([0.5, 0.1, -0.7, 0.5]) / np.linalg.norm([0.5, 0.1, -0.7, 0.5])


@pytest.mark.parametrize("nanoseconds", [0, 1, 999_999_999, 1_000_000_000, 1_795_234_666_758_162_042])
def test_stamps_keep_every_nanosecond(nanoseconds: int) -> None:
    assert stamp_to_ns(stamp_from_ns(nanoseconds)) == nanoseconds


def test_a_cloud_comes_back_as_it_was_sent() -> None:
    points, colors = points_from_cloud(cloud_from_points(POINTS, COLORS, "base", 9))
    np.testing.assert_array_equal(points, POINTS)
    np.testing.assert_array_equal(colors, COLORS)


def test_the_colour_of_a_point_is_packed_as_rviz_reads_it() -> None:
    message = cloud_from_points(np.zeros((1, 3), np.float32), np.array([[1, 2, 3]], np.uint8))
    assert [(f.name, f.offset, f.datatype) for f in message.fields] == [
        ("x", 0, 7),
        ("y", 4, 7),
        ("z", 8, 7),
        ("rgb", 12, 7),
    ]
    assert bytes(message.data[12:16]) == bytes([3, 2, 1, 0])  # little-endian 0x00RRGGBB
    assert message.point_step == 16


def test_an_empty_cloud_is_a_cloud() -> None:
    points, colors = points_from_cloud(cloud_from_points(POINTS[:0], COLORS[:0]))
    assert points.shape == colors.shape == (0, 3)


def test_a_big_endian_cloud_with_padded_rows_reads_the_same() -> None:
    message = cloud_from_points(POINTS, COLORS)
    rows = np.frombuffer(message.data, "<u4").reshape(2, -1).astype(">u4").view(np.uint8)
    message.data = np.concatenate([rows, np.zeros((2, 5), np.uint8)], axis=1).tobytes()
    message.height, message.width, message.row_step, message.is_bigendian = 2, 25, 25 * 16 + 5, True
    points, colors = points_from_cloud(message)
    np.testing.assert_array_equal(points, POINTS)
    np.testing.assert_array_equal(colors, COLORS)


def test_a_cloud_without_coordinates_or_cut_short_is_refused() -> None:
    with pytest.raises(MessageError, match="x, y, z missing"):
        points_from_cloud(PointCloud2())
    message = cloud_from_points(POINTS, COLORS)
    message.data = message.data[:-1]
    with pytest.raises(MessageError, match="does not fit"):
        points_from_cloud(message)


def test_ros_has_the_scalar_last() -> None:
    message = pose_to_message([1.0, 2.0, 3.0], QUAT_WXYZ)
    q = message.orientation
    np.testing.assert_allclose([q.w, q.x, q.y, q.z], QUAT_WXYZ)
    position, quat_wxyz = pose_from_message(message)
    np.testing.assert_allclose(position, [1.0, 2.0, 3.0])
    np.testing.assert_allclose(quat_wxyz, QUAT_WXYZ)


def test_a_transform_moves_points_as_tf_says() -> None:
    w, x, y, z = quat_from_yaw(np.pi / 2)
    T = transform_from_message(Transform(translation=Vector3(x=1.0), rotation=Quaternion(w=w, x=x, y=y, z=z)))
    np.testing.assert_allclose(T @ [1, 0, 0, 1], [1, 1, 0, 1], atol=1e-12)
    with pytest.raises(MessageError, match="unit quaternion"):
        transform_from_message(Transform(rotation=Quaternion(w=0.0)))


def test_a_keypose_comes_back_and_one_without_rotation_is_refused() -> None:
    keypose = Keypose(np.array([0.4, 0.1, 0.2]), QUAT_WXYZ, 0.25)
    message = keypose_to_message(keypose, "fr3_link0", 77)
    back = keypose_from_message(message)
    np.testing.assert_allclose(back.position, keypose.position)
    np.testing.assert_allclose(back.quat_wxyz, keypose.quat_wxyz)
    assert (back.opening, stamp_to_ns(message.header.stamp), message.header.frame_id) == (0.25, 77, "fr3_link0")
    message.pose.orientation = Quaternion(w=0.0)
    with pytest.raises(ConfigurationError, match="unit quaternion"):
        keypose_from_message(message)


def test_joints_are_found_by_name_in_any_order() -> None:
    message = joint_state(["b", "c", "a"], [2.0, 3.0, 1.0], stamp_ns=1)
    np.testing.assert_array_equal(joint_positions(message, ["a", "b"]), [1.0, 2.0])
    with pytest.raises(MessageError, match="lacks d"):
        joint_positions(message, ["a", "d"])
    with pytest.raises(MessageError, match="only 1 positions"):
        joint_positions(JointState(name=["a", "b"], position=[1.0]), ["a"])


def test_an_observation_passes_the_service_unchanged() -> None:
    spec = ObservationSpec(voxel_size=0.011, cameras=("front",))
    sent = Observation(POINTS, COLORS, np.array([0.4, 0, 0.3]), QUAT_WXYZ, np.linspace(-1, 1, 7), 0.75, 123_456, spec)
    response = fill_capture(Capture.Response(), sent, lift_ms=4.5)
    got = observation_from_capture(response)
    assert got.spec == spec
    assert (got.opening, got.stamp_ns, response.lift_ms) == (0.75, 123_456, 4.5)
    for name in ("points", "colors", "tool_position", "tool_quat_wxyz", "joint_positions"):
        np.testing.assert_array_equal(getattr(got, name), getattr(sent, name), err_msg=name)


def test_a_refused_capture_gives_the_same_reasons_on_the_other_side() -> None:
    response = refuse_capture(Capture.Response(), ObservationError(["front is silent", "no joint states"]))
    with pytest.raises(ObservationError) as caught:
        observation_from_capture(response)
    assert caught.value.reasons == ["front is silent", "no joint states"]


def test_markers_clear_the_last_decision_and_show_each_candidate_and_three_axes() -> None:
    keyposes = [Keypose(np.array([0.4, 0.1 * i, 0.2]), (0.0, 1.0, 0.0, 0.0), float(i % 2)) for i in range(4)]
    markers = candidate_markers(keyposes, keyposes[1], "fr3_link0", 5).markers
    assert markers[0].action == Marker.DELETEALL
    assert [len(m.points) for m in markers[1:3]] == [4, 8]
    assert len(markers) == 6
    # The hand points down: it approaches from above.
    assert markers[2].points[0].z > markers[2].points[1].z
    assert len({(m.ns, m.id) for m in markers[1:]}) == 5
