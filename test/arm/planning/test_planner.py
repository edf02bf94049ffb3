"""Planned paths begin and end where asked, touch nothing, and are always the same; refusals say what is in the way."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from arms import block, down_at, free_planner, joints_at, wall

from minidiffuser_ros.arm.kinematics import FrankaKinematics
from minidiffuser_ros.arm.planning.path import ROUNDING_RAD, densify, rounded
from minidiffuser_ros.arm.planning.planner import MotionPlanner, PlanningSettings
from minidiffuser_ros.contract.errors import ConfigurationError, PlanningError
from minidiffuser_ros.contract.refusal import Reason
from minidiffuser_ros.geometry.rotation import quat_from_yaw, quat_multiply
from minidiffuser_ros.geometry.transform import pose_of, transform_from

LEFT, RIGHT = down_at(0.48, 0.25, 0.12), down_at(0.48, -0.25, 0.12)


@pytest.fixture
def planner() -> MotionPlanner:
    return free_planner()


def refused(call: Callable[[], object]) -> PlanningError:
    with pytest.raises(PlanningError) as caught:
        call()
    return caught.value


def code_of(error: PlanningError) -> Reason:
    return error.reason.code  # type: ignore[attr-defined]


def test_where_nothing_is_in_the_way_the_path_is_straight(planner: MotionPlanner) -> None:
    path = planner.plan_pose(joints_at(LEFT), RIGHT)
    assert path.joints.shape == (2, 7)
    np.testing.assert_allclose(FrankaKinematics().forward(path.joints[-1]), RIGHT, atol=2e-4)


def test_over_a_wall_the_path_touches_nothing_and_ends_where_asked(planner: MotionPlanner) -> None:
    planner.collision.set_obstacles(wall())
    start = joints_at(LEFT)
    path = planner.plan_pose(start, RIGHT)
    assert len(path.joints) > 2
    np.testing.assert_array_equal(path.joints[0], start)
    np.testing.assert_allclose(FrankaKinematics().forward(path.joints[-1]), RIGHT, atol=2e-4)
    assert planner.collision.path_contact(path.joints, 1.0, step_rad=0.01) == ""
    assert path.tools()[:, 2, 3].max() > 0.3


def test_joints_are_planned_to_joints(planner: MotionPlanner) -> None:
    planner.collision.set_obstacles(wall())
    start, goal = joints_at(LEFT), joints_at(RIGHT)
    path = planner.plan_joints(start, goal)
    np.testing.assert_array_equal(path.joints[[0, -1]], [start, goal])
    assert planner.collision.path_contact(path.joints, 1.0) == ""


def test_another_planner_gives_the_same_answer(planner: MotionPlanner) -> None:
    other = MotionPlanner()
    for each in (planner, other):
        each.collision.set_obstacles(wall())
    start = joints_at(LEFT)
    first = planner.plan_pose(start, RIGHT).joints
    np.testing.assert_array_equal(first, planner.plan_pose(start, RIGHT).joints)
    np.testing.assert_array_equal(first, other.plan_pose(start, RIGHT).joints)


def test_what_is_held_is_carried_over_the_wall(planner: MotionPlanner) -> None:
    planner.collision.set_obstacles(wall())
    offset = np.eye(4)
    offset[2, 3] = 0.05
    planner.collision.attach((0.02, 0.02, 0.05), offset)
    path = planner.plan_pose(joints_at(LEFT), RIGHT, opening=0.5)
    assert planner.collision.path_contact(path.joints, 0.5) == ""
    tools = path.tools()
    over = np.abs(tools[:, 1, 3]) < 0.02
    bottom = tools[over] @ (0.0, 0.0, 0.10, 1.0)
    assert not over.any() or (bottom[:, 2] > 0.35).all() or (np.hypot(*(bottom[:, :2] - (0.49, 0.0)).T) > 0.07).all()


def test_a_straight_line_is_straight_and_turns_evenly(planner: MotionPlanner) -> None:
    start = joints_at(down_at(0.45, 0.1, 0.2))
    turned = transform_from((0.5, -0.1, 0.3), quat_multiply(quat_from_yaw(0.6), pose_of(LEFT)[1]))
    path = planner.plan_line(start, turned)
    assert path.kind == "line"
    tools = path.tools(step_rad=0.01)
    begin, way = tools[0, :3, 3], turned[:3, 3] - tools[0, :3, 3]
    shares = (tools[:, :3, 3] - begin) @ way / (way @ way)
    assert np.linalg.norm(tools[:, :3, 3] - begin - shares[:, None] * way, axis=1).max() < 1e-3
    yaws = np.arctan2(tools[:, 1, 0], tools[:, 0, 0])
    np.testing.assert_allclose(yaws, 0.6 * shares, atol=5e-3)
    np.testing.assert_allclose(tools[-1], turned, atol=2e-4)


def test_a_line_through_the_wall_is_refused_and_says_what_would_touch(planner: MotionPlanner) -> None:
    planner.collision.set_obstacles(wall())
    error = refused(lambda: planner.plan_line(joints_at(LEFT), RIGHT))
    assert code_of(error) is Reason.IN_COLLISION
    assert "something seen at" in str(error)


def test_a_line_that_leaves_the_reach_on_its_way_is_no_line(planner: MotionPlanner) -> None:
    start = joints_at(down_at(0.10, 0.45, 0.3))
    assert code_of(refused(lambda: planner.plan_line(start, down_at(0.10, -0.45, 0.3)))) is Reason.NO_LINE


def test_a_goal_in_what_is_seen_is_refused_with_its_place(planner: MotionPlanner) -> None:
    planner.collision.set_obstacles(wall())
    error = refused(lambda: planner.plan_pose(joints_at(LEFT), down_at(0.48, 0.0, 0.12)))
    assert code_of(error) is Reason.IN_COLLISION
    assert "at the goal (0.480, 0.000, 0.120) m" in str(error)


def test_where_contact_is_allowed_the_goal_may_be_touched(planner: MotionPlanner) -> None:
    planner.collision.set_obstacles(block((0.46, -0.035, 0.0), (0.50, 0.035, 0.11)))
    goal = down_at(0.48, 0.0, 0.095)
    assert code_of(refused(lambda: planner.plan_pose(joints_at(LEFT), goal))) is Reason.IN_COLLISION
    planner.collision.allow_contact(goal[:3, 3], 0.08)
    np.testing.assert_allclose(planner.plan_pose(joints_at(LEFT), goal).tools()[-1], goal, atol=2e-4)


def test_a_start_in_what_is_seen_is_refused(planner: MotionPlanner) -> None:
    planner.collision.set_obstacles(block((0.46, 0.2, 0.0), (0.50, 0.3, 0.14)))
    error = refused(lambda: planner.plan_pose(joints_at(LEFT), RIGHT))
    assert code_of(error) is Reason.IN_COLLISION
    assert "where the arm is" in str(error)


def test_a_pose_out_of_reach_and_joints_out_of_range_are_unreachable(planner: MotionPlanner) -> None:
    start = joints_at(LEFT)
    for call in (planner.plan_pose, planner.plan_line):
        assert code_of(refused(lambda call=call: call(start, down_at(0.95, 0.3, 0.1)))) is Reason.UNREACHABLE
    assert code_of(refused(lambda: planner.plan_joints(start, np.full(7, 3.0)))) is Reason.UNREACHABLE


def test_joints_that_are_none_are_refused(planner: MotionPlanner) -> None:
    start = joints_at(LEFT)
    for joints in (np.full(7, np.nan), np.zeros(6)):
        assert code_of(refused(lambda joints=joints: planner.plan_joints(start, joints))) is Reason.NOT_FINITE
        assert code_of(refused(lambda joints=joints: planner.plan_pose(joints, RIGHT))) is Reason.NOT_FINITE
    assert code_of(refused(lambda: planner.plan_pose(start, np.full((4, 4), np.nan)))) is Reason.NOT_FINITE


def test_a_way_that_is_not_found_in_time_is_no_path_and_says_what_is_in_the_way() -> None:
    planner = MotionPlanner(settings=PlanningSettings(max_rounds=1))
    planner.collision.set_obstacles(wall())
    error = refused(lambda: planner.plan_joints(joints_at(LEFT), joints_at(RIGHT)))
    assert code_of(error) is Reason.NO_PATH
    assert "something seen at" in str(error)


@pytest.mark.parametrize("change", [{"max_time_s": 0.0}, {"check_rad": 0.2}, {"max_rounds": 0}, {"seed": -1}])
def test_settings_out_of_range_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(change))):
        PlanningSettings(**change)  # type: ignore[arg-type]


def test_rounded_corners_stay_close_to_the_path_and_keep_its_ends() -> None:
    path = np.cumsum(np.random.default_rng(0).normal(0.0, 0.4, (8, 7)), axis=0)
    curve = rounded(path)
    assert curve is not None
    places = curve(np.linspace(0.0, curve.t[-1], 3000))
    np.testing.assert_allclose(places[[0, -1]], path[[0, -1]], atol=1e-12)
    segments = densify(path, 1e-3)
    gaps = np.array([np.linalg.norm(segments - place, axis=1).min() for place in places[::5]])
    assert gaps.max() < ROUNDING_RAD
    assert rounded(np.stack([path[0], path[0]])) is None


def test_the_tool_swings_no_farther_out_of_the_workspace_than_allowed(planner: MotionPlanner) -> None:
    planner.collision.set_obstacles(block((0.42, -0.04, 0.0), (0.56, 0.04, 0.45)))
    tools = planner.plan_pose(joints_at(LEFT), RIGHT).tools(step_rad=0.01)
    detour = planner.settings.max_detour_m
    assert (tools[:, :3, 3] >= np.array(planner.limits.workspace_min) - detour - 1e-3).all()
    assert (tools[:, :3, 3] <= np.array(planner.limits.workspace_max) + detour + 1e-3).all()


def test_with_no_detour_allowed_a_way_over_a_high_wall_is_not_found() -> None:
    planner = MotionPlanner(settings=PlanningSettings(max_detour_m=0.0, max_rounds=150))
    planner.collision.set_obstacles(block((0.25, -0.02, 0.0), (0.80, 0.02, 0.48)))
    assert code_of(refused(lambda: planner.plan_pose(joints_at(LEFT), RIGHT))) is Reason.NO_PATH
