"""A stand-in for tf2_ros, which has no wheel: the part of its surface that this package uses, on fixed transforms."""

from __future__ import annotations

import types
from collections.abc import Mapping

import numpy as np
import yaml
from geometry_msgs.msg import Transform, TransformStamped
from rclpy.node import Node
from rclpy.time import Time

from minidiffuser_ros.geometry.transform import invert, pose_of


class TransformException(Exception):  # tf2's own name
    """What tf2 raises for every transform it does not have."""


def stand_in(edges: Mapping[str, tuple[str, np.ndarray]]) -> types.ModuleType:
    """A module whose buffers hold `edges`: child frame → (parent frame, T_parent_child); it may be added to later."""

    class Buffer:
        def all_frames_as_yaml(self) -> str:
            return yaml.safe_dump({child: {"parent": parent, "rate": 10000.0} for child, (parent, _) in edges.items()})

        def lookup_transform(self, target_frame: str, source_frame: str, time: Time) -> TransformStamped:
            assert isinstance(time, Time)
            target_root, T_root_target = self._from_root(target_frame)
            source_root, T_root_source = self._from_root(source_frame)
            if target_root != source_root:
                raise TransformException(f"{target_frame} and {source_frame} are not part of the same tree")
            position, quat = pose_of(invert(T_root_target) @ T_root_source)
            message = TransformStamped(transform=Transform())
            message.transform.translation.x, message.transform.translation.y, message.transform.translation.z = position
            for name, value in zip("wxyz", quat, strict=True):
                setattr(message.transform.rotation, name, float(value))
            return message

        def _from_root(self, frame: str) -> tuple[str, np.ndarray]:
            T_root_frame = np.eye(4)
            while frame in edges:
                frame, T_parent_child = edges[frame][0], edges[frame][1]
                T_root_frame = T_parent_child @ T_root_frame
            return frame, T_root_frame

    class TransformListener:
        def __init__(self, buffer: Buffer, node: Node) -> None:
            assert isinstance(node, Node)
            self.open = True

        def unregister(self) -> None:
            self.open = False

    module = types.ModuleType("tf2_ros")
    module.Buffer, module.TransformListener = Buffer, TransformListener  # type: ignore[attr-defined]
    module.TransformException = TransformException  # type: ignore[attr-defined]
    return module
