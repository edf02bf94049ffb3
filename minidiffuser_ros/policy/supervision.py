"""What a person says to a running policy: hold, go on, one step, yes, no. Free of ROS; callbacks speak, the loop obeys.

A pause begins before a decision or before a motion, never within one, and what was seen before its end is not acted on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import Enum

POLL_S = 0.05


class Answer(Enum):
    """What became of the question whether a keypose may be sent."""

    YES = "yes"
    NO = "no"
    NONE = "none"


class Pacing:
    """Pause, resume and single steps; safe to use from several threads.

    A pause lasts over the end of a run: one that begins meanwhile waits before its first look.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._paused = False
        self._asked = False  # for a step that has not begun
        self._stepping = False
        self._ended_ns = 0

    @property
    def paused(self) -> bool:
        """Whether a pause is in force, steps or not."""
        with self._changed:
            return self._paused

    @property
    def holds(self) -> bool:
        """Whether nothing may be begun now."""
        with self._changed:
            return self._paused and not self._stepping

    @property
    def ended_ns(self) -> int:
        """When the last pause ended or its last step began, 0 for never: older pictures are not acted on."""
        with self._changed:
            return self._ended_ns

    def pause(self) -> None:
        """Begin nothing more; withdraws a step whose motion has not begun."""
        with self._changed:
            self._paused, self._asked, self._stepping = True, False, False

    def resume(self, now_ns: int) -> None:
        """Go on; does nothing where there is no pause."""
        with self._changed:
            if self._paused:
                self._paused = self._asked = self._stepping = False
                self._ended_ns = now_ns
                self._changed.notify_all()

    def step(self) -> bool:
        """Allow one keypose within the pause; returns False without a pause or where one is asked for already."""
        with self._changed:
            if not self._paused or self._asked:
                return False
            self._asked = True
            self._changed.notify_all()
            return True

    def begin(self) -> None:
        """A run begins: no step of an earlier one counts."""
        with self._changed:
            self._asked = self._stepping = False

    def wait(self, cancelled: Callable[[], bool], now_ns: Callable[[], int]) -> None:
        """Return when something may be begun, or when `cancelled` turns true."""
        with self._changed:
            while self._paused and not self._stepping and not cancelled():
                if self._asked:
                    self._asked, self._stepping, self._ended_ns = False, True, now_ns()
                else:
                    self._changed.wait(POLL_S)

    def moved(self) -> None:
        """The step is used up: a motion was made, or the policy chose to make none."""
        with self._changed:
            self._stepping = False
