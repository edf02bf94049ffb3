"""Every reason for which a goal is refused, and that what is allowed passes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from minidiffuser_ros.arm.envelope import SafetyEnvelope
from minidiffuser_ros.arm.envelope_place import place_problems
from minidiffuser_ros.arm.goal import KeyposeGoal, Way
from minidiffuser_ros.arm.kinematics import HOME_JOINTS, FrankaKinematics
from minidiffuser_ros.arm.limits import SafetyLimits
from minidiffuser_ros.arm.protocol import ArmMode, ArmState
from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.contract.refusal import Reason, codes_of
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


def tilted(x: float, y: float, z: float, *rpy_deg: float) -> KeyposeGoal:
    """A tool that points down, turned about its own axes."""
    quat = quat_multiply(POINTING_DOWN_WXYZ, quat_from_euler_deg(list(rpy_deg)))
    return KeyposeGoal(Keypose(np.array([x, y, z]), quat, 1.0))


def test_goals_over_the_middle_of_the_table_are_accepted(envelope: SafetyEnvelope) -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        x, y, z = rng.uniform([0.38, -0.24, 0.02], [0.62, 0.24, 0.35])
        assert envelope.check(goal(x, y, z, rng.uniform(-0.6, 0.6)), state_at(), NOW_NS) == []


@pytest.mark.parametrize(
    ("refused", "code", "words"),
    [
        (goal(3.0, 0.0, 0.3), Reason.OUTSIDE_WORKSPACE, "the goal lies outside the workspace: x = 3.000"),
        (goal(0.5, -0.6, 0.3), Reason.OUTSIDE_WORKSPACE, "y = -0.600"),
        (goal(0.5, 0.0, 0.004), Reason.BELOW_TABLE, "4 mm above the table"),
        (goal(1.3, 0.0, 0.3), Reason.TOO_FAR, "m away, a single motion may go"),
        (goal(0.5, 0.0, 0.2, np.deg2rad(179.0)), Reason.TOO_LARGE_TURN, "turns the tool by 179 degrees"),
        (goal(0.5, 0.0, 0.2, stamp_ns=NOW_NS - 70 * 10**9), Reason.STALE, "70.0 s old"),
        (goal(0.5, 0.0, 0.2, stamp_ns=NOW_NS + 5 * 10**9), Reason.FROM_THE_FUTURE, "in the future"),
        (goal(0.5, 0.0, 0.2, frame="map"), Reason.UNKNOWN_FRAME, "frame 'map', expected 'fr3_link0'"),
        (goal(0.74, 0.38, 0.48), Reason.UNREACHABLE, "cannot reach (0.740, 0.380, 0.480), the goal"),
        (goal(450.0, 0.0, 200.0), Reason.WRONG_UNIT, "looks like millimetres"),
        (goal(0.5, 0.0, 0.2, approach_m=-0.1), Reason.BAD_OFFSET, "approach must lie in [0, 0.5] m, got -0.1"),
        (goal(0.5, 0.0, 0.35, approach_m=0.2), Reason.OUTSIDE_WORKSPACE, "the start of the approach lies outside"),
        (goal(0.5, 0.0, 0.35, retreat_m=0.2), Reason.OUTSIDE_WORKSPACE, "the end of the retreat lies outside"),
        (goal(0.72, 0.3, 0.25, approach_m=0.2), Reason.UNREACHABLE, "the start of the approach, with that"),
        (tilted(0.5, 0.0, 0.05, 0.0, -100.0, 0.0), Reason.HAND_INTO_TABLE, "its body would touch the table"),
        (tilted(0.67, 0.23, 0.07, 5.0, 55.0, -10.0), Reason.SINGULAR, "passes a singular posture at"),
        (tilted(0.56, 0.04, 0.2, 30.0, 85.0, -10.0), Reason.ELBOW_FLIP, "would swing the elbow by 96 degrees"),
    ],
)
def test_a_goal_is_refused_with_its_reason(
    envelope: SafetyEnvelope, refused: KeyposeGoal, code: Reason, words: str
) -> None:
    reasons = envelope.check(refused, state_at(), NOW_NS)
    assert words in "; ".join(reasons)
    assert code in codes_of(reasons)
    assert len(codes_of(reasons)) == len(reasons) or code is Reason.OUTSIDE_WORKSPACE


@pytest.mark.parametrize("rpy_deg", [(5.0, 55.0, -10.0), (30.0, 85.0, -10.0)])
def test_where_only_the_line_is_refused_a_planned_way_is_left(
    envelope: SafetyEnvelope, rpy_deg: tuple[float, float, float]
) -> None:
    place = (0.67, 0.23, 0.07) if rpy_deg[0] == 5.0 else (0.56, 0.04, 0.2)
    asked = tilted(*place, *rpy_deg)
    assert envelope.check_goal(asked, state_at(), NOW_NS) == []
    assert len(envelope.check_way(asked, state_at())) == 1
    planned = dataclasses.replace(asked, way=Way.PLANNED)
    assert envelope.check(planned, state_at(), NOW_NS) == []
    assert envelope.check(dataclasses.replace(asked, way=Way.LINE), state_at(), NOW_NS) != []


def test_a_goal_with_approach_and_retreat_is_followed_all_the_way(envelope: SafetyEnvelope) -> None:
    asked = goal(0.5, 0.1, 0.05, approach_m=0.12, retreat_m=0.2)
    assert envelope.check(asked, state_at(), NOW_NS) == []
    heights = [tool[2, 3] for tool in asked.stations().values()]
    np.testing.assert_allclose(heights, [0.17, 0.05, 0.25], atol=1e-12)


def test_the_observation_must_be_newer_than_the_last_motion(envelope: SafetyEnvelope) -> None:
    asked = goal(0.5, 0.0, 0.2, stamp_ns=NOW_NS - 10**9)
    assert envelope.check(asked, state_at(), NOW_NS, settled_ns=NOW_NS - 2 * 10**9) == []
    reasons = envelope.check(asked, state_at(), NOW_NS, settled_ns=NOW_NS - 10**8)
    assert codes_of(reasons) == [Reason.BEFORE_LAST_MOTION]
    assert "0.90 s before the arm had come to rest" in reasons[0]


def test_an_undated_goal_is_refused_where_that_is_asked_for() -> None:
    strict = SafetyEnvelope(SafetyLimits(allow_undated=False))
    assert codes_of(strict.check(goal(0.5, 0.0, 0.2), state_at(), NOW_NS)) == [Reason.UNDATED]
    assert strict.check(goal(0.5, 0.0, 0.2, stamp_ns=NOW_NS), state_at(), NOW_NS) == []


def test_an_arm_that_reports_nonsense_is_asked_nothing(envelope: SafetyEnvelope) -> None:
    lost = dataclasses.replace(state_at(), joints=np.full(7, np.nan))
    assert codes_of(envelope.check(goal(0.5, 0.0, 0.2), lost, NOW_NS)) == [Reason.NOT_FINITE]


def test_a_line_that_turns_the_hand_into_the_table_is_refused(envelope: SafetyEnvelope) -> None:
    low = tilted(0.6, 0.0, 0.05, 0.0, 90.0, 0.0)
    start = KINEMATICS.inverse(low.stations()["the goal"], HOME_JOINTS)
    assert start is not None
    rolled = low.stations()["the goal"].copy()
    rolled[:3, :3] = rolled[:3, :3] @ Rotation.from_euler("z", 170.0, degrees=True).as_matrix()
    assert place_problems(rolled, envelope.limits) == []
    assert codes_of(envelope.check_line(state_at(start), rolled)) == [Reason.HAND_INTO_TABLE]


def test_a_hand_that_stands_too_low_may_rise_but_not_sink(envelope: SafetyEnvelope) -> None:
    start = KINEMATICS.inverse(tilted(0.55, 0.0, 0.028, 0.0, 90.0, 0.0).stations()["the goal"], HOME_JOINTS)
    assert start is not None
    for height, codes in ((0.1, []), (-0.015, [Reason.HAND_INTO_TABLE])):
        moved = KINEMATICS.forward(start)
        moved[2, 3] += height
        assert codes_of(envelope.check_line(state_at(start), moved)) == codes


def test_the_older_arm_is_checked_against_its_own_joints() -> None:
    older = SafetyEnvelope(SafetyLimits(model="fer"))
    bent = np.array(HOME_JOINTS)
    bent[5] = 4.0
    assert older.check_joint_path(np.array(HOME_JOINTS), np.array(HOME_JOINTS)) == []
    assert codes_of(older.check_joint_path(np.array(HOME_JOINTS), bent)) == [Reason.JOINT_LIMIT]
    assert codes_of(older.check(goal(0.5, 0.0, 0.2, frame="map"), state_at(), NOW_NS)) == [Reason.UNKNOWN_FRAME]
    for frame in ("panda_link0", "fr3_link0", ""):
        assert older.check(goal(0.5, 0.0, 0.2, frame=frame), state_at(), NOW_NS) == []


def test_every_reason_is_given_at_once(envelope: SafetyEnvelope) -> None:
    reasons = envelope.check(goal(1.5, 0.0, -0.1, stamp_ns=1), state_at(), NOW_NS)
    assert len(reasons) == 4, reasons


def test_a_fresh_stamp_and_no_stamp_are_accepted(envelope: SafetyEnvelope) -> None:
    for stamp_ns in (0, NOW_NS - 10**9):
        assert envelope.check(goal(0.5, 0.0, 0.2, stamp_ns=stamp_ns), state_at(), NOW_NS) == []


@pytest.mark.parametrize(
    ("mode", "code"),
    [
        (ArmMode.ERROR, Reason.REFLEX),
        (ArmMode.STOPPED, Reason.USER_STOPPED),
        (ArmMode.MOVING, Reason.MOVING),
        (ArmMode.GUIDED, Reason.GUIDED),
    ],
)
def test_nothing_is_accepted_while_the_arm_is_not_idle(envelope: SafetyEnvelope, mode: ArmMode, code: Reason) -> None:
    reasons = envelope.check(goal(0.5, 0.0, 0.2), state_at(mode=mode), NOW_NS)
    assert codes_of(reasons) == [code]
    assert mode.value in reasons[0]


def test_a_line_through_the_base_is_refused_although_its_ends_are_within_reach() -> None:
    wide = SafetyEnvelope(
        SafetyLimits(
            workspace_min=(-0.8, -0.8, 0.0), workspace_max=(0.8, 0.8, 0.9), max_step_m=2.0, max_elbow_turn_rad=3.14
        )
    )
    behind = goal(-0.45, 0.1, 0.3, np.pi - 0.2)
    reasons = wide.check(behind, state_at(), NOW_NS)
    assert codes_of(reasons) == [Reason.NO_LINE]
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
    (reason,) = envelope.check_joint_path(low, below)
    assert "down to the table" in reason
    assert reason.code is Reason.BELOW_TABLE
    assert envelope.check_joint_path(far, np.array(HOME_JOINTS), low, below) == [reason]
    assert codes_of(envelope.check_joint_path(far, np.full(7, np.nan))) == [Reason.NOT_FINITE]


@pytest.mark.parametrize("speed", [0.0, -0.1, 1.2, float("nan")])
def test_speeds_outside_the_range_are_refused(envelope: SafetyEnvelope, speed: float) -> None:
    (reason,) = envelope.check_speed(speed)
    assert "speed must lie in (0, 1]" in reason
    assert reason.code is Reason.BAD_SPEED


def test_limits_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="workspace_min"):
        SafetyLimits(workspace_min=(0.5, 0.0, 0.0), workspace_max=(0.4, 1.0, 1.0))
    with pytest.raises(ConfigurationError, match="max_speed"):
        SafetyLimits(max_speed=1.5)
    with pytest.raises(ConfigurationError, match=r"joint_margin must lie in \[0.01, 0.5\], got nan"):
        SafetyLimits(joint_margin=float("nan"))
    with pytest.raises(ConfigurationError, match="no arm model 'ur5'"):
        SafetyLimits(model="ur5")


def test_what_is_no_pose_is_refused_before_it_is_a_goal() -> None:
    with pytest.raises(ConfigurationError, match="finite"):
        Keypose(np.array([0.5, np.nan, 0.2]), np.array(POINTING_DOWN_WXYZ), 1.0)
