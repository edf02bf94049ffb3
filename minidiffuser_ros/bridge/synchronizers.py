"""Who pairs the colour and depth of a camera: the matcher by stamp of this package, or ROS's message_filters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.perception.decoding import stamp_to_ns
from minidiffuser_ros.perception.offered import OfferedPairMatcher
from minidiffuser_ros.perception.streams import StampMatcher, StreamSettings

STAMPS, MESSAGE_FILTERS = "stamps", "message_filters"
SYNCHRONIZERS = (STAMPS, MESSAGE_FILTERS)


def make_matcher(
    synchronizer: str, groups: Mapping[str, Sequence[str]], joint_states: str, settings: StreamSettings
) -> StampMatcher:
    """The matcher of pictures (`groups`: camera → its topics) and joint states.

    Raises ConfigurationError where message_filters is asked for and not installed.
    """
    if synchronizer == MESSAGE_FILTERS:
        return FilteredMatcher(groups, joint_states, settings)
    return StampMatcher(groups, joint_states, settings)


class FilteredMatcher(OfferedPairMatcher):
    """Pairs come from an ApproximateTimeSynchronizer for each camera; everything else is the StampMatcher's.

    One for all cameras would have to take their wide tolerance for colour and depth, too.
    """

    def __init__(self, groups: Mapping[str, Sequence[str]], state_stream: str, settings: StreamSettings) -> None:
        super().__init__(groups, state_stream, settings)
        try:
            import message_filters
        except ImportError:
            raise ConfigurationError(
                f"synchronizer is '{MESSAGE_FILTERS}', but the ROS package message_filters is not installed: install "
                f"ros-$ROS_DISTRO-message-filters or set synchronizer to '{STAMPS}'"
            ) from None
        self._package: Any = message_filters
        self._filters: dict[str, Any] = {}
        self._connect()

    def push(self, stream: str, stamp_ns: int, payload: Any, arrival_ns: int, content: int | None = None) -> bool:
        """As the StampMatcher; a picture that is kept goes through its camera's filter as well."""
        kept = super().push(stream, stamp_ns, payload, arrival_ns, content)
        # Outside of the matcher's lock: the filter holds its own while it calls `_enqueue`, which takes the matcher's.
        if kept and (entry := self._filters.get(stream)) is not None:
            entry.signalMessage(payload)
        return kept

    def _connect(self) -> None:
        settings = self.settings
        filters: dict[str, Any] = {}
        for streams in self._groups.values():
            entries = [self._package.SimpleFilter() for _ in streams]
            synchronizer = self._package.ApproximateTimeSynchronizer(
                entries, settings.capacity, settings.pair_tolerance_s
            )
            synchronizer.registerCallback(partial(self._enqueue, streams))
            filters |= dict(zip(streams, entries, strict=True))
        self._filters = filters

    def _enqueue(self, streams: Sequence[str], *messages: Any) -> None:
        self.offer(streams, [stamp_to_ns(message.header.stamp) for message in messages])

    def _clear(self) -> None:
        super()._clear()
        # The filters drop the oldest stamps first: after a jump back those would be the new ones.
        self._connect()
