"""The stepped arm goes where it is told, or says that it cannot and stays."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from scenes import perform, state

from minidiffuser_ros.arm.kinematics import MAX_GRIPPER_WIDTH
from minidiffuser_ros.contract.errors import MotionError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.geometry.rotation import POINTING_DOWN_WXYZ
from minidiffuser_ros.geometry.transform import pose_of
from minidiffuser_ros.simulation.stepped import JOINT_SPEEDS, TRAJECTORY_PERIOD_S, WAYPOINT_SPACING
from minidiffuser_ros.simulation.tabletop import Tabletop
from minidiffuser_ros.simulation.tasks.base import CLOSED, OPEN, down
from minidiffuser_ros.simulation.tasks.objects import BLOCK_HALF_SIZE
from minidiffuser_ros.simulation.world import TOOL_SITE


@pytest.mark.parametrize("seed", range(8))
def test_the_tool_arrives_within_two_millimetres_and_half_a_degree(world: Tabletop, seed: int) -> None:
    world.reset("stack_pair", 0)
    rng = np.random.default_rng(seed)
    x, y, z = rng.uniform([0.35, -0.3, 0.12], [0.65, 0.3, 0.4])
    goal = down(x, y, z, float(rng.integers(2)), rng.uniform(-0.6, 0.6))
    world.execute(goal)
    metres, degrees = goal.distance_to(*pose_of(world.arm.tool_transform))
    assert metres < 0.002
    assert degrees < 0.5
    assert world.arm.opening == pytest.approx(goal.opening, abs=0.02)


def test_the_kinematics_of_the_arm_are_those_of_the_world(world: Tabletop) -> None:
    world.reset("push_button", 0)
    for x, y, z in ((0.4, -0.2, 0.3), (0.6, 0.2, 0.1)):
        world.execute(down(x, y, z, OPEN, 0.3))
        world.observe()
        site = world.data.site(TOOL_SITE)
        transform = world.arm.tool_transform
        np.testing.assert_allclose(transform[:3, 3], site.xpos, atol=0.001)
        np.testing.assert_allclose(transform[:3, :3], site.xmat.reshape(3, 3), atol=0.005)


def test_the_path_is_a_straight_line_without_jumps(world: Tabletop) -> None:
    world.reset("push_button", 0)
    start, _ = pose_of(world.arm.tool_transform)
    goal = down(0.6, 0.25, 0.1, OPEN, 0.5)
    path = world.arm.plan(goal)
    tools = np.array([pose_of(world.kinematics.forward(joints))[0] for joints in path])
    direction = (goal.position - start) / np.linalg.norm(goal.position - start)
    offset = tools - start - np.outer((tools - start) @ direction, direction)
    assert np.abs(offset).max() < 1e-3
    np.testing.assert_allclose(tools[-1], goal.position, atol=1e-3)
    assert np.linalg.norm(np.diff(tools, axis=0), axis=1).max() < 1.05 * WAYPOINT_SPACING
    assert np.abs(np.diff(path, axis=0)).max() < 0.2


@pytest.mark.parametrize("yaw", [-1.4, 1.4])
def test_no_joint_moves_faster_than_the_robot_can(world: Tabletop, yaw: float) -> None:
    world.reset("push_button", 0)
    world.execute(down(0.35, 0.0, 0.45, OPEN, yaw))
    world.execute(down(0.35, 0.3, 0.15, OPEN, -yaw))
    trajectory = world.arm.trajectory
    speeds = np.abs(np.diff(trajectory[:, 1:8], axis=0)).max(axis=0) / TRAJECTORY_PERIOD_S
    assert (speeds < 1.02 * np.array(JOINT_SPEEDS)).all()
    assert speeds.max() > 1.0


def test_the_trajectory_is_the_way_of_the_last_motion(world: Tabletop) -> None:
    world.reset("push_button", 0)
    for goal in (down(0.6, 0.2, 0.3, OPEN), down(0.5, 0.0, 0.3, CLOSED)):
        start = world.data.time
        world.execute(goal)
        trajectory = world.arm.trajectory
        assert start < trajectory[0, 0] < start + 2 * TRAJECTORY_PERIOD_S
        np.testing.assert_allclose(np.diff(trajectory[:, 0]), TRAJECTORY_PERIOD_S)
        np.testing.assert_allclose(trajectory[-1, 1:8], world.arm.joint_positions, atol=1e-3)
        assert trajectory[-1, 8] == pytest.approx(world.arm.opening, abs=0.01)


def test_closing_on_a_block_leaves_the_gripper_as_wide_as_the_block(world: Tabletop) -> None:
    world.reset("stack_pair", 0)
    perform(world, islice(world.expert(), 2))
    assert world.arm.opening * MAX_GRIPPER_WIDTH == pytest.approx(2 * BLOCK_HALF_SIZE, abs=0.003)


@pytest.mark.parametrize("position", [(1.5, 0.0, 0.3), (0.5, 0.0, 2.0), (0.0, 0.0, 0.1)])
def test_a_goal_out_of_reach_is_refused_and_nothing_moves(
    world: Tabletop, position: tuple[float, float, float]
) -> None:
    world.reset("push_button", 0)
    before = state(world)
    with pytest.raises(MotionError, match=r"no joint configuration reaches \[.*\] m on the way"):
        world.arm.execute(Keypose(np.array(position), np.array(POINTING_DOWN_WXYZ), CLOSED))
    np.testing.assert_array_equal(state(world), before)
    world.execute(down(0.5, 0.0, 0.3, OPEN))  # and the arm still works


@pytest.mark.parametrize(
    ("goal", "reason"),
    [
        (down(0.24, 0.0, 0.2, OPEN), "outside the workspace: x = 0.240 m"),
        (down(0.5, -0.41, 0.2, OPEN), "outside the workspace: y = -0.410 m"),
        (down(0.5, 0.0, 0.51, OPEN), "outside the workspace: z = 0.510 m"),
        (down(0.5, 0.0, 0.005, CLOSED), "5 mm above the table, at least 9 mm are needed"),
        (Keypose(np.array([0.5, 0.0, 0.1]), np.array([0.5, 0.5, 0.5, 0.5]), OPEN), "."),
        (Keypose(np.array([0.74, 0.39, 0.49]), np.array([1.0, 0.0, 0.0, 0.0]), OPEN), "."),
    ],
)
def test_what_the_safety_envelope_forbids_is_unreachable_and_nothing_moves(
    world: Tabletop, goal: Keypose, reason: str
) -> None:
    world.reset("push_button", 0)
    before = state(world)
    with pytest.raises(MotionError, match=f"^unreachable: .*{reason}"):
        world.execute(goal)
    np.testing.assert_array_equal(state(world), before)


def test_the_arm_holds_still_at_its_goal(world: Tabletop) -> None:
    world.reset("push_button", 0)
    goal = down(0.55, 0.1, 0.2, OPEN)
    world.execute(goal)
    before = world.arm.tool_transform
    world.execute(goal)
    np.testing.assert_allclose(world.arm.tool_transform, before, atol=1e-3)
