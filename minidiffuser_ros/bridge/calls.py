"""Service calls and action goals for threads that may wait, such as a Worker's; never from a callback.

Every wait has an end: an answer, a server that has gone, a timeout, or the caller's own `cancelled`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from action_msgs.msg import GoalStatus
from rclpy.client import Client
from rclpy.task import Future

from minidiffuser_ros.bridge.action_client import ActionClient
from minidiffuser_ros.contract.errors import ConnectionLostError

POLL_S = 0.1
# Discovery may lose sight of a busy server for a moment.
GONE_AFTER_S = 3.0
CANCEL_TIMEOUT_S = 10.0

Cancelled = Callable[[], bool]


def never() -> bool:
    """The default of `cancelled`."""
    return False


def call(client: Client, request: Any, timeout_s: float, cancelled: Cancelled = never) -> Any:
    """The response of a service. Raises ConnectionLostError if nobody offers it or no answer comes in time."""
    deadline = time.monotonic() + timeout_s
    found = client.service_is_ready()
    while not client.service_is_ready():
        if time.monotonic() > deadline or cancelled():
            raise ConnectionLostError(f"nobody offers the service {client.srv_name}; start its node")
        time.sleep(POLL_S / 2)
    if not found:
        time.sleep(POLL_S)  # the server has to find this client, too: until then it drops the answer
    future = client.call_async(request)
    if not _wait(future, lambda: time.monotonic() > deadline or cancelled()):
        client.remove_pending_request(future)
        raise ConnectionLostError(
            f"{client.srv_name} did not answer within {timeout_s:.1f} s; is its node still running?"
        )
    return future.result()


def perform(
    client: ActionClient,
    name: str,
    goal: Any,
    timeout_s: float,
    cancelled: Cancelled = never,
    on_feedback: Callable[[Any], None] | None = None,
) -> tuple[int, Any]:
    """Send a goal and wait for its end: (status of `action_msgs/GoalStatus`, result).

    timeout_s: until the server accepts; the goal itself may take as long as the server lives. When `cancelled`
    turns true the goal is cancelled and its end awaited. Raises ConnectionLostError if there is no server, it
    refuses the goal, or it disappears.
    """
    deadline = time.monotonic() + timeout_s
    while not client.server_is_ready():
        if time.monotonic() > deadline or cancelled():
            raise ConnectionLostError(f"nobody offers the action {name}; start its node")
        time.sleep(POLL_S / 2)

    def feedback(message: Any) -> None:
        if on_feedback is not None:
            on_feedback(message.feedback)

    accepted = client.send_goal_async(goal, feedback_callback=feedback)
    if not _wait(accepted, lambda: time.monotonic() > deadline):
        raise ConnectionLostError(f"{name} did not accept the goal within {timeout_s:.1f} s")
    handle = accepted.result()
    if handle is None or not handle.accepted:
        raise ConnectionLostError(f"{name} refused the goal")
    result = handle.get_result_async()
    watch = _ServerWatch(client)
    if not _wait(result, lambda: cancelled() or watch.gone()) and not watch.gone():
        handle.cancel_goal_async()
        give_up = time.monotonic() + CANCEL_TIMEOUT_S
        _wait(result, lambda: time.monotonic() > give_up or watch.gone())
    if not result.done():
        reason = "disappeared" if watch.gone() else "did not stop after the goal was cancelled"
        raise ConnectionLostError(f"the server of {name} {reason}")
    answer = result.result()
    return int(answer.status), answer.result


def succeeded(status: int) -> bool:
    """Whether a goal's status is success."""
    return bool(status == GoalStatus.STATUS_SUCCEEDED)


class _ServerWatch:
    """Notices a server that has been away for GONE_AFTER_S."""

    def __init__(self, client: ActionClient) -> None:
        self._client = client
        self._seen = time.monotonic()

    def gone(self) -> bool:
        now = time.monotonic()
        if self._client.server_is_ready():
            self._seen = now
        return now - self._seen > GONE_AFTER_S


def _wait(future: Future, stop: Callable[[], bool]) -> bool:
    """Wait until the future is done, or `stop` says to give up; returns whether it is done."""
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    while not done.wait(POLL_S):
        if stop():
            return bool(future.done())
    return True
