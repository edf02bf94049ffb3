"""Calls that may block for ever run in a thread of their own; whoever asked for them goes on in bounded time."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from minidiffuser_ros.contract.errors import MotionError
from minidiffuser_ros.contract.refusal import Reason, Refusal

T = TypeVar("T")
Answer = tuple[bool, Any]  # whether it succeeded, and the result or the exception

LOOK_PERIOD_S = 0.02


class HaltedError(Exception):
    """The wait for a call was cut short by its event; the call itself may still run."""


class CommandThread:
    """Runs one call at a time, always in the same thread; a second one is refused while the first has not returned."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], queue.SimpleQueue[Answer]] | None] = queue.SimpleQueue()
        self._free = threading.Event()
        self._free.set()
        threading.Thread(target=self._work, daemon=True, name=name).start()

    def run(self, call: Callable[[], T], timeout_s: float, late: Exception, halt: threading.Event | None = None) -> T:
        """Result of `call`; raises what it raises, `late` when time is up, HaltedError once `halt` is set.

        Raises MotionError where the call before has still not returned.
        """
        if not self._free.is_set():
            raise MotionError(Refusal(Reason.BUSY, f"the {self._name} has not finished its last command: recover it"))
        self._free.clear()
        answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._jobs.put((call, answers))
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                succeeded, value = answers.get(timeout=LOOK_PERIOD_S)
            except queue.Empty:
                if halt is not None and halt.is_set():
                    raise HaltedError from None
                if time.monotonic() > deadline:
                    raise late from None
                continue
            if succeeded:
                return value  # type: ignore[no-any-return]
            raise value

    def wait(self, timeout_s: float) -> bool:
        """Wait until nothing runs in it; returns whether that came true."""
        return self._free.wait(timeout_s)

    def close(self) -> None:
        """End the thread once its call has returned; returns at once."""
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            call, answers = job
            try:
                answer: Answer = True, call()
            except Exception as error:  # handed to the caller's thread
                answer = False, error
            self._free.set()
            answers.put(answer)


def in_time(call: Callable[[], T], timeout_s: float, late: Exception) -> T:
    """Result of one call, run aside and left alone when time is up; raises what it raises, or `late`."""
    thread = CommandThread("call")
    try:
        return thread.run(call, timeout_s, late)
    finally:
        thread.close()
