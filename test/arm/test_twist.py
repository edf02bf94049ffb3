"""What of a twist may be followed: never out of the limits, and everything that does not lead there."""

from __future__ import annotations

import numpy as np
import pytest

from minidiffuser_ros.arm.envelope_place import HAND_CORNERS
from minidiffuser_ros.arm.kinematics import HOME_JOINTS, TCP_OFFSET, FrankaKinematics
from minidiffuser_ros.arm.limits import SafetyLimits
from minidiffuser_ros.arm.protocol import ArmMode, ArmState
from minidiffuser_ros.arm.twist import DAMPING, ServoSettings, TwistCommand, TwistLimiter
from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.geometry.rotation import POINTING_DOWN_WXYZ, quat_from_euler_deg, quat_multiply
from minidiffuser_ros.geometry.transform import apply, transform_from

KINEMATICS = FrankaKinematics()
LIMITS, SETTINGS = SafetyLimits(), ServoSettings()
LOW, HIGH = np.array(LIMITS.workspace_min), np.array(LIMITS.workspace_max)


def at(x: float, y: float, z: float, tilt_deg: float = 0.0) -> ArmState:
    """The arm with its tool at a place, pointing down or tilted about x."""
    quat = quat_multiply(quat_from_euler_deg([tilt_deg, 0.0, 0.0]), POINTING_DOWN_WXYZ)
    joints = KINEMATICS.inverse(transform_from([x, y, z], quat), HOME_JOINTS)
    assert joints is not None
    return ArmState(joints, KINEMATICS.forward(joints), 0.08, ArmMode.MOVING)


def stepped(state: ArmState, twist: np.ndarray, seconds: float) -> ArmState:
    """The arm a moment later, if it follows exactly."""
    jacobian = KINEMATICS.jacobian(state.joints)
    speeds = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + DAMPING * np.eye(6), twist)
    joints = state.joints + seconds * speeds
    return ArmState(joints, KINEMATICS.forward(joints), 0.08, ArmMode.MOVING, speeds)


def lowest_of_hand(tool: np.ndarray) -> float:
    hand = tool.copy()
    hand[:3, 3] -= tool[:3, :3] @ (0.0, 0.0, TCP_OFFSET)
    return float(apply(hand, HAND_CORNERS)[:, 2].min())


@pytest.mark.parametrize("length", [0.5, 1.0, 3.0, 100.0])
def test_too_long_a_twist_is_shortened_and_keeps_its_direction(length: float) -> None:
    wanted = length * np.array([0.1, -0.05, 0.02, 0.2, 0.1, -0.3])
    twist = TwistLimiter().limit(wanted, at(0.45, 0.0, 0.25)).twist
    np.testing.assert_allclose(twist / np.linalg.norm(twist), wanted / np.linalg.norm(wanted), atol=1e-9)
    assert np.linalg.norm(twist[:3]) <= SETTINGS.max_linear + 1e-9
    assert np.linalg.norm(twist[3:]) <= SETTINGS.max_angular + 1e-9
    if length < 1.0:
        np.testing.assert_allclose(twist, wanted)


@pytest.mark.parametrize("seed", range(8))
def test_no_push_of_six_seconds_leads_out_of_the_limits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    limiter, joint_limits = TwistLimiter(), FrankaKinematics(margin=LIMITS.joint_margin).limits
    wanted = rng.normal(0.0, 1.0, 6) * [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]
    state = at(0.5, 0.0, 0.2)
    for _ in range(300):
        state = stepped(state, limiter.limit(wanted, state).twist, 0.02)
        position = state.tool[:3, 3]
        assert (position > LOW - 5e-4).all()
        assert (position < HIGH + 5e-4).all()
        assert position[2] > LIMITS.table_clearance - 5e-4
        assert lowest_of_hand(state.tool) > -1e-3
        assert (state.joints > joint_limits[0] - 5e-3).all()
        assert (state.joints < joint_limits[1] + 5e-3).all()
        assert np.linalg.svd(KINEMATICS.jacobian(state.joints), compute_uv=False)[-1] > 0.02


def test_at_a_wall_the_tool_slides_along_it() -> None:
    limited = TwistLimiter().limit([0.05, 0.1, 0.03, 0.0, 0.0, 0.0], at(0.5, 0.4, 0.2))
    np.testing.assert_allclose(limited.twist, [0.05, 0.0, 0.03, 0.0, 0.0, 0.0], atol=1e-4)
    assert limited.held_by == ("the workspace's wall at y = 0.4 m",)


def test_on_the_table_the_tool_slides_over_it() -> None:
    limited = TwistLimiter().limit([0.05, 0.0, -0.1, 0.0, 0.0, 0.0], at(0.5, 0.0, LIMITS.table_clearance))
    np.testing.assert_allclose(limited.twist, [0.05, 0.0, 0.0, 0.0, 0.0, 0.0], atol=1e-4)
    assert limited.held_by == ("the table",)


def test_from_outside_the_workspace_the_way_back_is_free_and_the_way_out_is_not() -> None:
    outside = at(0.5, 0.42, 0.2)
    np.testing.assert_allclose(TwistLimiter().limit([0, -0.1, 0, 0, 0, 0], outside).twist, [0, -0.1, 0, 0, 0, 0])
    np.testing.assert_allclose(TwistLimiter().limit([0, 0.1, 0, 0, 0, 0], outside).twist, 0.0, atol=1e-12)


def test_a_low_hand_is_not_tilted_into_the_table_but_may_turn_about_the_vertical() -> None:
    # As far as the hand can tilt here before a corner of it touches.
    low = next(
        s for s in (at(0.5, 0.0, 0.02, tilt) for tilt in np.arange(80.0, 0.0, -1.0)) if lowest_of_hand(s.tool) > 0
    )
    limiter, state = TwistLimiter(), low
    for _ in range(100):
        limited = limiter.limit([0.0, 0.0, 0.0, 0.4, 0.0, 0.2], state)
        state = stepped(state, limited.twist, 0.02)
        assert lowest_of_hand(state.tool) > -1e-3
    assert "the hand above the table" in limited.held_by
    assert limited.twist[5] == pytest.approx(0.2, abs=1e-6)


def test_what_cannot_be_followed_says_why() -> None:
    problems = lambda **about: TwistCommand(**({"twist": np.ones(6)} | about)).problems(0.15)  # noqa: E731
    assert problems() == [] == problems(frame="") == problems(frame="fr3_hand_tcp")
    assert "not finite" in problems(twist=np.array([0.0, np.nan, 0.0, 0.0, 0.0, 0.0]))[0]
    assert "not finite" in problems(twist=np.array([0.0, np.inf, 0.0, 0.0, 0.0, 0.0]))[0]
    assert "frame 'camera'" in problems(frame="camera")[0]
    assert "old" in problems(age_s=0.2)[0]
    assert "clocks" in problems(age_s=-5.0)[0]


def test_a_twist_in_tool_axes_is_turned_into_the_base() -> None:
    tool = transform_from([0.5, 0.0, 0.2], POINTING_DOWN_WXYZ)
    command = TwistCommand(np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), "fr3_hand_tcp")
    np.testing.assert_allclose(command.in_base(tool), [0.1, -0.2, -0.3, 0.4, -0.5, -0.6], atol=1e-12)


@pytest.mark.parametrize("wrong", [{"max_linear": 0.3}, {"max_angular": 1.2}, {"twist_timeout_s": 0.0}])
def test_settings_that_are_not_safe_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        ServoSettings(**wrong)
