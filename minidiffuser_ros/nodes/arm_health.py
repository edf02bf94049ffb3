"""How the arm is: a watchdog over its readings, and one status a second on `/diagnostics`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.timer import Timer

from minidiffuser_ros.arm.protocol import ArmState
from minidiffuser_ros.arm.watchdog import state_watchdog
from minidiffuser_ros.bridge.diagnostics import Diagnostics, Level
from minidiffuser_ros.contract.refusal import Refusal

WATCH_PERIOD_S, TELL_PERIOD_S = 0.2, 1.0
Condition = tuple[Level, str, Mapping[str, object]]


class Health:
    """Fed with every reading of the arm. Runs in a timer of its own: reading the arm may be what hangs.

    condition: how the node is otherwise. stale: called with the reason when readings stop coming, and with None when
    they come again.
    """

    def __init__(
        self,
        node: Node,
        address: str,
        timeout_s: float,
        condition: Callable[[], Condition],
        stale: Callable[[Refusal | None], None],
    ) -> None:
        self._node, self._condition, self._tell_stale = node, condition, stale
        self._watchdog = state_watchdog(timeout_s)
        self._diagnostics = Diagnostics(node, hardware_id=address)
        self._newest: ArmState | None = None
        self._newest_at = self._told_at = time.monotonic()
        self._readings = 0
        self._is_stale = False
        clock, group = Clock(clock_type=ClockType.STEADY_TIME), MutuallyExclusiveCallbackGroup()
        self._timer: Timer = node.create_timer(WATCH_PERIOD_S, self._watch, callback_group=group, clock=clock)

    def feed(self, state: ArmState) -> None:
        """A reading has come. One whose controller's clock stands still is none."""
        last, self._newest = self._newest, state
        if last is None or math.isnan(state.clock_s) or state.clock_s != last.clock_s:
            self._newest_at = time.monotonic()
            self._readings += 1
            self._watchdog.feed()

    def reasons(self) -> list[Refusal]:
        """Why nothing may move, where the newest reading is too old."""
        return self._watchdog.reasons()

    def close(self) -> None:
        """Watch no more."""
        self._node.destroy_timer(self._timer)

    def _watch(self) -> None:
        reasons = self.reasons()
        if bool(reasons) != self._is_stale:
            self._is_stale = bool(reasons)
            self._tell_stale(reasons[0] if reasons else None)
        elapsed_s = time.monotonic() - self._told_at
        if elapsed_s >= TELL_PERIOD_S:
            self._tell(reasons, elapsed_s)

    def _tell(self, reasons: list[Refusal], elapsed_s: float) -> None:
        level, message, values = self._condition()
        if reasons and level is not Level.ERROR:
            level, message = Level.STALE, reasons[0]
        own = {
            "mode": self._newest.mode.value if self._newest else "unknown",
            "age of the newest reading [s]": f"{time.monotonic() - self._newest_at:.2f}",
            "readings a second": f"{self._readings / elapsed_s:.1f}",
        }
        self._readings, self._told_at = 0, time.monotonic()
        self._diagnostics.tell(level, message, {**own, **values})
