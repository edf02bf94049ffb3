"""Alignment by header stamp: the newest pictures and joint states that belong together, or why there are none.

Pictures of one camera (colour, depth) form a group whose stamps must agree closely; groups (cameras) may
differ more, because an observation is taken while the arm stands. Joint states come at a higher rate and are
interpolated to each picture's own stamp. A stream that is not well (silent, frozen, stale, unreadable) is told apart
from streams that do not fit together; what is not well is never acted on.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minidiffuser_ros.contract.errors import ConfigurationError

Array = NDArray[np.float64]

SECOND_NS = 1_000_000_000
FROZEN_AFTER_REPEATS = 3


def _seconds_field(default: float, description: str) -> Any:
    return field(default=default, metadata={"description": description, "unit": "s", "range": (1e-4, 60.0)})


@dataclass(frozen=True)
class StreamSettings:
    """How closely stamps must agree, when a stream counts as dead, and how much of it is kept."""

    pair_tolerance_s: float = _seconds_field(0.02, "largest difference between colour and depth of one camera")
    set_tolerance_s: float = _seconds_field(0.15, "largest difference between two cameras; the arm stands meanwhile")
    state_tolerance_s: float = _seconds_field(0.10, "largest gap between a picture and the joint states around it")
    silent_after_s: float = _seconds_field(1.5, "age of its last message after which a stream counts as silent")
    clock_tolerance_s: float = _seconds_field(0.5, "how far stamps may run ahead of the clock or fall back")
    capacity: int = field(default=32, metadata={"description": "messages kept per stream", "range": (2, 1000)})
    # No two pictures of a real sensor are alike; a simulated one of a still scene is like the last.
    frozen_after: int = field(
        default=30,
        metadata={"description": "pictures in a row of the same content that mean a frozen camera; 0: any number is "
                  "fine, as in simulation", "range": (0, 100_000)},
    )  # fmt: skip

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0 and not (name == "frozen_after" and value == 0):
                raise ConfigurationError(f"{name} must be greater than 0, got {value}")


@dataclass(frozen=True)
class MatchedSet:
    """One message per picture stream, and the joint state [S] at the stamp of each.

    Keys are stream names; stamps in nanoseconds.
    """

    payloads: dict[str, Any]
    stamps_ns: dict[str, int]
    states: dict[str, Array]

    @property
    def newest_ns(self) -> int:
        """When the last pixel of the set was taken."""
        return max(self.stamps_ns.values())


@dataclass
class _Stream:
    """Buffer and health of one topic."""

    stamps_ns: list[int] = field(default_factory=list)
    payloads: dict[int, Any] = field(default_factory=dict)
    arrival_ns: int | None = None
    count: int = 0
    repeats: int = 0
    content: int | None = None
    alike: int = 0
    fault: str = ""

    def insert(self, stamp_ns: int, payload: Any, capacity: int) -> None:
        insort(self.stamps_ns, stamp_ns)
        self.payloads[stamp_ns] = payload
        if len(self.stamps_ns) > capacity:
            self.payloads.pop(self.stamps_ns.pop(0))

    def compare(self, content: int | None) -> None:
        """Count pictures that are like their predecessor; `content` stands for what is in this one."""
        self.alike = self.alike + 1 if content is not None and content == self.content else 0
        self.content = content

    def clear(self) -> None:
        self.stamps_ns.clear()
        self.payloads.clear()
        self.arrival_ns, self.repeats, self.content, self.alike = None, 0, None, 0

    def nearest(self, stamp_ns: int) -> int | None:
        """The buffered stamp closest to `stamp_ns`."""
        index = bisect_left(self.stamps_ns, stamp_ns)
        around = self.stamps_ns[max(index - 1, 0) : index + 1]
        return min(around, key=lambda stamp: abs(stamp - stamp_ns), default=None)


class StampMatcher:
    """Collects stamped messages of several streams and finds the newest set that belongs together.

    groups: camera name → its streams, the first of which leads. state_stream: the stream of joint states,
    whose payloads are vectors [S]. Safe to use from several threads.
    """

    def __init__(
        self, groups: Mapping[str, Sequence[str]], state_stream: str, settings: StreamSettings | None = None
    ) -> None:
        self.settings = settings or StreamSettings()
        self._groups = {name: tuple(streams) for name, streams in groups.items()}
        self._state_stream = state_stream
        names = [stream for streams in self._groups.values() for stream in streams] + [state_stream]
        if len(set(names)) != len(names):
            raise ConfigurationError(f"each stream needs a topic of its own, got {sorted(names)}")
        self._streams = {name: _Stream() for name in names}
        self._jump = ""
        self._changed = threading.Condition()

    def push(self, stream: str, stamp_ns: int, payload: Any, arrival_ns: int, content: int | None = None) -> bool:
        """Add one message; returns whether it was kept. `arrival_ns`: the receiver's clock now.

        A stamp seen before counts as a frozen stream; one far behind its predecessor as a clock that jumped
        back, which empties every buffer; one ahead of the receiver's clock is refused. `content`: a digest of what a
        picture shows (`decoding.content_digest`); the same one again and again counts as a frozen camera.
        """
        tolerance_ns = _nanoseconds(self.settings.clock_tolerance_s)
        with self._changed:
            entry = self._streams[stream]
            entry.count += 1
            entry.arrival_ns = arrival_ns
            if stamp_ns > arrival_ns + tolerance_ns:
                entry.fault = (
                    f"{stream} is stamped {_seconds(stamp_ns - arrival_ns)} ahead of this machine's clock; "
                    "synchronise the clocks"
                )
                return False
            entry.fault = ""
            newest = entry.stamps_ns[-1] if entry.stamps_ns else None
            if newest is not None and stamp_ns < newest - tolerance_ns:
                self._jump = f"the stamps of {stream} jumped back by {_seconds(newest - stamp_ns)}"
                self._clear()
                entry.arrival_ns = arrival_ns
            if stamp_ns in entry.payloads:
                entry.repeats += 1
                return False
            entry.repeats = 0
            entry.compare(content)
            entry.insert(stamp_ns, payload, self.settings.capacity)
            self._changed.notify_all()
            return True

    def report_fault(self, stream: str, sentence: str) -> None:
        """Remember what is wrong with a stream's messages until a good one is pushed."""
        with self._changed:
            self._streams[stream].fault = sentence

    def match(self, not_before_ns: int = 0) -> MatchedSet | None:
        """The newest set whose stamps agree and are all at `not_before_ns` or later, or None."""
        with self._changed:
            return self._match(not_before_ns)

    def wait_match(
        self, not_before_ns: int, timeout_s: float, now_ns: Callable[[], int] | None = None
    ) -> MatchedSet | None:
        """Like `match`, waiting up to `timeout_s` for messages that complete a set.

        now_ns: the receiver's clock; where it is given there is no set as long as any stream is not well.
        """

        def found() -> MatchedSet | None:
            if now_ns is not None and self._ailments(now_ns()):
                return None
            return self._match(not_before_ns)

        with self._changed:
            self._changed.wait_for(lambda: found() is not None, timeout_s)
            return found()

    def counts(self) -> dict[str, int]:
        """Messages received so far, by stream."""
        with self._changed:
            return {name: stream.count for name, stream in self._streams.items()}

    def reasons(self, now_ns: int, not_before_ns: int = 0) -> list[str]:
        """One sentence for everything that keeps a set from being complete; empty where one is there."""
        with self._changed:
            unwell = self._ailments(now_ns)
            if not unwell and self._match(not_before_ns) is None:
                unwell = self._mismatch(not_before_ns)
            return ([self._jump] if self._jump and unwell else []) + unwell

    def _clear(self) -> None:
        """Forget every message, as they belong to another time."""
        for stream in self._streams.values():
            stream.clear()

    def _ailments(self, now_ns: int) -> list[str]:
        return [text for name in self._streams for text in self._unwell(name, now_ns)]

    def _match(self, not_before_ns: int) -> MatchedSet | None:
        pairs = [self._pairs(streams, not_before_ns) for streams in self._groups.values()]
        chosen = newest_agreeing(
            [[stamp for stamp, _ in group] for group in pairs], _nanoseconds(self.settings.set_tolerance_s)
        )
        if chosen is None:
            return None
        stamps: dict[str, int] = {}
        for group, index in zip(pairs, chosen, strict=True):
            stamps.update(group[index][1])
        self._jump = ""
        return MatchedSet(
            payloads={name: self._streams[name].payloads[stamp] for name, stamp in stamps.items()},
            stamps_ns=stamps,
            states={name: state for name, stamp in stamps.items() if (state := self._state_at(stamp)) is not None},
        )

    def _pairs(self, streams: Sequence[str], not_before_ns: int) -> list[tuple[int, dict[str, int]]]:
        """Complete sets of one group, oldest first: (oldest stamp of the set, stamp per stream)."""
        pairs = []
        for stamps in self._agreeing(streams, not_before_ns):
            oldest = min(stamps.values())
            if oldest >= not_before_ns and all(self._state_at(stamp) is not None for stamp in stamps.values()):
                pairs.append((oldest, stamps))
        return sorted(pairs, key=lambda pair: pair[0])

    def _agreeing(self, streams: Sequence[str], not_before_ns: int) -> Iterator[dict[str, int]]:
        """Stamps of the streams of one group that agree closely, one set for each picture of the leading stream."""
        tolerance_ns = _nanoseconds(self.settings.pair_tolerance_s)
        leads = self._streams[streams[0]].stamps_ns
        for lead in leads[bisect_left(leads, not_before_ns) :]:
            nearest = {name: self._streams[name].nearest(lead) for name in streams}
            stamps = {name: stamp for name, stamp in nearest.items() if stamp is not None}
            if len(stamps) == len(streams) and all(abs(stamp - lead) <= tolerance_ns for stamp in stamps.values()):
                yield stamps

    def _state_at(self, stamp_ns: int) -> Array | None:
        """The joint state at a stamp: interpolated between its neighbours, or the nearest one if close enough."""
        track = self._streams[self._state_stream]
        index = bisect_left(track.stamps_ns, stamp_ns)
        tolerance_ns = _nanoseconds(self.settings.state_tolerance_s)
        if 0 < index < len(track.stamps_ns):
            before, after = track.stamps_ns[index - 1], track.stamps_ns[index]
            if after - before <= 2 * tolerance_ns:
                return interpolate(before, track.payloads[before], after, track.payloads[after], stamp_ns)
        nearest = track.nearest(stamp_ns)
        if nearest is None or abs(nearest - stamp_ns) > tolerance_ns:
            return None
        return np.asarray(track.payloads[nearest], dtype=np.float64)

    def _unwell(self, name: str, now_ns: int) -> list[str]:
        """What is wrong with one stream on its own."""
        stream, silent_ns = self._streams[name], _nanoseconds(self.settings.silent_after_s)
        if stream.fault:
            return [stream.fault]
        if stream.arrival_ns is None:
            return [f"nothing has arrived on {name} {'since the clock jumped' if self._jump else 'yet'}"]
        if stream.stamps_ns and stream.stamps_ns[-1] > now_ns + _nanoseconds(self.settings.clock_tolerance_s):
            ahead = _seconds(stream.stamps_ns[-1] - now_ns)
            return [f"the newest message on {name} is {ahead} ahead of this machine's clock, which has jumped back"]
        if now_ns - stream.arrival_ns > silent_ns:
            return [f"{name} has been silent for {_seconds(now_ns - stream.arrival_ns)}"]
        if stream.repeats >= FROZEN_AFTER_REPEATS:
            return [f"{name} is frozen: the same stamp came {stream.repeats + 1} times"]
        if stream.alike and 0 < self.settings.frozen_after <= stream.alike + 1:
            return [
                f"{name} is frozen: the last {stream.alike + 1} pictures are alike although their stamps are new; "
                "restart the camera (for simulated pictures set streams.frozen_after to 0)"
            ]
        if stream.stamps_ns and stream.arrival_ns - stream.stamps_ns[-1] > silent_ns:
            lag = _seconds(stream.arrival_ns - stream.stamps_ns[-1])
            return [f"{name} is stale: its messages are {lag} old when they arrive"]
        return []

    def _mismatch(self, not_before_ns: int) -> list[str]:
        """Why streams that are all well do not make a set."""
        newest = {name: stream.stamps_ns[-1] for name, stream in self._streams.items() if stream.stamps_ns}
        early = [
            f"the newest message on {name} is {_seconds(not_before_ns - stamp)} older than asked for"
            for name, stamp in newest.items()
            if stamp < not_before_ns and name != self._state_stream
        ]
        if early:
            return early
        pictures = {name: stamp for name, stamp in newest.items() if name != self._state_stream}
        first, last = min(pictures, key=pictures.__getitem__), max(pictures, key=pictures.__getitem__)
        spread_ms = (pictures[last] - pictures[first]) / 1e6
        return [
            f"no pictures taken together: {first} is {spread_ms:.0f} ms behind {last}, with at most "
            f"{self.settings.pair_tolerance_s * 1e3:.0f} ms allowed within a camera, "
            f"{self.settings.set_tolerance_s * 1e3:.0f} ms between cameras and "
            f"{self.settings.state_tolerance_s * 1e3:.0f} ms to {self._state_stream}"
        ]


def newest_agreeing(stamps_ns: Sequence[Sequence[int]], tolerance_ns: int) -> list[int] | None:
    """Indices, one into each ascending list, of the newest stamps that spread over at most `tolerance_ns`.

    Newest means: no other agreeing choice has a later oldest member.
    """
    for oldest in sorted({stamp for group in stamps_ns for stamp in group}, reverse=True):
        chosen = [bisect_left(group, oldest) for group in stamps_ns]
        if all(
            index < len(group) and group[index] - oldest <= tolerance_ns
            for group, index in zip(stamps_ns, chosen, strict=True)
        ):
            return chosen
    return None


def interpolate(before_ns: int, before: ArrayLike, after_ns: int, after: ArrayLike, stamp_ns: int) -> Array:
    """Linear interpolation between two state vectors [S]."""
    fraction = (stamp_ns - before_ns) / (after_ns - before_ns)
    start = np.asarray(before, dtype=np.float64)
    return start + fraction * (np.asarray(after, dtype=np.float64) - start)


def _nanoseconds(seconds: float) -> int:
    return round(seconds * SECOND_NS)


def _seconds(nanoseconds: int) -> str:
    return f"{nanoseconds / SECOND_NS:.2f} s"
