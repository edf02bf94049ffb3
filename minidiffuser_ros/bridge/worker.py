"""One thread for long work, one job at a time: inference, motions, recordings. Callbacks only start and ask."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from minidiffuser_ros.contract.errors import BusyError

T = TypeVar("T")
Cancelled = threading.Event


class Worker:
    """A thread that runs one job at a time; a second job is refused, never queued.

    A job gets an Event that is set when it shall end early; it looks at it between its steps. Every job runs in the
    same thread, so a job may leave thread-bound things (a GL context, a CUDA stream) for the next one.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[tuple[Callable[[Cancelled], Any], Future[Any], Cancelled] | None]
        self._jobs = queue.SimpleQueue()
        self._current: tuple[Future[Any], Cancelled] | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether a job is running."""
        with self._lock:
            return self._current is not None

    def start(self, job: Callable[[Cancelled], T]) -> Future[T]:
        """Run `job` in the thread and return its future at once. Raises BusyError while another job runs."""
        with self._lock:
            if self._stopped:
                raise BusyError(f"{self.name} has been stopped and takes no more work")
            if self._current is not None:
                raise BusyError(f"{self.name} is busy; wait for its work to end or stop it first")
            future: Future[T] = Future()
            cancelled = threading.Event()
            self._current = (future, cancelled)
            self._jobs.put((job, future, cancelled))
            return future

    def cancel(self, timeout_s: float = 5.0) -> bool:
        """Ask the running job to end and wait for it; returns whether nothing runs any more."""
        with self._lock:
            current = self._current
        if current is None:
            return True
        future, cancelled = current
        cancelled.set()
        # `result` of the future would raise the job's error, which belongs to whoever started it.
        ended = threading.Event()
        future.add_done_callback(lambda _: ended.set())
        return ended.wait(timeout_s)

    def stop(self, timeout_s: float = 5.0) -> bool:
        """Cancel, take no more jobs and end the thread; returns whether it ended in time. May be called twice."""
        with self._lock:
            self._stopped = True
        self.cancel(timeout_s)
        self._jobs.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (item := self._jobs.get()) is not None:
            job, future, cancelled = item
            try:
                result, error = job(cancelled), None
            except BaseException as exception:  # whatever it was belongs to the one who waits for the future
                result, error = None, exception
            # Free before the future is done: its waiter may start the next job at once.
            with self._lock:
                self._current = None
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)
