"""The executor on a simulated Franka behind the robot's real protocol: arrivals, refusals, grasps and lost arms."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import franky
import numpy as np
import pytest
from simulated_franka import SimulatedFranka, start_franka

from minidiffuser_ros.arm.envelope import SafetyEnvelope
from minidiffuser_ros.arm.executor import KeyposeExecutor
from minidiffuser_ros.arm.franky_arm import FrankyArm
from minidiffuser_ros.arm.franky_settings import FrankySettings
from minidiffuser_ros.arm.goal import KeyposeGoal
from minidiffuser_ros.arm.kinematics import HOME_JOINTS, FrankaKinematics
from minidiffuser_ros.arm.protocol import ArmMode
from minidiffuser_ros.contract.errors import ConfigurationError, ConnectionLostError, GoalRejectedError, MotionError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.geometry.rotation import POINTING_DOWN_WXYZ, quat_from_yaw, quat_multiply

BLOCK = (0.45, 0.1)  # where the server puts its block


@pytest.fixture(scope="module")
def franka() -> Iterator[SimulatedFranka]:
    server = start_franka(1)
    yield server
    server.kill()


@pytest.fixture(scope="module")
def executor(franka: SimulatedFranka) -> Iterator[KeyposeExecutor]:
    arm = FrankyArm(franka.address)
    yield KeyposeExecutor(arm, SafetyEnvelope())
    arm.close()


def goal(x: float, y: float, z: float, opening: float = 1.0, yaw: float = 0.0) -> KeyposeGoal:
    return KeyposeGoal(Keypose(np.array([x, y, z]), quat_multiply(quat_from_yaw(yaw), POINTING_DOWN_WXYZ), opening))


def test_readings_agree_with_our_kinematics(executor: KeyposeExecutor) -> None:
    state = executor.arm.state()
    np.testing.assert_allclose(state.joints, HOME_JOINTS, atol=1e-3)
    np.testing.assert_allclose(state.tool, FrankaKinematics().forward(state.joints), atol=1e-5)
    assert state.mode is ArmMode.IDLE
    assert state.opening == pytest.approx(1.0, abs=0.02)


def test_a_keypose_is_reached_and_its_phases_are_told(executor: KeyposeExecutor) -> None:
    phases: list[str] = []
    before_ns = time.time_ns()
    outcome = executor.execute(goal(0.5, -0.15, 0.2, yaw=0.5), 0.5, phases.append)
    assert outcome.success, outcome.message
    assert outcome.position_error < 0.002
    assert outcome.rotation_error_deg < 0.5
    assert phases == ["checking", "moving", "settling", "gripper", "verifying"]
    assert before_ns < outcome.settled_ns <= time.time_ns()


@pytest.mark.parametrize("refused", [goal(3.0, 0.0, 0.3), goal(0.5, 0.0, -0.05), goal(0.74, 0.38, 0.48)])
def test_a_refused_goal_moves_nothing(executor: KeyposeExecutor, refused: KeyposeGoal) -> None:
    before = executor.arm.state().joints
    with pytest.raises(GoalRejectedError):
        executor.execute(refused, 0.5)
    time.sleep(0.1)
    np.testing.assert_allclose(executor.arm.state().joints, before, atol=1e-3)


def test_a_grasp_is_judged_by_the_width(executor: KeyposeExecutor) -> None:
    for waypoint in (goal(*BLOCK, 0.12), goal(*BLOCK, 0.022)):
        assert executor.execute(waypoint, 0.5).success
    grasp = executor.drive_gripper(0.0)
    assert grasp.success
    assert "holds something 4" in grasp.message
    assert grasp.width == pytest.approx(0.044, abs=0.003)
    lifted = executor.execute(goal(*BLOCK, 0.15, opening=0.0), 0.5)
    assert lifted.success
    assert lifted.width == pytest.approx(0.044, abs=0.003)
    assert executor.execute(goal(*BLOCK, 0.03, opening=1.0), 0.5).width > 0.07
    assert executor.execute(goal(0.45, -0.1, 0.15), 0.5).success
    empty = executor.drive_gripper(0.0)
    assert empty.success
    assert "nothing between the fingers" in empty.message
    assert empty.width < 0.004


def test_home_is_reached_from_low_over_the_table(executor: KeyposeExecutor) -> None:
    assert executor.execute(goal(0.6, 0.0, 0.015), 0.5).success
    assert executor.home(0.5).success
    np.testing.assert_allclose(executor.arm.state().joints, HOME_JOINTS, atol=5e-3)


def test_a_halt_brakes_within_a_second_and_the_next_goal_runs(executor: KeyposeExecutor) -> None:
    timer = threading.Timer(0.6, executor.halt)
    timer.start()
    begin = time.monotonic()
    outcome = executor.execute(goal(0.6, 0.3, 0.1), 0.1)
    assert time.monotonic() - begin < 2.0
    assert not outcome.success
    assert "halted" in outcome.message
    assert outcome.position_error > 0.05
    assert executor.execute(goal(0.45, 0.0, 0.3), 0.5).success


def unplannable(*args: Any, **kwargs: Any) -> Any:
    """A motion for which franky's planner finds no trajectory."""
    return franky.JointMotion(np.full(7, np.nan))


def test_a_motion_that_cannot_be_planned_fails_and_the_connection_stays(executor: KeyposeExecutor) -> None:
    with pytest.raises(MotionError, match="no trajectory from where the arm is"):
        executor.arm.move_joints(np.full(7, np.nan), 0.5, threading.Event())
    assert executor.arm.state().mode is ArmMode.IDLE
    assert executor.home(0.5).success


def test_a_motion_that_can_be_planned_at_the_second_attempt_arrives(
    executor: KeyposeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = [unplannable, franky.CartesianMotion]
    monkeypatch.setattr(franky, "CartesianMotion", lambda *args, **kwargs: plans.pop(0)(*args, **kwargs))
    outcome = executor.execute(goal(0.45, 0.0, 0.3), 0.5)
    assert outcome.success, outcome.message
    assert not plans


def test_a_second_goal_is_refused_while_one_runs(executor: KeyposeExecutor) -> None:
    running = threading.Thread(target=executor.execute, args=(goal(0.5, 0.2, 0.2), 0.3))
    running.start()
    time.sleep(0.2)
    with pytest.raises(GoalRejectedError, match="busy"):
        executor.execute(goal(0.5, 0.0, 0.2), 0.3)
    running.join()


def test_nothing_moves_while_there_are_objections(franka: SimulatedFranka, executor: KeyposeExecutor) -> None:
    guarded = KeyposeExecutor(executor.arm, SafetyEnvelope(), objections=lambda: ["nobody holds the enable button"])
    before = executor.arm.state().joints
    for attempt in (lambda: guarded.execute(goal(0.5, 0.0, 0.2), 0.5), lambda: guarded.home(0.5)):
        with pytest.raises(GoalRejectedError, match="enable button"):
            attempt()
    np.testing.assert_allclose(executor.arm.state().joints, before, atol=1e-3)


def test_an_arm_in_use_is_reported_and_does_not_hang(franka: SimulatedFranka, executor: KeyposeExecutor) -> None:
    with pytest.raises(ConnectionLostError, match="another process"):
        FrankyArm(franka.address, FrankySettings(connect_timeout_s=0.5))


def test_a_dead_address_fails_in_bounded_time() -> None:
    begin = time.monotonic()
    with pytest.raises(ConnectionLostError, match="nothing answers at 127"):
        FrankyArm("127.99.9.9", FrankySettings(connect_timeout_s=1.0))
    assert time.monotonic() - begin < 2.0


def test_a_killed_arm_is_noticed_at_once_and_recovered_when_it_is_back() -> None:
    server = start_franka(2)
    try:
        arm = FrankyArm(server.address, FrankySettings(connect_timeout_s=3.0, reconnect_timeout_s=3.0))
        executor = KeyposeExecutor(arm, SafetyEnvelope())
        threading.Timer(0.5, server.kill).start()
        begin = time.monotonic()
        with pytest.raises(ConnectionLostError, match="stopped answering"):
            executor.execute(goal(0.6, 0.3, 0.1), 0.1)
        assert time.monotonic() - begin < 5.0
        begin = time.monotonic()
        with pytest.raises(ConnectionLostError, match="recover"):
            arm.state()
        assert time.monotonic() - begin < 0.1
        server = start_franka(2)
        arm.recover()
        assert executor.execute(goal(0.5, 0.0, 0.3), 0.5).success
        arm.close()
    finally:
        server.kill()


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="gripper_force"):
        FrankySettings(gripper_force=500.0)
