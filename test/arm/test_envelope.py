"""Every reason for which a goal is refused, and that what is allowed passes."""

from __future__ import annotations

import numpy as np
import pytest

from minidiffuser_ros.arm.envelope import SafetyEnvelope
from minidiffuser_ros.arm.goal import KeyposeGoal
from minidiffuser_ros.arm.kinematics import HOME_JOINTS, FrankaKinematics
from minidiffuser_ros.arm.limits import SafetyLimits
from minidiffuser_ros.arm.protocol import ArmMode, ArmState
from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.geometry.rotation import POINTING_DOWN_WXYZ, quat_from_euler_deg, quat_from_yaw, quat_multiply
from minidiffuser_ros.geometry.transform import transform_from

NOW_NS = 1_000_000_000_000
KINEMATICS = FrankaKinematics()


@pytest.fixture(scope="module")
def envelope() -> SafetyEnvelope:
    return SafetyEnvelope()


def state_at(joints: tuple[float, ...] | np.ndarray = HOME_JOINTS, mode: ArmMode = ArmMode.IDLE) -> ArmState:
    return ArmState(np.array(joints), KINEMATICS.forward(joints), 0.08, mode)


def goal(x: float, y: float, z: float, yaw: float = 0.0, **origin: object) -> KeyposeGoal:
    quat = quat_multiply(quat_from_yaw(yaw), POINTING_DOWN_WXYZ)
    return KeyposeGoal(Keypose(np.array([x, y, z]), quat, 1.0), **origin)  # type: ignore[arg-type]


def test_goals_over_the_middle_of_the_table_are_accepted(envelope: SafetyEnvelope) -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        x, y, z = rng.uniform([0.38, -0.24, 0.02], [0.62, 0.24, 0.35])
        assert envelope.check(goal(x, y, z, rng.uniform(-0.6, 0.6)), state_at(), NOW_NS) == []


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        (goal(3.0, 0.0, 0.3), "outside the workspace: x = 3.000"),
        (goal(0.5, -0.6, 0.3), "y = -0.600"),
        (goal(0.5, 0.0, 0.004), "4 mm above the table"),
        (goal(1.3, 0.0, 0.3), "m away, a single motion may go"),
        (goal(0.5, 0.0, 0.2, np.deg2rad(179.0)), "turns the tool by 179 degrees"),
        (goal(0.5, 0.0, 0.2, stamp_ns=NOW_NS - 70 * 10**9), "70.0 s old"),
        (goal(0.5, 0.0, 0.2, stamp_ns=NOW_NS + 5 * 10**9), "in the future"),
        (goal(0.5, 0.0, 0.2, frame="map"), "frame 'map', expected 'fr3_link0'"),
        (goal(0.74, 0.38, 0.48), "cannot reach (0.740, 0.380, 0.480)"),
    ],
)
def test_a_goal_is_refused_with_its_reason(envelope: SafetyEnvelope, refused: KeyposeGoal, words: str) -> None:
    assert words in "; ".join(envelope.check(refused, state_at(), NOW_NS))


def test_every_reason_is_given_at_once(envelope: SafetyEnvelope) -> None:
    reasons = envelope.check(goal(1.5, 0.0, -0.1, stamp_ns=1), state_at(), NOW_NS)
    assert len(reasons) == 4, reasons


def test_a_fresh_stamp_and_no_stamp_are_accepted(envelope: SafetyEnvelope) -> None:
    for stamp_ns in (0, NOW_NS - 10**9):
        assert envelope.check(goal(0.5, 0.0, 0.2, stamp_ns=stamp_ns), state_at(), NOW_NS) == []


@pytest.mark.parametrize("mode", [ArmMode.ERROR, ArmMode.STOPPED, ArmMode.MOVING])
def test_nothing_is_accepted_while_the_arm_is_not_idle(envelope: SafetyEnvelope, mode: ArmMode) -> None:
    reasons = envelope.check(goal(0.5, 0.0, 0.2), state_at(mode=mode), NOW_NS)
    assert len(reasons) == 1
    assert mode.value in reasons[0]


def test_a_hand_tilted_into_the_table_is_refused(envelope: SafetyEnvelope) -> None:
    flat = Keypose(np.array([0.5, 0.0, 0.02]), quat_from_euler_deg([180.0, -85.0, 0.0]), 1.0)
    assert "its body would touch the table" in envelope.check(KeyposeGoal(flat), state_at(), NOW_NS)[0]


def test_a_line_through_the_base_is_refused_although_its_ends_are_within_reach() -> None:
    wide = SafetyEnvelope(SafetyLimits(workspace_min=(-0.8, -0.8, 0.0), workspace_max=(0.8, 0.8, 0.9), max_step_m=2.0))
    behind = goal(-0.45, 0.1, 0.3, np.pi - 0.2)
    reasons = wide.check(behind, state_at(), NOW_NS)
    assert len(reasons) == 1
    assert "straight line" in reasons[0]


def test_a_line_within_reach_is_accepted_from_any_posture(envelope: SafetyEnvelope) -> None:
    start = KINEMATICS.inverse(transform_from((0.6, 0.2, 0.05), POINTING_DOWN_WXYZ), HOME_JOINTS)
    assert start is not None
    assert envelope.check(goal(0.4, -0.2, 0.05), state_at(start), NOW_NS) == []


def test_a_way_home_that_dips_to_the_table_is_noticed(envelope: SafetyEnvelope) -> None:
    low = KINEMATICS.inverse(transform_from((0.5, 0.0, 0.012), POINTING_DOWN_WXYZ), HOME_JOINTS)
    far = KINEMATICS.inverse(transform_from((0.6, 0.1, 0.3), POINTING_DOWN_WXYZ), HOME_JOINTS)
    assert low is not None
    assert far is not None
    assert envelope.check_joint_path(far, np.array(HOME_JOINTS)) == []
    below = low.copy()
    below[1] += 0.1
    assert "down to the table" in envelope.check_joint_path(low, below)[0]


@pytest.mark.parametrize("speed", [0.0, -0.1, 1.2, float("nan")])
def test_speeds_outside_the_range_are_refused(envelope: SafetyEnvelope, speed: float) -> None:
    assert "speed must lie in (0, 1]" in envelope.check_speed(speed)[0]


def test_limits_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="workspace_min"):
        SafetyLimits(workspace_min=(0.5, 0.0, 0.0), workspace_max=(0.4, 1.0, 1.0))
    with pytest.raises(ConfigurationError, match="max_speed"):
        SafetyLimits(max_speed=1.5)


def test_what_is_no_pose_is_refused_before_it_is_a_goal() -> None:
    with pytest.raises(ConfigurationError, match="finite"):
        Keypose(np.array([0.5, np.nan, 0.2]), np.array(POINTING_DOWN_WXYZ), 1.0)
