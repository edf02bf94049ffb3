"""Goals that no arm may follow, sent to the live arm node: each ends aborted with its code, and nothing moves.

The action and the check are asked; the arm is the simulated one behind the robot's own protocol.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from geometry_msgs.msg import Point, Pose, Quaternion
from hostile_goals import HOSTILE, LIMITS, Numbers, good, hostile
from served_arm import Client, Served, finished, outcome
from spinning import eventually, parameters, ros_context, spinning
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from minidiffuser_ros.action import ExecuteKeypose
from minidiffuser_ros.bridge.conversions import header
from minidiffuser_ros.contract.refusal import Reason
from minidiffuser_ros.msg import ArmStatus
from minidiffuser_ros.msg import Keypose as KeyposeMessage
from minidiffuser_ros.nodes.arm import ArmNode
from minidiffuser_ros.srv import CheckKeypose, SetSpeed

pytestmark = pytest.mark.ros

PER_CLASS, CHECKS_PER_CLASS, PER_SITUATION = 10, 2, 6
HELD_S = 10.0  # how long one word that the button is held counts here


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    server = Served(4)
    yield server
    server.kill()


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[Client]:
    settings = parameters(
        **{
            "address": served.address,
            "enable_timeout_s": HELD_S,
            "limits.max_step_m": LIMITS.max_step_m,
            "limits.allow_undated": LIMITS.allow_undated,
        }
    )
    with ros_context() as context:
        node = ArmNode(context=context, parameter_overrides=settings)
        asking = Client(context)
        with spinning(context, node, asking):
            asking.becomes(ArmStatus.IDLE)
            hold(asking, True)
            yield asking


def hold(client: Client, held: bool) -> None:
    """Hold or let go of the button, and wait until the node knows."""
    client.enable.publish(Bool(data=held))
    numbers = good(np.random.default_rng(0), now_ns(client))
    request = CheckKeypose.Request(keypose=message(numbers))
    eventually(lambda: (Reason.NOT_ENABLED in client.call(CheckKeypose, "check_keypose", request).codes) is not held)


def now_ns(client: Client) -> int:
    return int(client.get_clock().now().nanoseconds)


def message(numbers: Numbers) -> KeyposeMessage:
    """As it is, sense or nonsense."""
    x, y, z = numbers.position
    w, qx, qy, qz = numbers.quat_wxyz
    pose = Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=qx, y=qy, z=qz, w=w))
    return KeyposeMessage(
        header=header(numbers.frame, numbers.stamp_ns), pose=pose, opening=numbers.opening, motion=numbers.way,
        approach=numbers.approach_m, retreat=numbers.retreat_m,
    )  # fmt: skip


def send(client: Client, numbers: Numbers) -> Any:
    return finished(client.execute.send_goal_async(ExecuteKeypose.Goal(keypose=message(numbers))))


@contextmanager
def nothing_moves(client: Client) -> Iterator[None]:
    """The joints stay where they are, and the node never says that it moves the arm."""
    before, count = client.joints(), len(client.statuses)
    yield
    np.testing.assert_allclose(client.joints(), before, atol=1e-3)
    assert ArmStatus.MOVING not in [status.state for status in client.statuses[count:]]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_goals_end_aborted_with_their_code(client: Client, name: str) -> None:
    code, _ = HOSTILE[name]
    hold(client, True)
    with nothing_moves(client):
        for number, numbers in enumerate(hostile(name, PER_CLASS, now_ns(client))):
            status, result = outcome(send(client, numbers))
            assert status == GoalStatus.STATUS_ABORTED
            assert code in result.codes, (numbers, result.message)
            assert not result.success
            if number < CHECKS_PER_CLASS:
                answer = client.call(CheckKeypose, "check_keypose", CheckKeypose.Request(keypose=message(numbers)))
                assert (answer.success, list(answer.codes)) == (False, list(result.codes))


def refused(client: Client, code: Reason) -> None:
    """Good goals, all of them refused with one code."""
    draw = np.random.default_rng(3)
    for _ in range(PER_SITUATION):
        status, result = outcome(send(client, good(draw, now_ns(client))))
        assert status == GoalStatus.STATUS_ABORTED
        assert list(result.codes) == [code], result.message


def test_good_goals_are_refused_while_nobody_holds_the_button(client: Client) -> None:
    hold(client, False)
    with nothing_moves(client):
        refused(client, Reason.NOT_ENABLED)
    hold(client, True)


def test_good_goals_are_refused_in_a_dry_run(client: Client) -> None:
    client.set_dry_run(True)
    with nothing_moves(client):
        refused(client, Reason.DRY_RUN)
    client.set_dry_run(False)


def test_good_goals_are_refused_after_a_stop(client: Client) -> None:
    assert client.call(Trigger, "stop").success
    with nothing_moves(client):
        refused(client, Reason.STOPPED)
    assert client.call(Trigger, "recover").success


def test_good_goals_are_refused_while_another_one_runs(client: Client) -> None:
    hold(client, True)
    client.call(SetSpeed, "set_speed", SetSpeed.Request(speed=0.02))
    running = send(client, good(np.random.default_rng(4), now_ns(client)))
    client.becomes(ArmStatus.MOVING)
    refused(client, Reason.BUSY)
    assert client.statuses[-1].state == ArmStatus.MOVING
    finished(running.cancel_goal_async())
    assert Reason.CANCELLED in outcome(running)[1].codes


def test_good_goals_are_refused_once_the_connection_is_lost(client: Client, served: Served) -> None:
    hold(client, True)
    served.kill()
    status = client.becomes(ArmStatus.ERROR)
    assert list(status.codes) == [Reason.CONNECTION_LOST]
    refused(client, Reason.CONNECTION_LOST)
