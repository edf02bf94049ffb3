"""The arm node follows twists on a simulated arm: as it is told, inside its limits, and it stops."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from served_arm import Client, Served, finished, outcome
from spinning import eventually, parameters, ros_context, spinning
from std_msgs.msg import Bool
from std_srvs.srv import SetBool, Trigger

from minidiffuser_ros.action import Gripper
from minidiffuser_ros.arm.kinematics import JOINT_NAMES, FrankaKinematics
from minidiffuser_ros.arm.limits import SafetyLimits
from minidiffuser_ros.bridge.conversions import joint_positions, pose_from_message, stamp_to_ns
from minidiffuser_ros.contract.refusal import Reason
from minidiffuser_ros.geometry.rotation import POINTING_DOWN_WXYZ, quat_from_yaw, quat_multiply, rotation
from minidiffuser_ros.msg import ArmStatus
from minidiffuser_ros.nodes.arm import ArmNode

pytestmark = pytest.mark.ros

PERIOD_S = 0.025
LIMITS = SafetyLimits()


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    served = Served(3)
    yield served
    served.kill()


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[Client]:
    with ros_context() as context:
        overrides = parameters(address=served.address, speed=0.5, state_rate=100.0)
        node, asking = ArmNode(context=context, parameter_overrides=overrides), Client(context)
        with spinning(context, node, asking):
            asking.becomes(ArmStatus.IDLE)
            eventually(lambda: asking.poses and asking.targets)
            yield asking


def place(client: Client) -> tuple[np.ndarray, np.ndarray]:
    return pose_from_message(client.poses[-1].pose)


def push(client: Client, twist: object, seconds: float, frame: str = "") -> np.ndarray:
    """Hold a twist; the places [N, 3] of the tool meanwhile."""
    deadline, first = time.monotonic() + seconds, len(client.poses)
    while time.monotonic() < deadline:
        client.push(twist, frame)
        time.sleep(PERIOD_S)
    return np.array([pose_from_message(message.pose)[0] for message in client.poses[first:]])


def comes_to_rest(client: Client) -> None:
    client.becomes(ArmStatus.IDLE)


def test_the_tool_moves_at_the_commanded_speed_in_the_commanded_direction(client: Client) -> None:
    wanted = np.array([0.06, 0.03, -0.04, 0.0, 0.0, 0.2])
    kinematics = FrankaKinematics()

    def measured() -> np.ndarray:
        # By the velocities that the arm reports: the simulation's own time is slower than the clock on a busy machine.
        first = len(client.states)
        push(client, wanted, 0.5)
        messages = client.states[first:]
        twists = [kinematics.jacobian(joint_positions(m, JOINT_NAMES)) @ np.array(m.velocity[:7]) for m in messages]
        return np.mean(twists, axis=0)

    began, twist = time.monotonic(), measured()
    while np.linalg.norm((change := measured()) - twist) > 0.02 and time.monotonic() - began < 5.0:
        twist = change
    # A machine that is late makes the simulated arm brake for a moment now and then: slower it may be, never faster.
    for part in (slice(0, 3), slice(3, 6)):
        speed, commanded = np.linalg.norm(change[part]), np.linalg.norm(wanted[part])
        assert 0.6 * commanded < speed < 1.1 * commanded
        assert change[part] @ wanted[part] > 0.95 * speed * commanded
    assert client.statuses[-1].state == ArmStatus.MOVING
    comes_to_rest(client)


def test_states_go_on_while_it_follows(client: Client) -> None:
    first, began = len(client.states), time.monotonic()
    push(client, [0.0, -0.03, 0.0, 0.0, 0.0, 0.0], 1.0)
    assert (len(client.states) - first) / (time.monotonic() - began) > 10.0  # a hundred where nothing else runs
    comes_to_rest(client)


def test_letting_go_of_the_deadman_stops_the_tool_within_a_short_way(client: Client) -> None:
    push(client, [0.0, -0.1, 0.0, 0.0, 0.0, 0.0], 0.8)
    began, released = time.monotonic(), place(client)[0]
    client.enable.publish(Bool(data=False))
    idle = client.becomes(ArmStatus.IDLE)
    assert time.monotonic() - began < 1.5
    assert "`enable` was not true" in idle.message
    time.sleep(0.1)
    resting = place(client)[0]
    assert np.linalg.norm(resting - released) < 0.03
    time.sleep(0.3)
    np.testing.assert_allclose(place(client)[0], resting, atol=5e-4)


def test_twists_in_tool_axes_go_along_the_tool(client: Client) -> None:
    before = place(client)[0]
    push(client, [0.0, 0.0, 0.08, 0.0, 0.0, 0.0], 0.6, "fr3_hand_tcp")
    comes_to_rest(client)
    moved = place(client)[0] - before
    assert moved[2] < -0.004  # the hand points down; how far depends on how busy the machine is
    assert np.linalg.norm(moved[:2]) < 0.15 * abs(moved[2])


def test_a_controller_brings_the_tool_to_a_keypose(client: Client) -> None:
    position = np.array([0.45, -0.1, 0.12])
    quat = quat_multiply(quat_from_yaw(0.5), POINTING_DOWN_WXYZ)
    deadline = time.monotonic() + 20.0
    while True:
        now, quat_now = place(client)
        turn = (rotation(quat) * rotation(quat_now).inv()).as_rotvec()
        if np.linalg.norm(position - now) < 0.002 and np.linalg.norm(turn) < np.deg2rad(1.0):
            break
        assert time.monotonic() < deadline, f"{position - now} m and {turn} rad are left"
        client.push(2.0 * np.concatenate([position - now, turn]))
        time.sleep(PERIOD_S)
    comes_to_rest(client)
    now, quat_now = place(client)
    assert np.linalg.norm(now - position) < 0.003
    assert np.rad2deg((rotation(quat) * rotation(quat_now).inv()).magnitude()) < 1.5


def test_the_table_and_a_wall_hold_against_a_push_of_three_seconds(client: Client) -> None:
    down, aside = [0.0, 0.0, -1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.2, 0.0, 0.0, 0.0]
    low, wall = LIMITS.table_clearance, LIMITS.workspace_min[1]
    eventually(lambda: push(client, down, 0.2)[-1, 2] < low + 0.02)
    places = push(client, down, 3.0)
    assert low - 1e-3 < places[:, 2].min() < low + 0.01
    assert "held back by the table" in client.statuses[-1].message
    eventually(lambda: push(client, aside, 0.2)[-1, 1] < wall + 0.03, 15.0)
    places = push(client, aside, 3.0)
    assert wall - 2e-3 < places[:, 1].min() < wall + 0.01
    assert places[-1, 2] > places[0, 2] + 0.01  # it slid upwards meanwhile
    comes_to_rest(client)


@pytest.mark.parametrize(("value", "frame", "words"), [(float("nan"), "", "not finite"), (0.1, "map", "frame 'map'")])
def test_a_twist_that_makes_no_sense_moves_nothing_and_is_refused_with_its_reason(
    client: Client, value: float, frame: str, words: str
) -> None:
    before = place(client)[0]
    push(client, [0.0, 0.0, value, 0.0, 0.0, 0.0], 0.3, frame)
    eventually(lambda: words in client.statuses[-1].message)
    assert client.statuses[-1].state == ArmStatus.IDLE
    np.testing.assert_allclose(place(client)[0], before, atol=5e-4)


def test_while_it_follows_goals_are_refused_and_the_gripper_obeys(client: Client) -> None:
    up = [0.0, 0.02, 0.03, 0.0, 0.0, 0.0]
    push(client, up, 0.3)
    timer = client.create_timer(PERIOD_S, lambda: client.push(up))
    status, result = outcome(client.send(0.5, 0.0, 0.3))
    assert status == GoalStatus.STATUS_ABORTED
    assert "follows twist_command" in result.message
    handle = finished(client.gripper.send_goal_async(Gripper.Goal(opening=0.0)))
    eventually(lambda: client.targets[-1].position[0] == 0.0)
    status, gripped = outcome(handle)
    assert status == GoalStatus.STATUS_SUCCEEDED, gripped.message
    assert gripped.width < 0.004
    assert min(message.velocity[7] for message in client.states[-500:]) < -0.005  # the fingers' own speed
    assert client.statuses[-1].state == ArmStatus.MOVING
    client.destroy_timer(timer)
    comes_to_rest(client)
    assert list(client.targets[-1].name) == ["fr3_gripper"]
    eventually(
        lambda: stamp_to_ns(client.targets[-1].header.stamp) in {stamp_to_ns(m.header.stamp) for m in client.states}
    )


def test_a_stop_ends_it_and_blocks_until_recovered(client: Client) -> None:
    up = [0.0, 0.0, 0.05, 0.0, 0.0, 0.0]
    push(client, up, 0.4)
    timer = client.create_timer(PERIOD_S, lambda: client.push(up))
    assert client.call(Trigger, "stop").success
    time.sleep(0.2)
    stopped = place(client)[0]
    time.sleep(0.4)
    np.testing.assert_allclose(place(client)[0], stopped, atol=5e-4)
    assert client.statuses[-1].state == ArmStatus.STOPPED
    assert client.call(Trigger, "recover").success
    client.becomes(ArmStatus.MOVING)
    client.destroy_timer(timer)
    comes_to_rest(client)


def test_led_by_hand_the_arm_publishes_on_and_a_stop_ends_it(client: Client) -> None:
    refused = client.call(SetBool, "guide", SetBool.Request(data=True))
    assert not refused.success
    assert "`enable`" in refused.message
    timer = client.create_timer(0.05, lambda: client.enable.publish(Bool(data=True)))
    time.sleep(0.2)
    assert client.call(SetBool, "guide", SetBool.Request(data=True)).success
    assert "led by hand" in client.becomes(ArmStatus.MOVING).message
    count = len(client.states)
    eventually(lambda: len(client.states) > count + 20)
    assert client.call(Trigger, "stop").success
    client.becomes(ArmStatus.STOPPED)
    client.destroy_timer(timer)
    assert client.call(Trigger, "recover").success


def test_an_arm_that_is_lost_while_it_follows_is_told_and_can_be_recovered(client: Client, served: Served) -> None:
    """Runs last: it kills the arm."""
    up = [0.0, 0.0, 0.05, 0.0, 0.0, 0.0]
    push(client, up, 0.4)
    timer = client.create_timer(PERIOD_S, lambda: client.push(up))
    client.becomes(ArmStatus.MOVING)
    served.kill()
    began = time.monotonic()
    # A late machine hears of it from the watchdog over readings before franky gives up; both are the truth.
    said = client.becomes(ArmStatus.ERROR)
    assert "stopped answering" in said.message or list(said.codes) == [Reason.STATE_STALE]
    assert time.monotonic() - began < 15.0
    served.start()
    eventually(lambda: client.call(Trigger, "recover").success, 60.0)
    client.becomes(ArmStatus.MOVING)
    client.destroy_timer(timer)
    comes_to_rest(client)
