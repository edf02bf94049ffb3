"""The next batch is prepared while the current step runs, so that an accelerator does not wait for it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Prefetch(Generic[Item]):
    """Calls `make(step)` in a background thread, one step ahead of the one asked for.

    `make` must depend on nothing but the step: then what comes, and in which order, is the same as without a thread,
    and a run can go on at any step.
    """

    def __init__(self, make: Callable[[int], Item], last: int) -> None:
        self._make, self._last = make, last
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="next-batch")
        self._pending: tuple[int, Future[Item]] | None = None

    def __call__(self, step: int) -> Item:
        """The batch of `step`; errors of its making are raised here."""
        if self._pending is None or self._pending[0] != step:
            self._pending = (step, self._executor.submit(self._make, step))
        item = self._pending[1].result()
        self._pending = (step + 1, self._executor.submit(self._make, step + 1)) if step < self._last else None
        return item

    def __enter__(self) -> Prefetch[Item]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)
