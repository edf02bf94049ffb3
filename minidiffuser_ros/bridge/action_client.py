"""An action client that other threads than the executor's may use.

rclpy (Humble to Kilted) sends a request and only then notes its number. A server that answers in between is taken
for a stranger ("Ignoring unexpected goal response") and the goal is never accepted: on busy machines one goal in
some thousands. Sending and noting are therefore one step here, and answers are taken only after it.
"""

from __future__ import annotations

import threading
from typing import Any

from rclpy.action import ActionClient as RclpyActionClient
from rclpy.task import Future

from minidiffuser_ros.bridge.waitables import LeavesQuietly


class ActionClient(LeavesQuietly, RclpyActionClient):
    """`rclpy.action.ActionClient` without the race between sending and taking; may go while its node spins."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._request_noted = threading.RLock()
        super().__init__(*args, **kwargs)

    def send_goal_async(self, *args: Any, **kwargs: Any) -> Future:
        """See the base class."""
        with self._request_noted:
            return super().send_goal_async(*args, **kwargs)

    def _get_result_async(self, goal_handle: Any) -> Future:
        with self._request_noted:
            return super()._get_result_async(goal_handle)

    def _cancel_goal_async(self, goal_handle: Any) -> Future:
        with self._request_noted:
            return super()._cancel_goal_async(goal_handle)

    def take_data(self) -> Any:
        """See the base class; waits for a request that is just being sent."""
        with self._request_noted:
            return super().take_data()
