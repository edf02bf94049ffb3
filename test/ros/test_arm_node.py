"""The arm as a real node on a simulated Franka: goals succeed, are refused, cancelled, stopped, or lose their arm."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from served_arm import Client, Served, finished, outcome
from spinning import eventually, parameters, ros_context, spinning
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from minidiffuser_ros.action import ExecuteKeypose, Gripper
from minidiffuser_ros.arm.kinematics import HOME_JOINTS
from minidiffuser_ros.arm.settings import ArmSettings, MotionSettings
from minidiffuser_ros.bridge.action_client import ActionClient
from minidiffuser_ros.bridge.conversions import keypose_to_message, stamp_to_ns
from minidiffuser_ros.bridge.parameters import check_parameter_file, parameter_names
from minidiffuser_ros.bridge.qos import RELIABLE
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.geometry.rotation import POINTING_DOWN_WXYZ
from minidiffuser_ros.msg import ArmStatus
from minidiffuser_ros.nodes.arm import ArmNode
from minidiffuser_ros.srv import CheckKeypose, SetSpeed

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    server = Served(1)
    yield server
    server.kill()


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[Client]:
    with ros_context() as context:
        node = ArmNode(context=context, parameter_overrides=parameters(address=served.address, speed=0.5))
        asking = Client(context)
        with spinning(context, node, asking):
            asking.becomes(ArmStatus.IDLE)
            yield asking


def test_state_is_published_with_all_joints_and_the_tool_pose(client: Client) -> None:
    np.testing.assert_allclose(client.joints(), HOME_JOINTS, atol=2e-3)
    message = client.states[-1]
    assert list(message.name)[-2:] == ["fr3_finger_joint1", "fr3_finger_joint2"]
    assert sum(message.position[-2:]) == pytest.approx(0.08, abs=2e-3)
    assert client.poses[-1].header.frame_id == "fr3_link0"
    assert client.poses[-1].pose.position.x == pytest.approx(0.307, abs=2e-3)
    stamps = [stamp_to_ns(m.header.stamp) for m in client.states[-20:]]
    assert stamps == sorted(stamps)


def test_a_goal_is_executed_and_verified(client: Client) -> None:
    client.phases.clear()
    before_ns = int(client.get_clock().now().nanoseconds)
    status, result = outcome(client.send(0.5, 0.1, 0.25))
    assert status == GoalStatus.STATUS_SUCCEEDED, result.message
    assert result.success
    assert result.position_error < 0.005
    assert result.reached.pose.position.z == pytest.approx(0.25, abs=0.005)
    assert client.phases == ["checking", "moving", "settling", "gripper", "verifying"]
    idle = client.becomes(ArmStatus.IDLE)
    assert before_ns < stamp_to_ns(result.settled_at) == stamp_to_ns(idle.settled_at)


@pytest.mark.parametrize(
    ("x", "frame", "words"),
    [(3.0, "fr3_link0", "outside the workspace"), (0.5, "map", "frame 'map'")],
)
def test_a_refused_goal_is_aborted_with_its_reason_and_nothing_moves(
    client: Client, x: float, frame: str, words: str
) -> None:
    before = client.joints()
    status, result = outcome(client.send(x, 0.0, 0.3, frame=frame))
    assert status == GoalStatus.STATUS_ABORTED
    assert words in result.message
    np.testing.assert_allclose(client.joints(), before, atol=1e-3)


def test_values_that_are_no_pose_are_aborted(client: Client) -> None:
    goal = ExecuteKeypose.Goal()
    goal.keypose.pose.position.x = float("nan")
    status, result = outcome(finished(client.execute.send_goal_async(goal)))
    assert status == GoalStatus.STATUS_ABORTED
    assert "finite" in result.message


def test_a_check_answers_without_moving(client: Client) -> None:
    keypose = Keypose(np.array([0.5, 0.0, 0.2]), np.array(POINTING_DOWN_WXYZ), 1.0)
    request = CheckKeypose.Request(keypose=keypose_to_message(keypose, "fr3_link0", 0))
    assert client.call(CheckKeypose, "check_keypose", request).success
    request.keypose.pose.position.z = -0.1
    answer = client.call(CheckKeypose, "check_keypose", request)
    assert not answer.success
    assert "workspace" in answer.message


def test_in_a_dry_run_goals_are_checked_and_nothing_moves(client: Client) -> None:
    before = client.joints()
    client.set_dry_run(True)
    status, result = outcome(client.send(0.5, -0.1, 0.2))
    assert status == GoalStatus.STATUS_ABORTED
    assert result.message == "dry run: every check passed, and nothing moves"
    assert "workspace" in outcome(client.send(2.0, 0.0, 0.2))[1].message
    client.set_dry_run(False)
    np.testing.assert_allclose(client.joints(), before, atol=1e-3)


def test_cancelling_stops_the_arm_on_its_way(client: Client) -> None:
    client.call(SetSpeed, "set_speed", SetSpeed.Request(speed=0.1))
    handle = client.send(0.6, -0.3, 0.15)
    client.becomes(ArmStatus.MOVING)
    time.sleep(0.3)
    finished(handle.cancel_goal_async())
    status, result = outcome(handle)
    assert status == GoalStatus.STATUS_CANCELED
    assert result.position_error > 0.03
    resting = client.joints()
    time.sleep(0.3)
    np.testing.assert_allclose(client.joints(), resting, atol=2e-3)
    assert client.becomes(ArmStatus.IDLE)


def test_after_a_stop_nothing_moves_until_recovered(client: Client) -> None:
    client.call(SetSpeed, "set_speed", SetSpeed.Request(speed=0.1))
    handle = client.send(0.6, 0.3, 0.15)
    client.becomes(ArmStatus.MOVING)
    time.sleep(0.3)
    assert client.call(Trigger, "stop").success
    status, _ = outcome(handle)
    assert status == GoalStatus.STATUS_ABORTED
    assert client.becomes(ArmStatus.STOPPED)
    status, result = outcome(client.send(0.5, 0.0, 0.3))
    assert status == GoalStatus.STATUS_ABORTED
    assert "recover" in result.message
    assert not client.call(Trigger, "home").success
    assert client.call(Trigger, "recover").success
    client.call(SetSpeed, "set_speed", SetSpeed.Request(speed=0.5))
    assert client.call(Trigger, "home").success
    np.testing.assert_allclose(client.joints(), HOME_JOINTS, atol=1e-2)


@pytest.mark.parametrize("speed", [0.0, 1.5])
def test_a_speed_out_of_range_is_refused(client: Client, speed: float) -> None:
    answer = client.call(SetSpeed, "set_speed", SetSpeed.Request(speed=speed))
    assert not answer.success
    assert "speed is 0.5" in answer.message


def test_the_gripper_closes_and_reports_its_width(client: Client) -> None:
    for opening, low, high in ((0.0, 0.0, 0.004), (1.0, 0.07, 0.081)):
        status, result = outcome(finished(client.gripper.send_goal_async(Gripper.Goal(opening=opening))))
        assert status == GoalStatus.STATUS_SUCCEEDED, result.message
        assert low <= result.width <= high


def test_the_careful_settings_that_ship_are_settings_of_the_node() -> None:
    names = parameter_names(ArmSettings()) + parameter_names(MotionSettings())
    check_parameter_file(Path(__file__).parents[2] / "config" / "arm.yaml", {"arm": names})


def test_a_lost_arm_aborts_the_goal_and_can_be_recovered(client: Client, served: Served) -> None:
    client.call(SetSpeed, "set_speed", SetSpeed.Request(speed=0.1))
    handle = client.send(0.6, 0.3, 0.15)
    client.becomes(ArmStatus.MOVING)
    served.kill()
    begin = time.monotonic()
    status, result = outcome(handle)
    assert status == GoalStatus.STATUS_ABORTED
    assert "stopped answering" in result.message
    assert time.monotonic() - begin < 5.0
    assert "stopped answering" in client.becomes(ArmStatus.ERROR).message
    served.start()
    assert client.call(Trigger, "recover").success
    client.call(SetSpeed, "set_speed", SetSpeed.Request(speed=0.5))
    status, result = outcome(client.send(0.5, 0.0, 0.3))
    assert status == GoalStatus.STATUS_SUCCEEDED, result.message


def test_without_the_enable_signal_nothing_moves_and_losing_it_stops_the_arm(client: Client, served: Served) -> None:
    """Runs last: it takes over the arm with a node of its own, once the first one has let go of it."""
    served.kill()
    served.start()
    with ros_context() as context:
        overrides = parameters(address=served.address, speed=0.1, enable_timeout_s=0.3)
        node, asking = ArmNode(context=context, parameter_overrides=overrides, namespace="second"), None
        asking = Client(context)
        node_client = ActionClient(asking, ExecuteKeypose, "second/arm/execute_keypose")
        enable = asking.create_publisher(Bool, "second/enable", RELIABLE)
        with spinning(context, node, asking):
            assert node_client.wait_for_server(10.0)
            eventually(lambda: node.is_active)
            keypose = Keypose(np.array([0.6, 0.3, 0.15]), np.array(POINTING_DOWN_WXYZ), 1.0)
            goal = ExecuteKeypose.Goal(keypose=keypose_to_message(keypose, "", 0))
            status, result = outcome(finished(node_client.send_goal_async(goal)))
            assert status == GoalStatus.STATUS_ABORTED
            assert "`enable` was not true" in result.message
            timer = asking.create_timer(0.05, lambda: enable.publish(Bool(data=True)))
            time.sleep(0.3)
            handle = finished(node_client.send_goal_async(goal))
            time.sleep(0.5)
            timer.cancel()
            status, result = outcome(handle)
            assert status == GoalStatus.STATUS_ABORTED
            assert result.position_error > 0.03
