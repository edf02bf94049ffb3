"""A question that waits for a person's yes, asked in a worker's thread and answered in a callback."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

POLL_S = 0.05


class Approval:
    """One question at a time; a yes that comes when nothing is asked is not kept for later."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._given = threading.Event()

    def wait(self, timeout_s: float, cancelled: Callable[[], bool]) -> bool:
        """Ask, and wait for the answer; whether a yes came before the timeout or `cancelled`."""
        self._given.clear()
        self._asked.set()
        deadline = time.monotonic() + timeout_s
        while not self._given.wait(POLL_S) and not cancelled() and time.monotonic() < deadline:
            pass
        self._asked.clear()
        return self._given.is_set()

    def give(self) -> bool:
        """Say yes; returns whether anything was asked."""
        if not self._asked.is_set():
            return False
        self._given.set()
        return True
