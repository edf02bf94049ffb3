"""What this package uses of ROS's message_filters, for machines that lack it: same names, same locking."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from minidiffuser_ros.bridge.conversions import stamp_to_ns


class SimpleFilter:
    """Hands messages on to whoever registered."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[..., None]] = []

    def registerCallback(self, callback: Callable[..., None]) -> None:
        self._callbacks.append(callback)

    def signalMessage(self, *messages: Any) -> None:
        for callback in self._callbacks:
            callback(*messages)


class ApproximateTimeSynchronizer(SimpleFilter):
    """Sets of one message per input that lie within `slop` seconds; calls back while it holds its lock."""

    def __init__(self, inputs: Sequence[SimpleFilter], queue_size: int, slop: float) -> None:
        super().__init__()
        self._queues: list[dict[int, Any]] = [{} for _ in inputs]
        self._size, self._slop_ns, self._lock = queue_size, round(slop * 1e9), threading.Lock()
        for index, entry in enumerate(inputs):
            entry.registerCallback(partial(self._add, index))

    def _add(self, index: int, message: Any) -> None:
        stamp = stamp_to_ns(message.header.stamp)
        with self._lock:
            self._queues[index][stamp] = message
            while len(self._queues[index]) > self._size:
                del self._queues[index][min(self._queues[index])]
            nearest = [min(queue, key=lambda other: abs(other - stamp), default=None) for queue in self._queues]
            chosen = [other for other in nearest if other is not None]
            if len(chosen) < len(self._queues) or max(chosen) - min(chosen) >= self._slop_ns:
                return
            self.signalMessage(*[queue.pop(other) for queue, other in zip(self._queues, chosen, strict=True)])
