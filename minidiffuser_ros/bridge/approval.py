"""A question that waits for a person's answer, asked in a worker's thread and answered in a callback."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from minidiffuser_ros.policy.supervision import POLL_S, Answer


class Approval:
    """One question at a time; an answer that comes when nothing is asked is not kept for later."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._asked = False
        self._answer = Answer.NONE

    def wait(self, timeout_s: float, withdrawn: Callable[[], bool]) -> Answer:
        """Ask, and wait for the answer: none where none came before the timeout or `withdrawn`."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            self._asked, self._answer = True, Answer.NONE
            while self._answer is Answer.NONE and not withdrawn() and time.monotonic() < deadline:
                self._changed.wait(POLL_S)
            self._asked = False
            return self._answer

    def give(self, answer: Answer) -> bool:
        """Say yes or no; returns whether anything was asked that had no answer yet."""
        with self._changed:
            if not self._asked or self._answer is not Answer.NONE:
                return False
            self._answer = answer
            self._changed.notify_all()
            return True
