"""Which topics each camera of a node has: templates for all of them, and `cameras.NAME.…` for one that differs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from rclpy.node import Node

from minidiffuser_ros.bridge.parameters import NodeParameters
from minidiffuser_ros.contract.episode import CameraTopics, OwnTopics
from minidiffuser_ros.contract.errors import ConfigurationError

# Suffixes of image_transport, whose messages are no sensor_msgs/Image.
COMPRESSED = ("/compressed", "/compressedDepth", "/theora", "/ffmpeg", "/zstd")


class TopicTemplates(Protocol):
    """Settings with a topic for all cameras; `{camera}` stands for the name of each."""

    @property
    def color_topic(self) -> str: ...
    @property
    def depth_topic(self) -> str: ...
    @property
    def info_topic(self) -> str: ...


def own_prefix(camera: str) -> str:
    """Where the parameters of one camera stand."""
    return f"cameras.{camera}"


def camera_topics(node: Node, templates: TopicTemplates, cameras: Iterable[str]) -> dict[str, CameraTopics]:
    """Fully qualified topics by camera; declares the parameters of each.

    Raises ConfigurationError for pictures that are compressed.
    """
    return {camera: _topics_of(node, templates, camera) for camera in cameras}


def _topics_of(node: Node, templates: TopicTemplates, camera: str) -> CameraTopics:
    own = NodeParameters(node, OwnTopics(), own_prefix(camera), read_only=True).value
    chosen = (
        own.color_topic or templates.color_topic,
        own.depth_topic or templates.depth_topic,
        own.info_topic or templates.info_topic,
    )
    color, depth, info = (node.resolve_topic_name(text.replace("{camera}", camera)) for text in chosen)
    for topic in (color, depth):
        if topic.endswith(COMPRESSED):
            raise ConfigurationError(
                f"'{topic}' of camera '{camera}' holds compressed pictures, which are not read here; name the raw "
                "topic, or decompress with: ros2 run image_transport republish"
            )
    depth_info = node.resolve_topic_name(own.depth_info_topic) if own.depth_info_topic else ""
    return CameraTopics(color, depth, info, depth_info, own.depth_scale)
