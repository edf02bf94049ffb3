"""Do the topics of an episode arrive: how often, how fresh, and why a recording cannot begin."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from minidiffuser_ros.contract.errors import require_positive
from minidiffuser_ros.episodes.timeline import IMAGE, JOINT_STATE, POSE, header_stamp_ns
from minidiffuser_ros.perception.streams import SECOND_NS

WINDOW_S = 2.0


@dataclass(frozen=True)
class LivenessSettings:
    """When a topic counts as alive."""

    silent_after_s: float = field(
        default=1.0, metadata={"description": "age of the last message", "unit": "s", "range": (0.05, 60.0)}
    )
    stale_after_s: float = field(
        default=2.0,
        metadata={
            "description": "difference of a stamp from the clock, either way",
            "unit": "s",
            "range": (0.05, 60.0),
        },
    )
    min_picture_rate_hz: float = field(
        default=2.0, metadata={"description": "of colour and depth pictures", "unit": "Hz", "range": (0.01, 1000.0)}
    )
    min_state_rate_hz: float = field(
        default=10.0,
        metadata={"description": "of joint states, tool pose and gripper", "unit": "Hz", "range": (0.01, 10000.0)},
    )

    def __post_init__(self) -> None:
        require_positive(self, ("silent_after_s", "stale_after_s", "min_picture_rate_hz", "min_state_rate_hz"))

    def min_rate_hz(self, msgtype: str) -> float:
        """Slowest rate allowed for a topic of this type; 0 for what may come now and then."""
        if msgtype == IMAGE:
            return self.min_picture_rate_hz
        return self.min_state_rate_hz if msgtype in (JOINT_STATE, POSE) else 0.0


class StreamMeter:
    """Counts the messages of one topic and keeps the newest. Safe to use from several threads."""

    def __init__(self) -> None:
        self.received = self.lost = 0
        self.newest: bytes | None = None
        self._arrivals: deque[int] = deque()
        self._lock = threading.Lock()

    def hit(self, data: bytes) -> None:
        """One message has arrived."""
        now = time.monotonic_ns()
        with self._lock:
            self.received += 1
            self.newest = data
            self._arrivals.append(now)
            self._forget(now)

    def lose(self, count: int) -> None:
        """The middleware says that it lost messages."""
        with self._lock:
            self.lost += count

    def rate_hz(self) -> float:
        """Messages a second within the last two seconds, or since the first one if that is shorter."""
        now = time.monotonic_ns()
        with self._lock:
            self._forget(now)
            if len(self._arrivals) < 2:
                return 0.0
            # A stream that has ended must not keep its rate: time since the last message counts from two intervals on.
            intervals, span = len(self._arrivals) - 1, self._arrivals[-1] - self._arrivals[0]
            quiet = now - self._arrivals[-1]
            if quiet > 2 * span / intervals:
                span += quiet
            return intervals * SECOND_NS / max(span, 1)

    def silent_s(self) -> float | None:
        """Seconds since the last message; None if there was none yet."""
        with self._lock:
            return (time.monotonic_ns() - self._arrivals[-1]) / SECOND_NS if self._arrivals else None

    def _forget(self, now: int) -> None:
        # The last arrival stays, however old.
        while len(self._arrivals) > 1 and now - self._arrivals[0] > WINDOW_S * SECOND_NS:
            self._arrivals.popleft()


def silence_reasons(
    meters: Mapping[str, StreamMeter], types: Mapping[str, str], settings: LivenessSettings, now_ns: int, stamped: bool
) -> list[str]:
    """One sentence for each topic of `meters` that does not arrive as it should.

    now_ns: the clock that stamps messages. stamped: whether stamps are looked at, too.
    """
    reasons = (_reason(t, meter, types[t], settings, now_ns if stamped else None) for t, meter in meters.items())
    return [reason for reason in reasons if reason]


def _reason(topic: str, meter: StreamMeter, msgtype: str, settings: LivenessSettings, now_ns: int | None) -> str:
    silent_s, data = meter.silent_s(), meter.newest
    if silent_s is None or data is None:
        return f"nothing has arrived on {topic} yet"
    if silent_s > settings.silent_after_s:
        return f"{topic} has been silent for {silent_s:.1f} s"
    rate_hz, required_hz = meter.rate_hz(), settings.min_rate_hz(msgtype)
    if rate_hz < required_hz:
        return f"{topic} comes at {rate_hz:.1f} Hz, slower than the {required_hz:g} Hz that are required"
    stamp_ns = header_stamp_ns(data)
    if now_ns is not None and stamp_ns is not None:
        age_s = (now_ns - stamp_ns) / SECOND_NS
        if abs(age_s) > settings.stale_after_s:
            return f"{topic} is stamped {abs(age_s):.1f} s {'behind' if age_s > 0 else 'ahead of'} the clock"
    return ""
