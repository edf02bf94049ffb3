"""Ways past what the observer sees, through the live arm node: shown before they are gone, gone, or refused."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from nav_msgs.msg import Path
from sensor_msgs.msg import PointCloud2
from served_arm import Client, Served, finished, outcome
from spinning import eventually, parameters, ros_context, spinning
from std_srvs.srv import Trigger

from minidiffuser_ros.action import ExecuteKeypose
from minidiffuser_ros.arm.goal import Way
from minidiffuser_ros.arm.kinematics import JOINT_NAMES, FrankaKinematics
from minidiffuser_ros.arm.planning.collision import CollisionModel, CollisionSettings
from minidiffuser_ros.arm.planning.obstacles import Obstacles
from minidiffuser_ros.bridge.conversions import cloud_from_points, joint_positions, keypose_to_message
from minidiffuser_ros.bridge.qos import LATCHED, SENSOR_DATA
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.geometry.rotation import POINTING_DOWN_WXYZ
from minidiffuser_ros.msg import ArmStatus
from minidiffuser_ros.nodes.arm import ArmNode
from minidiffuser_ros.srv import CheckKeypose, SetSpeed

pytestmark = pytest.mark.ros

# A wall between both sides of the table, hand-high: [P, 3] m.
WALL = np.stack(np.meshgrid(np.arange(0.35, 0.7, 0.012), [0.0], np.arange(0.0, 0.3, 0.012)), axis=-1).reshape(-1, 3)
HERE, THERE = (0.5, -0.25, 0.12), (0.5, 0.25, 0.12)


class Rig:
    """A client of the arm node that plays the observer, too."""

    def __init__(self, client: Client) -> None:
        self.client, self.previews = client, list[Path]()
        self.cloud = client.create_publisher(PointCloud2, "observer/surroundings", SENSOR_DATA)
        client.create_subscription(Path, "arm/preview", self.previews.append, LATCHED)

    def show_wall(self, frame: str = "fr3_link0") -> None:
        """Publish it, long enough for best effort to arrive."""
        now_ns = int(self.client.get_clock().now().nanoseconds)
        for _ in range(5):
            self.cloud.publish(cloud_from_points(WALL, np.full(WALL.shape, 99, np.uint8), frame, now_ns))
            time.sleep(0.05)

    def keypose(self, place: tuple[float, float, float], way: Way) -> object:
        message = keypose_to_message(Keypose(np.array(place), np.array(POINTING_DOWN_WXYZ), 1.0), "fr3_link0", 0)
        message.motion = int(way)
        return message

    def check(self, place: tuple[float, float, float], way: Way, **offsets: float) -> CheckKeypose.Response:
        request = CheckKeypose.Request(keypose=self.keypose(place, way))
        for name, value in offsets.items():
            setattr(request.keypose, name, value)
        return self.client.call(CheckKeypose, "check_keypose", request)

    def execute(self, place: tuple[float, float, float], way: Way) -> tuple[int, ExecuteKeypose.Result]:
        goal = ExecuteKeypose.Goal(keypose=self.keypose(place, way))
        handle = finished(
            self.client.execute.send_goal_async(goal, lambda f: self.client.phases.append(f.feedback.phase))
        )
        answer = finished(handle.get_result_async(), 60.0)
        return answer.status, answer.result


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    served = Served(7)
    with ros_context() as context:
        node = ArmNode(context=context, parameter_overrides=parameters(address=served.address, speed=0.5))
        client = Client(context)
        rig = Rig(client)
        with spinning(context, node, client):
            client.becomes(ArmStatus.IDLE)
            assert client.execute.wait_for_server(10.0)
            yield rig
    served.kill()


def test_a_planned_way_without_a_cloud_is_refused(rig: Rig) -> None:
    answer = rig.check(THERE, Way.PLANNED)
    assert (answer.success, list(answer.codes)) == (False, ["stale"])
    rig.show_wall(frame="camera")
    assert list(rig.check(THERE, Way.PLANNED).codes) == ["stale"]
    status, result = rig.execute(THERE, Way.PLANNED)
    assert (status, list(result.codes)) == (GoalStatus.STATUS_ABORTED, ["stale"])


def test_a_check_shows_the_line_over_time_and_nothing_moves(rig: Rig) -> None:
    rig.previews.clear()
    before = rig.client.joints()
    answer = rig.check(HERE, Way.AUTO, approach=0.05, retreat=0.08)
    assert answer.success, answer.message
    assert answer.way == "line"
    assert list(answer.path.joint_names) == list(JOINT_NAMES)
    times = [p.time_from_start.sec + 1e-9 * p.time_from_start.nanosec for p in answer.path.points]
    assert times[-1] == pytest.approx(answer.duration_s, abs=1e-3)
    assert (np.diff(times) > 0).all()
    np.testing.assert_allclose(answer.path.points[0].positions, before, atol=5e-3)
    tools = np.array([FrankaKinematics().forward(p.positions)[:3, 3] for p in answer.path.points])
    np.testing.assert_allclose(tools[:, 2].min(), HERE[2], atol=2e-3)
    np.testing.assert_allclose(tools[-1] - HERE, [0.0, 0.0, 0.08], atol=2e-3)
    shown = eventually(lambda: rig.previews and rig.previews[-1])
    assert shown.header.frame_id == "fr3_link0"
    poses = np.array([[p.pose.position.x, p.pose.position.y, p.pose.position.z] for p in shown.poses])
    np.testing.assert_allclose(poses, tools, atol=1e-6)
    np.testing.assert_allclose(rig.client.joints(), before, atol=1e-3)


def test_a_refused_goal_shows_nothing(rig: Rig) -> None:
    rig.previews.clear()
    answer = rig.check((3.0, 0.0, 0.3), Way.AUTO)
    assert not answer.success
    assert "outside_workspace" in answer.codes
    assert not answer.path.points
    assert not eventually(lambda: rig.previews and rig.previews[-1]).poses


def test_a_planned_way_leads_over_the_wall_that_the_line_would_cross(rig: Rig) -> None:
    status, result = rig.execute(HERE, Way.LINE)
    assert status == GoalStatus.STATUS_SUCCEEDED, result.message
    rig.show_wall()
    answer = rig.check(THERE, Way.PLANNED)
    assert answer.success, answer.message
    assert answer.way == "planned"
    line = rig.check(THERE, Way.AUTO)
    assert (line.success, line.way) == (True, "line")  # unless it is asked for, lines heed no cloud
    rig.client.phases.clear()
    rig.client.states.clear()
    rig.show_wall()
    status, result = rig.execute(THERE, Way.PLANNED)
    assert status == GoalStatus.STATUS_SUCCEEDED, result.message
    assert rig.client.phases[:3] == ["checking", "planning", "moving"]
    assert result.position_error < 0.005
    seen = CollisionModel(settings=CollisionSettings(padding_m=0.0))
    seen.set_obstacles(Obstacles.from_points(WALL, 0.012))
    assert seen.path_contact(np.array([point.positions for point in line.path.points]), 1.0)
    readings = np.array([joint_positions(state, JOINT_NAMES) for state in list(rig.client.states)])
    assert np.abs(readings - readings[0]).max() > 0.5
    assert not seen.path_contact(readings, 1.0)


def test_home_is_found_from_there(rig: Rig) -> None:
    rig.client.call(SetSpeed, "set_speed", SetSpeed.Request(speed=0.5))
    assert rig.client.call(Trigger, "home").success
    assert outcome(rig.client.send(0.5, 0.0, 0.3))[0] == GoalStatus.STATUS_SUCCEEDED
