"""Waiting for nodes: which state of their lifecycle they are in."""

from __future__ import annotations

import time
from collections.abc import Sequence

from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node

from minidiffuser_ros.bridge.calls import Cancelled, call, never
from minidiffuser_ros.contract.errors import ConnectionLostError

ACTIVE = "active"
ANSWER_TIMEOUT_S = 1.0
PERIOD_S = 0.1


def wait_active(node: Node, names: Sequence[str], timeout_s: float, cancelled: Cancelled = never) -> None:
    """Wait until each of these lifecycle nodes is active. Raises ConnectionLostError naming one that is not.

    `node` asks, in another thread than its executor's.
    """
    deadline = time.monotonic() + timeout_s
    for name in names:
        state = ""
        while state != ACTIVE:
            if cancelled() or time.monotonic() > deadline:
                found = f"it is {state}" if state else "nobody of this name answers"
                raise ConnectionLostError(f"the node '{name}' was not ready within {timeout_s:g} s: {found}")
            state = _state(node, name, cancelled)
            if state != ACTIVE:
                time.sleep(PERIOD_S)


def _state(node: Node, name: str, cancelled: Cancelled) -> str:
    """The lifecycle state of a node, empty where nobody answers."""
    client = node.create_client(GetState, f"{name}/get_state", callback_group=ReentrantCallbackGroup())
    try:
        answer = call(client, GetState.Request(), ANSWER_TIMEOUT_S, cancelled)
    except ConnectionLostError:
        return ""
    finally:
        node.destroy_client(client)
    return ACTIVE if answer.current_state.id == State.PRIMARY_STATE_ACTIVE else str(answer.current_state.label)
