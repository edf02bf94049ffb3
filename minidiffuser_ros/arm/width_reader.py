"""The distance between the fingers, read beside everything else.

The hand tells its width more rarely than the arm its joints, and each reading waits for the next one: readers of the
arm's state would be slowed down to the pace of its hand.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable

PERIOD_S = 0.01
FIRST_TIMEOUT_S = 2.0
END_TIMEOUT_S = 2.0  # libfranka gives up a silent hand after one


class WidthReader:
    """Keeps the newest width until `stop`, or until reading fails: from then on that error is raised."""

    def __init__(self, read: Callable[[], float]) -> None:
        """`read` waits for the next reading, in metres."""
        self._read = read
        self._news = threading.Condition()
        self._newest: tuple[float, float] | None = None  # width, and when its reading began
        self._error: Exception | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="width", daemon=True)
        # A daemon inside libfranka when the interpreter ends would take the process down with it.
        atexit.register(self._end)
        self._thread.start()

    def width(self, not_before_s: float = float("-inf"), timeout_s: float = FIRST_TIMEOUT_S) -> float:
        """The newest width in metres, of a reading that began no earlier than `not_before_s` on the steady clock.

        Waits for such a one. Raises what reading raised, and TimeoutError where nothing comes.
        """
        with self._news:
            if not self._news.wait_for(lambda: self._error is not None or self._is_from(not_before_s), timeout_s):
                raise TimeoutError(f"the gripper told no width within {timeout_s:g} s")
            if self._error is not None:
                raise self._error
            assert self._newest is not None
            return self._newest[0]

    def stop(self) -> None:
        """Read no more; returns at once."""
        self._stopped.set()

    def _end(self) -> None:
        self._stopped.set()
        self._thread.join(END_TIMEOUT_S)

    def _is_from(self, not_before_s: float) -> bool:
        return self._newest is not None and self._newest[1] >= not_before_s

    def _run(self) -> None:
        try:
            self._read_on()
        finally:
            atexit.unregister(self._end)

    def _read_on(self) -> None:
        while not self._stopped.is_set():
            began = time.monotonic()
            try:
                width = float(self._read())
            except Exception as error:  # raised again where the width is asked for
                with self._news:
                    self._error = error
                    self._news.notify_all()
                return
            with self._news:
                self._newest = width, began
                self._news.notify_all()
            self._stopped.wait(PERIOD_S)
