"""Every conversion between messages and arrays under one name: `from minidiffuser_ros.bridge.conversions import …`."""

from __future__ import annotations

from minidiffuser_ros.bridge.clouds import cloud_from_points, points_from_cloud
from minidiffuser_ros.bridge.headers import header, stamp_from_ns, stamp_to_ns
from minidiffuser_ros.bridge.images import (
    camera_from_info,
    color_from_image,
    depth_from_image,
    image_from_color,
    image_from_depth,
    image_from_millimetres,
    info_from_camera,
)
from minidiffuser_ros.bridge.markers import candidate_markers
from minidiffuser_ros.bridge.observations import fill_capture, observation_from_capture, refuse_capture
from minidiffuser_ros.bridge.poses import (
    joint_positions,
    joint_state,
    keypose_from_message,
    keypose_to_message,
    pose_from_message,
    pose_to_message,
    stamped_pose,
    transform_from_message,
    twist_from_message,
    twist_to_message,
)

__all__ = [
    "camera_from_info",
    "candidate_markers",
    "cloud_from_points",
    "color_from_image",
    "depth_from_image",
    "fill_capture",
    "header",
    "image_from_color",
    "image_from_depth",
    "image_from_millimetres",
    "info_from_camera",
    "joint_positions",
    "joint_state",
    "keypose_from_message",
    "keypose_to_message",
    "observation_from_capture",
    "points_from_cloud",
    "pose_from_message",
    "pose_to_message",
    "refuse_capture",
    "stamp_from_ns",
    "stamp_to_ns",
    "stamped_pose",
    "transform_from_message",
    "twist_from_message",
    "twist_to_message",
]
