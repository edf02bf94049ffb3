"""Keeps the picture that belongs to each decision, with the candidates that were drawn for it, and what it reused."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image
from visualization_msgs.msg import Marker, MarkerArray

from minidiffuser_ros.bridge.conversions import camera_from_info, color_from_image, stamp_to_ns
from minidiffuser_ros.bridge.qos import RELIABLE, SENSOR_DATA
from minidiffuser_ros.contract.errors import ConnectionLostError
from minidiffuser_ros.geometry.camera import PinholeCamera

PICTURES_KEPT = 40
DECISIONS_KEPT = 200  # the newest ones; pictures of 640x480 take a megabyte each


@dataclass(frozen=True)
class DecisionPicture:
    """The picture [H, W, 3] a decision was made from, its candidates [N, 3] m and whether each [N] is open."""

    picture: NDArray[np.uint8]
    candidates: NDArray[np.float64]
    open: NDArray[np.bool_]


class DecisionPictures:
    """Watches one camera and `policy/candidates` on a node that somebody else spins."""

    def __init__(self, node: Node, camera: str) -> None:
        self._camera = camera
        self._pictures: deque[Image] = deque(maxlen=PICTURES_KEPT)
        self._info: CameraInfo | None = None
        self._decisions: dict[int, DecisionPicture] = {}
        self._changed = threading.Condition()
        node.create_subscription(Image, f"{camera}/color/image_raw", self._on_picture, SENSOR_DATA)
        node.create_subscription(CameraInfo, f"{camera}/color/camera_info", self._on_info, SENSOR_DATA)
        node.create_subscription(MarkerArray, "policy/candidates", self._on_candidates, RELIABLE)

    def camera(self) -> PinholeCamera:
        """Intrinsics of the camera. Raises ConnectionLostError where none have arrived."""
        if self._info is None:
            raise ConnectionLostError(f"nothing has arrived on {self._camera}/color/camera_info")
        return camera_from_info(self._info)

    def wait_picture(self, after_ns: int, timeout_s: float, count: int = 1) -> NDArray[np.uint8]:
        """The newest picture, once `count` have been taken after a stamp. Raises ConnectionLostError."""

        def enough() -> bool:
            return sum(stamp_to_ns(picture.header.stamp) > after_ns for picture in self._pictures) >= count

        with self._changed:
            if not self._changed.wait_for(enough, timeout_s):
                raise ConnectionLostError(f"no picture of the camera '{self._camera}' within {timeout_s:g} s")
            return color_from_image(self._pictures[-1])

    def of_decision(self, stamp_ns: int) -> DecisionPicture | None:
        """What belongs to the decision whose observation has this stamp."""
        return self._decisions.get(stamp_ns)

    def _on_info(self, message: CameraInfo) -> None:
        self._info = message

    def _on_picture(self, message: Image) -> None:
        with self._changed:
            self._pictures.append(message)
            self._changed.notify_all()

    def _on_candidates(self, message: MarkerArray) -> None:
        if not message.markers or not self._pictures:
            return
        stamp_ns = stamp_to_ns(message.markers[0].header.stamp)
        nearest = min(list(self._pictures), key=lambda picture: abs(stamp_to_ns(picture.header.stamp) - stamp_ns))
        spheres = next((m for m in message.markers if m.ns == "candidates"), Marker())
        points = np.array([(p.x, p.y, p.z) for p in spheres.points], dtype=np.float64).reshape(-1, 3)
        # Green means open, orange closed: see `candidate_markers`.
        is_open = np.array([color.g > color.r for color in spheres.colors], dtype=bool)
        self._decisions[stamp_ns] = DecisionPicture(color_from_image(nearest), points, is_open)
        if len(self._decisions) > DECISIONS_KEPT:
            del self._decisions[next(iter(self._decisions))]


class PruningPictures:
    """Watches `policy/pruning` on a node that somebody else spins: what each pruned walk computed and reused."""

    def __init__(self, node: Node) -> None:
        self._pictures: deque[NDArray[np.uint8]] = deque(maxlen=DECISIONS_KEPT)
        node.create_subscription(Image, "policy/pruning", self._on_picture, RELIABLE)

    def stacked(self) -> NDArray[np.uint8] | None:
        """The newest pictures below each other [H, W, 3], in the order of the decisions; None without any."""
        pictures = list(self._pictures)
        if not pictures:
            return None
        width = max(picture.shape[1] for picture in pictures)
        return np.concatenate([np.pad(p, ((0, 0), (0, width - p.shape[1]), (0, 0)), "edge") for p in pictures])

    def _on_picture(self, message: Image) -> None:
        self._pictures.append(color_from_image(message))
