"""Raw subscriptions of a recorder: each message is counted and handed on as the bytes it came in."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import partial
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription

from minidiffuser_ros.bridge.qos import subscription_events
from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.episodes.liveness import StreamMeter
from minidiffuser_ros.episodes.timeline import IMAGE
from minidiffuser_ros.episodes.writer import EpisodeWriter

# Two seconds of pictures at 15 Hz and of states at 100 Hz: a recorder that is held up for so long loses nothing.
PICTURE_DEPTH, STATE_DEPTH = 30, 256


class Intake:
    """Subscribes to topics of any type. `writer` gets every message while it is set; `meters` count all of them."""

    def __init__(self, node: Node, types: Mapping[str, str]) -> None:
        """types: topic → message type. Raises ConfigurationError for a type that is not installed."""
        self.meters = {topic: StreamMeter() for topic in types}
        self.writer: EpisodeWriter | None = None
        self._lost_before = dict.fromkeys(types, 0)
        self._node = node
        # For as long as the node lives: rclpy cannot destroy a subscription with events while an executor waits for it.
        self._subscriptions = [self._subscribe(topic, kind) for topic, kind in types.items()]

    def begin(self, writer: EpisodeWriter) -> None:
        """Hand everything that arrives from now on to `writer`."""
        self._lost_before = {topic: meter.lost for topic, meter in self.meters.items()}
        self.writer = writer

    def lost(self) -> dict[str, int]:
        """Messages of the episode that the middleware lost, by topic."""
        return {topic: meter.lost - self._lost_before[topic] for topic, meter in self.meters.items()}

    def _subscribe(self, topic: str, kind: str) -> Subscription:
        meter = self.meters[topic]
        events = subscription_events(self._node, topic)
        events.message_lost = lambda event: meter.lose(event.total_count_change)
        # Best effort fits every publisher. One group a topic: messages stay in order, and no topic waits.
        profile = QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=PICTURE_DEPTH if kind == IMAGE else STATE_DEPTH,
            reliability=ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.VOLATILE,
        )
        return self._node.create_subscription(
            message_class(kind),
            topic,
            partial(self._on_message, topic, meter),
            profile,
            callback_group=MutuallyExclusiveCallbackGroup(),
            event_callbacks=events,
            raw=True,
        )

    def _on_message(self, topic: str, meter: StreamMeter, data: bytes, info: dict[str, Any]) -> None:
        meter.hit(data)
        writer = self.writer
        if writer is not None:
            writer.write(topic, info["received_timestamp"], data, info.get("publication_sequence_number") or 0)


def message_class(kind: str) -> Any:
    """The class of a message type, `package/msg/Type`. Raises ConfigurationError if it is not installed."""
    package, _, name = kind.partition("/msg/")
    try:
        if not (package.isidentifier() and name.isidentifier()):
            raise ImportError
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError):
        raise ConfigurationError(f"the message type '{kind:.80}' is not installed; source its workspace") from None
