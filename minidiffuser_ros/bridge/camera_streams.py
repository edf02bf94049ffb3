"""What the observer subscribes to. Callbacks only check and store; everything else happens when it is asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image, JointState

from minidiffuser_ros.arm.kinematics import STATE_NAMES
from minidiffuser_ros.bridge.headers import stamp_to_ns
from minidiffuser_ros.bridge.qos import SENSOR_DATA, subscription_events
from minidiffuser_ros.contract.episode import CameraTopics
from minidiffuser_ros.contract.errors import MessageError
from minidiffuser_ros.perception.decoding import (
    ImageMessage,
    camera_from_info,
    check_color,
    check_depth,
    content_digest,
    joint_positions,
)
from minidiffuser_ros.perception.streams import StampMatcher


class CameraStreams:
    """Subscriptions of cameras and joint states that fill a matcher.

    infos: the newest CameraInfo of each camera, under the keys of `CameraTopics.infos`.
    """

    def __init__(
        self, node: Node, topics: Mapping[str, CameraTopics], joint_states: str, matcher: StampMatcher
    ) -> None:
        self.infos: dict[str, CameraInfo] = {}
        self._node, self._topics, self._joint_states, self._matcher = node, dict(topics), joint_states, matcher
        self._info_faults: dict[str, str] = {}
        self._counted, self._counted_at = matcher.counts(), time.monotonic()
        self._group = ReentrantCallbackGroup()
        for camera, names in self._topics.items():
            for key, topic in names.infos(camera).items():
                self._subscribe(CameraInfo, topic, partial(self._on_info, key, topic), self._report_info)
            self._subscribe(Image, names.color, partial(self._on_image, names.color, check_color), matcher.report_fault)
            self._subscribe(Image, names.depth, partial(self._on_image, names.depth, check_depth), matcher.report_fault)
        self._subscribe(JointState, joint_states, self._on_joint_state, matcher.report_fault)

    def reasons(self) -> list[str]:
        """What is wrong with the streams that the matcher does not know."""
        wanted = [entry for camera, names in self._topics.items() for entry in names.infos(camera).items()]
        missing = [topic for key, topic in wanted if key not in self.infos]
        faults = [self._info_faults.get(topic, f"nothing has arrived on {topic} yet") for topic in missing]
        return faults + [fault for topic, fault in self._info_faults.items() if topic not in missing]

    def rates_hz(self) -> dict[str, float]:
        """Messages a second of each picture and joint state topic since the last call."""
        counts, now = self._matcher.counts(), time.monotonic()
        elapsed = max(now - self._counted_at, 1e-3)
        rates = {topic: (count - self._counted[topic]) / elapsed for topic, count in counts.items()}
        self._counted, self._counted_at = counts, now
        return rates

    def _subscribe(
        self, kind: type, topic: str, callback: Callable[[Any], None], report: Callable[[str, str], None]
    ) -> None:
        events = subscription_events(self._node, topic, partial(report, topic))
        self._node.create_subscription(
            kind, topic, callback, SENSOR_DATA, callback_group=self._group, event_callbacks=events
        )

    def _now_ns(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)

    def _on_image(self, topic: str, check: Callable[[ImageMessage], None], message: Image) -> None:
        try:
            check(message)
        except MessageError as error:
            self._matcher.report_fault(topic, f"{topic}: {error}")
            return
        stamp_ns = stamp_to_ns(message.header.stamp)
        self._matcher.push(topic, stamp_ns, message, self._now_ns(), content_digest(message))

    def _on_joint_state(self, message: JointState) -> None:
        try:
            state = joint_positions(message, STATE_NAMES)
        except MessageError as error:
            self._matcher.report_fault(self._joint_states, f"{self._joint_states}: {error}")
            return
        self._matcher.push(self._joint_states, stamp_to_ns(message.header.stamp), state, self._now_ns())

    def _on_info(self, key: str, topic: str, message: CameraInfo) -> None:
        try:
            camera_from_info(message)
        except MessageError as error:
            self._report_info(topic, f"{topic}: {error}")
        else:
            self._info_faults.pop(topic, None)
        self.infos[key] = message

    def _report_info(self, topic: str, sentence: str) -> None:
        self._info_faults[topic] = sentence
