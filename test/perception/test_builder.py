"""The observation builder on exact pictures: a grey table with a red plateau, seen by pinhole cameras."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from minidiffuser_ros.contract.errors import ObservationError
from minidiffuser_ros.contract.observation import Observation, ObservationSpec
from minidiffuser_ros.geometry.camera import PinholeCamera
from minidiffuser_ros.geometry.transform import apply, invert, look_at, transform_from
from minidiffuser_ros.geometry.volumes import OrientedBox, Volume
from minidiffuser_ros.perception.builder import MIN_POINTS, CameraView, ObservationBuilder, lift

# An odd number of pixels: the axis goes through the centre of one, where infinite depth is most awkward.
CAMERA = PinholeCamera.from_fov(121, 97, 40.0)
SPEC = ObservationSpec(cameras=("front", "top"))
JOINTS = np.array([0.1, -0.7, 0.0, -2.3, 0.0, 1.6, 0.8])
T_POLICY_TOOL = transform_from([0.5, 0.1, 0.3], [0.0, 0.6, 0.8, 0.0])
PLATEAU_LOW, PLATEAU_HIGH, PLATEAU_HEIGHT = np.array([0.42, -0.12]), np.array([0.58, 0.15]), 0.05
RED, BLUE, GREY = (220, 10, 20), (10, 20, 220), (120, 120, 120)
EYES = {"front": (1.0, 0.1, 0.6), "top": (0.5, 0.05, 0.9)}
TARGET = (0.5, 0.0, 0.0)


def view(name: str, lift_by: float = 0.0, **changes: Any) -> CameraView:
    """What the camera sees of the table at height `lift_by` and the plateau on it, by intersecting rays."""
    T_policy_camera = look_at(EYES[name], TARGET, up=(1.0, 0.0, 1.0))
    T_policy_camera[2, 3] += lift_by
    rays = CAMERA.deproject(np.ones((CAMERA.height, CAMERA.width))).astype(np.float64) @ T_policy_camera[:3, :3].T
    eye = T_policy_camera[:3, 3]
    depth = (lift_by - eye[2]) / rays[..., 2]
    to_plateau = (lift_by + PLATEAU_HEIGHT - eye[2]) / rays[..., 2]
    meets = eye[:2] + to_plateau[..., None] * rays[..., :2]
    on_plateau = ((meets > PLATEAU_LOW) & (meets < PLATEAU_HIGH)).all(axis=-1)
    depth = np.where(on_plateau, to_plateau, depth).astype(np.float32)
    color = np.where(on_plateau[..., None], np.array(RED, np.uint8), np.array(GREY, np.uint8))
    return dataclasses.replace(CameraView(name, color, depth, CAMERA, T_policy_camera, 5), **changes)


def views() -> list[CameraView]:
    return [view("front"), view("top")]


def build(seen: Sequence[CameraView], builder: ObservationBuilder | None = None, **changes: Any) -> Observation:
    inputs: dict[str, Any] = {
        "joint_positions": JOINTS,
        "opening": 0.5,
        "T_policy_tool": T_POLICY_TOOL,
        "stamp_ns": 12,
    } | changes
    return (builder or ObservationBuilder(SPEC)).build(seen, **inputs)


def columns(points: np.ndarray) -> set[tuple[int, ...]]:
    """The columns of voxels that hold points."""
    return {tuple(cell) for cell in np.floor(points[:, :2].astype(np.float64) / SPEC.voxel_size).astype(int)}


def same_cloud(first: Observation, second: Observation) -> None:
    np.testing.assert_array_equal(first.points, second.points)
    np.testing.assert_array_equal(first.colors, second.colors)


def spoiled(name: str, value: float) -> CameraView:
    """A view whose depth is `value` everywhere."""
    return view(name, depth=np.full((CAMERA.height, CAMERA.width), value, np.float32))


def reasons(seen: Sequence[CameraView], **changes: Any) -> list[str]:
    with pytest.raises(ObservationError) as caught:
        build(seen, **changes)
    return caught.value.reasons


@pytest.mark.parametrize("name", EYES)
def test_every_pixel_is_lifted_to_the_place_it_shows(name: str) -> None:
    points, colors = lift(view(name))
    red = (colors == RED).all(axis=1)
    assert len(points) == CAMERA.width * CAMERA.height
    np.testing.assert_allclose(points[red, 2], PLATEAU_HEIGHT, atol=1e-6)
    np.testing.assert_allclose(points[~red, 2], 0.0, atol=1e-6)
    assert ((points[red, :2] > PLATEAU_LOW - 1e-6) & (points[red, :2] < PLATEAU_HIGH + 1e-6)).all()
    assert points.dtype == np.float32
    assert colors.dtype == np.uint8


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("unknown", [np.nan, np.inf, -np.inf, 0.0, -0.4])
def test_pixels_of_unknown_depth_are_dropped_and_all_others_stay(unknown: float) -> None:
    whole = view("front")
    valid = np.random.default_rng(0).random(whole.depth.shape) < 0.7
    valid[CAMERA.height // 2, CAMERA.width // 2] = False
    depth = np.where(valid, whole.depth, np.float32(unknown))
    points, colors = lift(dataclasses.replace(whole, depth=depth))
    expected, expected_colors = lift(whole)
    np.testing.assert_array_equal(points, expected[valid.ravel()])
    np.testing.assert_array_equal(colors, expected_colors[valid.ravel()])


@pytest.mark.parametrize(("down", "right"), [(2, 2), (3, 1)])
def test_a_colour_image_larger_than_the_depth_image_gives_the_same_cloud(down: int, right: int) -> None:
    small = view("front")
    color = small.color.repeat(down, axis=0).repeat(right, axis=1)
    large = dataclasses.replace(small, color=color, camera=CAMERA.scaled(color.shape[1], color.shape[0]))
    np.testing.assert_allclose(lift(large)[0], lift(small)[0], atol=1e-6)
    np.testing.assert_array_equal(lift(large)[1], lift(small)[1])


def test_the_table_is_removed_and_the_plateau_stays_in_its_colour() -> None:
    observation = build(views())
    assert len(observation.points) > 300
    assert (observation.colors == RED).all()
    np.testing.assert_allclose(observation.points[:, 2], PLATEAU_HEIGHT, atol=1e-5)


def test_what_is_barely_above_the_margin_stays_and_what_is_below_goes() -> None:
    for margin, seen in ((PLATEAU_HEIGHT - 0.001, True), (PLATEAU_HEIGHT + 0.001, False)):
        builder = ObservationBuilder(dataclasses.replace(SPEC, table_margin=margin))
        if seen:
            assert len(build(views(), builder).points) > 300
        else:
            with pytest.raises(ObservationError, match="only 0 points"):
                build(views(), builder)


def test_a_table_raised_together_with_its_height_shows_the_same_objects() -> None:
    builder = ObservationBuilder(dataclasses.replace(SPEC, table_height=0.04))
    raised = build([view("front", 0.04), view("top", 0.04)], builder)
    observation = build(views())
    assert (raised.colors == RED).all()
    np.testing.assert_allclose(raised.points[:, 2], PLATEAU_HEIGHT + 0.04, atol=1e-5)
    assert abs(len(raised.points) - len(observation.points)) < 0.05 * len(observation.points)


def test_no_point_lies_outside_the_workspace() -> None:
    low, high = (0.45, -0.05, -0.1), (0.55, 0.10, 0.3)
    spec = dataclasses.replace(SPEC, workspace_min=low, workspace_max=high, table_height=-0.1, max_points=5000)
    observation = build(views(), ObservationBuilder(spec))
    assert (observation.points >= np.array(low, np.float32)).all()
    assert (observation.points <= np.array(high, np.float32)).all()
    reached = observation.points[:, :2].min(axis=0), observation.points[:, :2].max(axis=0)
    np.testing.assert_allclose(reached, [[0.45, -0.05], [0.55, 0.10]], atol=0.01)


def test_no_two_points_share_a_voxel() -> None:
    spec = dataclasses.replace(SPEC, max_points=5000)
    points = build(views(), ObservationBuilder(spec)).points
    # Between 0.048 and 0.056 lies one layer of cells, with the plateau inside it.
    assert len(columns(points)) == len(points)


@pytest.mark.parametrize("limit", [16, 100])
def test_there_are_never_more_points_than_asked_for(limit: int) -> None:
    builder = ObservationBuilder(dataclasses.replace(SPEC, max_points=limit))
    assert len(build(views(), builder).points) == limit


def test_the_order_of_the_cameras_does_not_matter() -> None:
    same_cloud(build(views()), build(views()[::-1]))


def test_the_same_view_twice_is_the_same_as_once() -> None:
    same_cloud(build(views()), build([*views(), *views()]))


def test_a_second_camera_adds_what_the_first_one_does_not_see() -> None:
    left, right = views()
    left.depth[:, : CAMERA.width // 2] = np.nan
    right.depth[:, CAMERA.width // 2 :] = np.nan
    red = [points[(colors == RED).all(axis=1)] for points, colors in (lift(left), lift(right))]
    assert columns(red[0]) - columns(red[1])
    assert columns(red[1]) - columns(red[0])
    merged = build([left, right], ObservationBuilder(dataclasses.replace(SPEC, max_points=5000)))
    assert columns(merged.points) == columns(red[0]) | columns(red[1])


def test_the_same_pictures_give_the_same_observation_bit_for_bit() -> None:
    same_cloud(build(views()), build(views()))


def test_building_does_not_touch_what_it_is_given() -> None:
    seen, untouched = views(), views()
    build(seen)
    for mine, before in zip(seen, untouched, strict=True):
        np.testing.assert_array_equal(mine.depth, before.depth)
        np.testing.assert_array_equal(mine.color, before.color)


def test_the_state_of_the_robot_goes_through_unchanged() -> None:
    joints = JOINTS.copy()
    observation = build(views(), joint_positions=joints)
    joints[:] = 9.0
    np.testing.assert_array_equal(observation.joint_positions, JOINTS)
    np.testing.assert_allclose(observation.tool_position, [0.5, 0.1, 0.3])
    np.testing.assert_allclose(observation.tool_quat_wxyz, [0.0, 0.6, 0.8, 0.0], atol=1e-12)
    assert (observation.opening, observation.stamp_ns, observation.spec) == (0.5, 12, SPEC)
    assert observation.points.dtype == np.float32
    assert observation.colors.dtype == np.uint8


def test_points_inside_the_robot_are_removed_and_no_others() -> None:
    asked: list[tuple[list[float], float]] = []
    body = OrientedBox(transform_from([0.5, 0.0, 0.05], [1, 0, 0, 0]), np.array([0.05, 0.05, 0.05]))

    def robot(joint_positions: np.ndarray, opening: float) -> list[Volume]:
        asked.append((joint_positions.tolist(), opening))
        return [body, OrientedBox(np.eye(4), np.array([0.01, 0.01, 0.01]))]

    spec = dataclasses.replace(SPEC, max_points=5000)
    with_robot, without = (build(views(), ObservationBuilder(spec, volumes)).points for volumes in (robot, None))
    assert asked == [(JOINTS.tolist(), 0.5)]
    assert not body.contains(with_robot).any()
    assert body.contains(without).sum() > 100
    margin = OrientedBox(body.transform, body.half_size + 2 * spec.voxel_size)
    clear = without[~margin.contains(without)]
    assert {tuple(point) for point in clear} <= {tuple(point) for point in with_robot}


def test_colours_stay_with_their_points_when_the_robot_is_removed() -> None:
    seen = views()
    for each in seen:
        each.color.reshape(-1, 3)[lift(each)[0][:, 1] < 0.0] = BLUE
    assert (build(seen).colors == BLUE).all(axis=1).any()
    left_half = OrientedBox(transform_from([0.5, -0.2, 0.05], [1, 0, 0, 0]), np.array([0.2, 0.2, 0.05]))
    remaining = build(seen, ObservationBuilder(SPEC, lambda joint_positions, opening: [left_half]))
    assert (remaining.points[:, 1] > 0.0).all()
    assert (remaining.colors == RED).all()


def test_flying_pixels_at_an_edge_are_removed() -> None:
    seen = views()
    flying = np.random.default_rng(3).choice(CAMERA.width * CAMERA.height, 12, replace=False)
    seen[1].depth.ravel()[flying] -= np.linspace(0.15, 0.4, 12, dtype=np.float32)
    np.testing.assert_allclose(build(seen).points[:, 2], PLATEAU_HEIGHT, atol=1e-5)


@pytest.mark.parametrize("unknown", [np.nan, np.inf, 0.0, -1.0])
def test_a_camera_without_any_valid_depth_is_the_reason(unknown: float) -> None:
    assert reasons([view("front"), spoiled("top", unknown)]) == ["camera 'top' has no valid depth pixel"]


def test_a_camera_that_gave_nothing_is_the_reason() -> None:
    assert reasons([view("front")]) == ["camera 'top' gave no image"]


def test_a_camera_of_unknown_pose_is_the_reason() -> None:
    lost = view("top", T_policy_camera=np.full((4, 4), np.nan))
    assert reasons([view("front"), lost]) == ["the pose of camera 'top' is not finite"]


@pytest.mark.parametrize("joints", [JOINTS[:6], np.where(np.arange(7) == 3, np.nan, JOINTS)])
def test_joint_positions_that_are_none_are_the_reason(joints: np.ndarray) -> None:
    (reason,) = reasons(views(), joint_positions=joints)
    assert reason.startswith("7 finite joint positions are needed, got [0.1, -0.7")


@pytest.mark.parametrize("opening", [-0.1, 1.5, float("nan")])
def test_an_opening_out_of_range_is_the_reason(opening: float) -> None:
    assert reasons(views(), opening=opening) == [f"the gripper opening must lie in [0, 1], got {opening}"]


def test_everything_that_is_wrong_is_said_at_once() -> None:
    found = reasons([spoiled("front", 0.0)], joint_positions=np.zeros(3), opening=2.0)
    assert len(found) == 4
    assert all(any(word in reason for reason in found) for word in ("'top'", "'front'", "joint", "opening"))


def test_an_empty_workspace_is_the_reason_and_says_what_to_check() -> None:
    away = [view(name, T_policy_camera=transform_from([0, 0, 9], [1, 0, 0, 0]) @ view(name).T_policy_camera)
            for name in EYES]  # fmt: skip
    (reason,) = reasons(away)
    assert (
        reason == f"only 0 points above the table inside the workspace, {MIN_POINTS} needed: check the cameras' poses"
    )


def test_nothing_enters_but_pictures_poses_of_cameras_and_the_robots_own_state() -> None:
    assert list(inspect.signature(ObservationBuilder.build).parameters) == [
        "self", "views", "joint_positions", "opening", "T_policy_tool", "stamp_ns",
    ]  # fmt: skip
    assert list(inspect.signature(ObservationBuilder).parameters) == ["spec", "robot_volumes"]
    assert [field.name for field in dataclasses.fields(CameraView)] == [
        "name", "color", "depth", "camera", "T_policy_camera", "stamp_ns", "depth_camera",
    ]  # fmt: skip


def test_a_lifted_point_projects_to_the_pixel_it_came_from() -> None:
    seen = view("front")
    pixels = CAMERA.project(apply(invert(seen.T_policy_camera), lift(seen)[0].astype(np.float64)))
    columns, rows = np.meshgrid(np.arange(CAMERA.width), np.arange(CAMERA.height))
    np.testing.assert_allclose(pixels, np.stack([columns.ravel(), rows.ravel()], axis=1), atol=1e-3)


def test_depth_with_intrinsics_of_its_own_is_lifted_by_them_and_coloured_by_what_lies_behind_it() -> None:
    seen = view("front")
    points, colors = lift(seen)
    # The same lens told twice changes nothing, whatever size the message gives.
    for lens in (CAMERA, CAMERA.scaled(2 * CAMERA.width, 2 * CAMERA.height)):
        again = lift(dataclasses.replace(seen, depth_camera=lens))
        np.testing.assert_allclose(again[0], points, atol=1e-6)
        np.testing.assert_array_equal(again[1], colors)
    # A narrower one sees a part of it, and a wider one more than there is colour for.
    rows, columns_ = slice(20, 60), slice(30, 90)
    part = dataclasses.replace(CAMERA, width=60, height=40, cx=CAMERA.cx - 30, cy=CAMERA.cy - 20)
    cropped = lift(dataclasses.replace(seen, depth=seen.depth[rows, columns_], depth_camera=part))
    whole = points.reshape(*seen.depth.shape, 3)[rows, columns_].reshape(-1, 3)
    np.testing.assert_allclose(cropped[0], whole, atol=1e-6)
    np.testing.assert_array_equal(cropped[1], seen.color[rows, columns_].reshape(-1, 3))
    wide = lift(dataclasses.replace(seen, color=seen.color[rows, columns_], camera=part, depth_camera=CAMERA))
    np.testing.assert_allclose(wide[0], whole, atol=1e-6)
    np.testing.assert_array_equal(wide[1], cropped[1])
