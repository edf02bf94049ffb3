"""Poses from TF, where tf2_ros is installed: it comes with ROS's own packages and not with the wheels."""

from __future__ import annotations

import importlib
import re
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.time import Time

from minidiffuser_ros.bridge.poses import transform_from_message
from minidiffuser_ros.contract.errors import ConfigurationError, MessageError
from minidiffuser_ros.contract.observation import CameraMount
from minidiffuser_ros.geometry.transform import pose_of
from minidiffuser_ros.perception.mounts import KnownFrames, checked_mount, resolved

Array = NDArray[np.float64]

# Links between base and hand: what is mounted there moves against both.
MOVING_LINK = re.compile(r".*_link[1-6]")


class TransformTree:
    """The frames that TF tells of, listened to by a node that spins. Raises ConfigurationError without tf2_ros."""

    def __init__(self, node: Node) -> None:
        try:
            self._tf2: Any = importlib.import_module("tf2_ros")
        except ImportError:
            raise ConfigurationError(
                "calibration 'tf' needs the package tf2_ros, which is not installed: install ROS's own tf2_ros "
                "(apt install ros-jazzy-tf2-ros-py), or name a file with the pose of each camera"
            ) from None
        self._buffer = self._tf2.Buffer()
        self._listener = self._tf2.TransformListener(self._buffer, node)

    def parents(self) -> dict[str, str]:
        """The parent of every frame that has one."""
        tree = yaml.safe_load(self._buffer.all_frames_as_yaml()) or {}
        return {str(frame): str(about["parent"]) for frame, about in tree.items()} if isinstance(tree, dict) else {}

    def transform(self, target: str, source: str) -> Array:
        """The newest `T_target_source` [4, 4]. Raises MessageError where TF has none."""
        try:
            message = self._buffer.lookup_transform(target, source, Time())
        except self._tf2.TransformException as error:
            raise MessageError(f"TF has no transform from {source!r} to {target!r} yet: {error}") from None
        return transform_from_message(message.transform)

    def close(self) -> None:
        """Stop listening."""
        self._listener.unregister()


def mount_from_tf(tree: TransformTree, camera: str, optical_frame: str, known_frames: KnownFrames) -> CameraMount:
    """Where TF says that a camera sits: on the first known frame of the arm above its optical frame, or on the base.

    Raises MessageError while TF does not connect the camera with the arm, and for a camera on a link that moves
    against base and hand; ConfigurationError for an identity.
    """
    parents, frame = tree.parents(), optical_frame
    if frame not in parents:
        raise MessageError(f"TF has no frame {frame!r} for the camera {camera!r} yet; it has {sorted(parents)}")
    seen: list[str] = []
    while frame in parents and frame not in known_frames and frame not in seen:
        seen.append(frame)
        frame = parents[frame]
        if frame not in known_frames and MOVING_LINK.fullmatch(frame):
            raise MessageError(f"TF mounts the camera {camera!r} on {frame!r}, which is neither the base nor the hand")
    if frame not in known_frames:
        # The camera stands beside the arm: both hang on the same root, such as a world or a table.
        bases = [name for name in known_frames if name in parents and _root(name, parents) == frame]
        if not bases:
            raise MessageError(f"TF does not connect the camera {camera!r} ({optical_frame}) with the arm's base yet")
        frame = min(bases, key=lambda name: len(_chain(name, parents)))
    where = f"TF, from {frame} to {optical_frame}"
    parent, pose = resolved(frame, tree.transform(frame, optical_frame), known_frames, where)
    position, quat = pose_of(pose)
    return checked_mount(camera, parent, position.tolist(), quat.tolist(), where)


def _chain(frame: str, parents: dict[str, str]) -> list[str]:
    chain = [frame]
    while chain[-1] in parents and parents[chain[-1]] not in chain:
        chain.append(parents[chain[-1]])
    return chain


def _root(frame: str, parents: dict[str, str]) -> str:
    return _chain(frame, parents)[-1]
