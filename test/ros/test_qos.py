"""Two ends that do not fit are told apart in the log; a late subscriber still hears the last status."""

from __future__ import annotations

import pytest
from rclpy.context import Context
from rclpy.node import Node
from spinning import eventually, spinning
from std_msgs.msg import String

from minidiffuser_ros.bridge.qos import LATCHED, RELIABLE, SENSOR_DATA, publisher_events, subscription_events

pytestmark = pytest.mark.ros


def test_an_incompatible_publisher_is_reported_by_the_subscriber(
    context: Context, capfd: pytest.CaptureFixture[str]
) -> None:
    node = Node("listener", context=context)
    events = subscription_events(node, "pictures")
    node.create_subscription(String, "pictures", lambda message: None, RELIABLE, event_callbacks=events)
    node.create_publisher(String, "pictures", SENSOR_DATA)
    told = ""
    with spinning(context, node):

        def heard() -> bool:
            nonlocal told
            told += capfd.readouterr().err
            return "'pictures'" in told

        eventually(heard)
    assert "reliability" in told
    assert "change its QoS" in told


def test_an_incompatible_subscriber_is_reported_by_the_publisher(
    context: Context, capfd: pytest.CaptureFixture[str]
) -> None:
    node = Node("talker", context=context)
    node.create_publisher(String, "status", RELIABLE, event_callbacks=publisher_events(node, "status"))
    node.create_subscription(String, "status", lambda message: None, LATCHED)
    told = ""
    with spinning(context, node):

        def heard() -> bool:
            nonlocal told
            told += capfd.readouterr().err
            return "'status'" in told and "durability" in told

        eventually(heard)


def test_a_late_subscriber_gets_the_last_status_only(context: Context) -> None:
    node = Node("node", context=context)
    publisher = node.create_publisher(String, "status", LATCHED)
    for text in ("first", "last"):
        publisher.publish(String(data=text))
    heard: list[str] = []
    with spinning(context, node):
        node.create_subscription(String, "status", lambda message: heard.append(message.data), LATCHED)
        eventually(lambda: heard)
    assert heard == ["last"]
