"""Actions that may be destroyed while an executor spins.

rclpy's executor leaves a waitable whose handle is gone out of its count, yet still adds it to the wait set, which ends
the executor with "action client pointer is invalid". Here what is destroyed stays out of the wait set.
"""

from __future__ import annotations

from typing import Any

from rclpy.action import ActionServer as RclpyActionServer


class LeavesQuietly:
    """Put before rclpy's action client or server among the bases."""

    _gone = False

    def destroy(self) -> None:
        """See the base class."""
        self._gone = True
        super().destroy()  # type: ignore[misc]

    def add_to_wait_set(self, wait_set: Any) -> None:
        """See the base class."""
        if not self._gone:
            super().add_to_wait_set(wait_set)  # type: ignore[misc]

    def is_ready(self, wait_set: Any) -> bool:
        """See the base class."""
        return not self._gone and bool(super().is_ready(wait_set))  # type: ignore[misc]


class ActionServer(LeavesQuietly, RclpyActionServer):
    """`rclpy.action.ActionServer` that may be destroyed while its node spins."""
