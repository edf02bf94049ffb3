"""The three kinds of connection this package uses, and a word when two ends do not fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy, qos_policy_name_from_kind

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
except ImportError:  # ROS 2 Humble
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks

# Pictures and joint states: the newest counts, a lost one is not sent again.
SENSOR_DATA = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=5,
    reliability=ReliabilityPolicy.BEST_EFFORT,
    durability=DurabilityPolicy.VOLATILE,
)
# Status: who comes late still gets the last one.
LATCHED = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
# Goals, commands and telemetry: every one arrives.
RELIABLE = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=10,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.VOLATILE,
)


def subscription_events(
    node: Node, topic: str, tell: Callable[[str], None] = lambda sentence: None
) -> SubscriptionEventCallbacks:
    """Event callbacks for a subscription: an incompatible publisher is an error in the log that names the policy.

    `tell` gets the same sentence.
    """

    def report(event: Any) -> None:
        sentence = (
            f"a publisher of '{topic}' offers a quality of service that this node cannot use "
            f"({_policy_name(event)}); nothing will be received from it: change its QoS"
        )
        node.get_logger().error(sentence)
        tell(sentence)

    return SubscriptionEventCallbacks(incompatible_qos=report, use_default_callbacks=False)


def publisher_events(node: Node, topic: str) -> PublisherEventCallbacks:
    """Event callbacks for a publisher: an incompatible subscriber is an error in the log that names the policy."""

    def report(event: Any) -> None:
        node.get_logger().error(
            f"a subscriber of '{topic}' asks for a quality of service that this node does not offer "
            f"({_policy_name(event)}); it will receive nothing: change its QoS"
        )

    return PublisherEventCallbacks(incompatible_qos=report, use_default_callbacks=False)


def _policy_name(event: Any) -> str:
    return str(qos_policy_name_from_kind(event.last_policy_kind)).lower()
