"""How fast a simulated Franka stops, and how exactly it arrives, both measured on its own clock and joints."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from simulated_franka import start_franka

from minidiffuser_ros.arm.envelope import SafetyEnvelope
from minidiffuser_ros.arm.executor import KeyposeExecutor
from minidiffuser_ros.arm.franky_arm import FrankyArm
from minidiffuser_ros.arm.goal import KeyposeGoal
from minidiffuser_ros.arm.protocol import ArmState
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.geometry.rotation import POINTING_DOWN_WXYZ, quat_from_yaw, quat_multiply

# By speed. The joints of the simulation creep after their targets with a time constant of 0.1 s.
STOP_S = {0.1: 0.5, 0.3: 0.5, 0.5: 0.5, 1.0: 0.8}
WATCH_S = 1.2
KEYPOSES = 100
AT_REST = 0.05  # rad/s between two readings


@pytest.fixture(scope="module")
def executor() -> Iterator[KeyposeExecutor]:
    server = start_franka(8)
    arm = FrankyArm(server.address)
    yield KeyposeExecutor(arm, SafetyEnvelope())
    arm.close()
    server.kill()


def goal(x: float, y: float, z: float, yaw: float = 0.0) -> KeyposeGoal:
    return KeyposeGoal(Keypose(np.array([x, y, z]), quat_multiply(quat_from_yaw(yaw), POINTING_DOWN_WXYZ), 1.0))


def last_motion_s(states: list[ArmState], since_s: float) -> float:
    """When, after `since_s` on the arm's clock, its joints were last seen to move.

    From positions: the velocities that a simulated arm tells at rest are noise.
    """
    clocks, joints = np.array([s.clock_s for s in states]), np.array([s.joints for s in states])
    moved = [
        clocks[later]
        for earlier, later in zip(range(len(states) - 5), range(5, len(states)), strict=True)
        if np.abs(joints[later] - joints[earlier]).max() > AT_REST * max(clocks[later] - clocks[earlier], 0.02)
    ]
    return float(max(moved, default=since_s)) - since_s


@pytest.mark.parametrize("speed", STOP_S)
def test_a_halt_in_mid_motion_stops_the_arm_within_half_a_second(executor: KeyposeExecutor, speed: float) -> None:
    arm = executor.arm
    assert executor.execute(goal(0.4, -0.25, 0.35), 0.8).success
    running = threading.Thread(target=executor.execute, args=(goal(0.62, 0.28, 0.1), speed))
    start = arm.state()
    running.start()
    while np.abs(arm.state().joints - start.joints).max() < 0.15:
        time.sleep(0.002)
    before = arm.state()
    executor.halt()
    halted_s, states = before.clock_s, [before]
    while states[-1].clock_s < halted_s + WATCH_S:
        states.append(arm.state())
        time.sleep(0.005)
    running.join()
    print(f"at {speed:g} of full speed: {last_motion_s(states, halted_s):.3f} s")
    assert 0.0 < last_motion_s(states, halted_s) < STOP_S[speed]
    assert np.linalg.norm(states[-1].tool[:3, 3] - goal(0.62, 0.28, 0.1).keypose.position) > 0.05


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_keyposes_in_a_row_are_reached_within_two_millimetres_and_half_a_degree(
    executor: KeyposeExecutor,
) -> None:
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(KEYPOSES):
        place, yaw = rng.uniform([0.35, -0.3, 0.06], [0.65, 0.3, 0.4]), rng.uniform(-1.0, 1.0)
        outcome = executor.execute(goal(*place, yaw=yaw), 0.9)
        assert outcome.success, outcome.message
        errors.append((outcome.position_error, outcome.rotation_error_deg))
    metres, degrees = np.array(errors).max(axis=0)
    assert metres <= 0.002
    assert degrees <= 0.5
