"""The action client against a real server that answers before the request was noted."""

from __future__ import annotations

import time
from typing import Any

import pytest
from rclpy.action import ActionServer
from rclpy.context import Context
from rclpy.node import Node
from spinning import eventually, spinning

from minidiffuser_ros.action import Gripper
from minidiffuser_ros.bridge.action_client import ActionClient

pytestmark = pytest.mark.ros


class SlowlyNoted(dict[int, Any]):
    """A table of pending requests that is looked into for so long that the answer is there first."""

    def __contains__(self, key: object) -> bool:
        time.sleep(0.3)
        return super().__contains__(key)


def test_an_answer_that_comes_before_its_request_was_noted_is_not_lost(context: Context) -> None:
    server_node, user = Node("server", context=context), Node("user", context=context)

    def execute(goal: Any) -> Any:
        goal.succeed()
        return Gripper.Result()

    server = ActionServer(server_node, Gripper, "grip", execute)
    client = ActionClient(user, Gripper, "grip")
    client._pending_goal_requests = SlowlyNoted()
    client._pending_result_requests = SlowlyNoted()
    with spinning(context, server_node, user):
        eventually(client.server_is_ready)
        accepted = client.send_goal_async(Gripper.Goal())
        eventually(accepted.done, timeout_s=3.0)
        result = accepted.result().get_result_async()
        eventually(result.done, timeout_s=3.0)
        assert accepted.result().accepted
        server.destroy()
