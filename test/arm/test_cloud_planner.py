"""The planner among clouds: what is seen is avoided where asked for and while fresh; what is held is no obstacle."""

from __future__ import annotations

import numpy as np
import pytest

from minidiffuser_ros.arm.cloud_planner import CloudPlanner, CloudSettings
from minidiffuser_ros.arm.envelope import SafetyEnvelope
from minidiffuser_ros.arm.goal import KeyposeGoal, Way
from minidiffuser_ros.arm.kinematics import HOME_JOINTS, FrankaKinematics
from minidiffuser_ros.arm.model import FR3
from minidiffuser_ros.arm.outcome import codes_of_error
from minidiffuser_ros.arm.preview import preview
from minidiffuser_ros.arm.protocol import ArmMode, ArmState
from minidiffuser_ros.arm.route import LINE, PLANNED, RouteChoice
from minidiffuser_ros.contract.errors import ConfigurationError, GoalRejectedError, MotionError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.geometry.rotation import POINTING_DOWN_WXYZ
from minidiffuser_ros.geometry.transform import transform_from

SPEED = 0.5
WALL = np.stack(np.meshgrid(np.arange(0.35, 0.7, 0.012), [0.0], np.arange(0.0, 0.3, 0.012)), axis=-1)
WALL = WALL.reshape(-1, 3).astype(np.float32)
ARM = FrankaKinematics()


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def shared(clock: Clock) -> CloudPlanner:
    return CloudPlanner(clock_s=clock)


@pytest.fixture
def planner(shared: CloudPlanner) -> CloudPlanner:
    shared._cloud = None
    return shared


def at(y: float, z: float = 0.12) -> np.ndarray:
    return transform_from([0.5, y, z], POINTING_DOWN_WXYZ)


def state_at(tool: np.ndarray, width: float = 0.08) -> ArmState:
    joints = ARM.inverse(tool, HOME_JOINTS)
    assert joints is not None
    return ArmState(joints, tool, width, ArmMode.IDLE)


HERE = state_at(at(-0.25))


def goal(y: float, way: Way, **offsets: float) -> KeyposeGoal:
    return KeyposeGoal(Keypose(np.array([0.5, y, 0.12]), np.array(POINTING_DOWN_WXYZ), 1.0), way=way, **offsets)


def refusal_of(call: object, *args: object, **kwargs: object) -> str:
    with pytest.raises(MotionError) as refused:
        call(*args, **kwargs)  # type: ignore[operator]
    return codes_of_error(refused.value)[0]


def heights_over_the_wall(joints: np.ndarray) -> np.ndarray:
    tools = np.array([ARM.forward(q)[:3, 3] for q in joints])
    return tools[np.abs(tools[:, 1]) < 0.02, 2]


def test_ways_lead_over_what_is_seen_and_lines_through_it_are_refused(planner: CloudPlanner) -> None:
    planner.show(WALL)
    way = planner.around(HERE, at(0.25), SPEED, seen=True)
    np.testing.assert_allclose(ARM.forward(way.joints[-1]), at(0.25), atol=2e-3)
    np.testing.assert_allclose(way.joints[0], HERE.joints, atol=1e-6)
    assert heights_over_the_wall(way.joints).min() > 0.3
    assert refusal_of(planner.line, HERE, at(0.25), SPEED, seen=True) == "in_collision"


def test_what_is_seen_does_not_count_unless_it_is_asked_for(planner: CloudPlanner) -> None:
    planner.show(WALL)
    line = planner.line(HERE, at(0.25), SPEED, seen=False)
    assert np.ptp([ARM.forward(q)[2, 3] for q in line.joints]) < 2e-3
    way = planner.around(HERE, at(0.25), SPEED, seen=False)
    assert heights_over_the_wall(way.joints).min() < 0.3


def test_without_a_fresh_cloud_nothing_is_planned_around_it(planner: CloudPlanner, clock: Clock) -> None:
    assert refusal_of(planner.around, HERE, at(0.25), SPEED, seen=True) == "stale"
    planner.show(WALL, age_s=CloudSettings().max_age_s + 1.0)
    assert refusal_of(planner.around, HERE, at(0.25), SPEED, seen=True) == "stale"
    planner.show(WALL)
    planner.around(HERE, at(0.25), SPEED, seen=True)
    clock.now += CloudSettings().max_age_s + 1.0
    assert refusal_of(planner.around, HERE, at(0.25), SPEED, seen=True) == "stale"


def test_what_is_held_or_about_to_be_touched_is_in_nobodys_way(planner: CloudPlanner) -> None:
    rng = np.random.default_rng(0)
    held = (at(-0.25)[:3, 3] + rng.uniform(-0.02, 0.02, (400, 3))).astype(np.float32)
    target = (at(0.25)[:3, 3] + rng.uniform(-0.02, 0.02, (400, 3))).astype(np.float32)
    planner.show(np.concatenate([held, target]))
    way = planner.around(state_at(at(-0.25), 0.04), at(0.25), SPEED, seen=True, held_m=0.04)
    np.testing.assert_allclose(ARM.forward(way.joints[-1]), at(0.25), atol=2e-3)


def test_ways_keep_the_speed_limits_and_rest_at_both_ends(planner: CloudPlanner) -> None:
    way = planner.around(HERE, at(0.25), SPEED, seen=False)
    assert (np.abs(way.velocities) <= SPEED * np.array(FR3.velocity) + 1e-3).all()
    np.testing.assert_allclose(way.velocities[[0, -1]], 0.0, atol=1e-6)
    assert (np.diff(way.times_s) > 0).all()


def test_lines_heed_the_cloud_only_where_it_is_to_be_avoided(planner: CloudPlanner) -> None:
    planner.show(WALL)
    envelope = SafetyEnvelope()
    careless, careful = RouteChoice(envelope, planner), RouteChoice(envelope, planner, avoid_cloud=True)
    assert careless.choose(goal(0.25, Way.AUTO), HERE, SPEED).way == LINE
    assert careful.choose(goal(0.25, Way.AUTO), HERE, SPEED).way == PLANNED
    assert careful.choose(goal(-0.35, Way.AUTO), HERE, SPEED).way == LINE
    with pytest.raises(GoalRejectedError) as refused:
        careful.choose(goal(0.25, Way.LINE), HERE, SPEED)
    assert codes_of_error(refused.value) == ("in_collision",)


def test_a_preview_is_one_motion_after_the_other_without_gaps(planner: CloudPlanner) -> None:
    route = RouteChoice(SafetyEnvelope(), planner).choose(
        goal(0.25, Way.AUTO, approach_m=0.06, retreat_m=0.04), HERE, SPEED
    )
    seen = preview(route, HERE, planner, SPEED, slow=0.5)
    assert (np.diff(seen.times_s) > 0).all()
    assert np.abs(np.diff(seen.joints, axis=0)).max() < 0.25
    np.testing.assert_allclose(seen.joints[0], HERE.joints, atol=1e-6)
    np.testing.assert_allclose(ARM.forward(seen.joints[-1])[:3, 3], [0.5, 0.25, 0.16], atol=2e-3)
    assert seen.duration_s == seen.times_s[-1]
    hurried = preview(route, HERE, planner, SPEED, slow=1.0)
    assert hurried.duration_s < seen.duration_s


@pytest.mark.parametrize(("name", "value"), [("max_age_s", 0.0), ("voxel_m", float("nan")), ("contact_m", 1.0)])
def test_settings_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=name):
        CloudSettings(**{name: value})
