"""The matcher for pictures that somebody else has paired: health, joint states and the agreement of cameras are its."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from minidiffuser_ros.perception.streams import SECOND_NS, StampMatcher, StreamSettings


class OfferedPairMatcher(StampMatcher):
    """A StampMatcher whose pairs are those offered to it. Offers name messages by stamp; these are pushed as ever."""

    def __init__(
        self, groups: Mapping[str, Sequence[str]], state_stream: str, settings: StreamSettings | None = None
    ) -> None:
        super().__init__(groups, state_stream, settings)
        self._offers: dict[tuple[str, ...], deque[dict[str, int]]] = {
            streams: deque(maxlen=self.settings.capacity) for streams in self._groups.values()
        }

    def offer(self, streams: Sequence[str], stamps_ns: Sequence[int]) -> None:
        """These messages of a group belong together. Returns at once."""
        with self._changed:
            self._offers[tuple(streams)].append(dict(zip(streams, stamps_ns, strict=True)))
            self._changed.notify_all()

    def _agreeing(self, streams: Sequence[str], not_before_ns: int) -> Iterator[dict[str, int]]:
        tolerance_ns = round(self.settings.pair_tolerance_s * SECOND_NS)
        for stamps in self._offers[tuple(streams)]:
            # A message may have left its buffer meanwhile.
            kept = all(stamp in self._streams[name].payloads for name, stamp in stamps.items())
            if kept and max(stamps.values()) - min(stamps.values()) <= tolerance_ns:
                yield stamps

    def _clear(self) -> None:
        super()._clear()
        for offers in self._offers.values():
            offers.clear()
