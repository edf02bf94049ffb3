"""Views of a calibration board from the running graph: a picture and the arm's joints, while both stand still."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image, JointState

from minidiffuser_ros.arm.kinematics import MAX_GRIPPER_WIDTH, STATE_NAMES
from minidiffuser_ros.bridge.conversions import stamp_to_ns
from minidiffuser_ros.bridge.images import camera_from_info, color_from_image, depth_from_image
from minidiffuser_ros.bridge.poses import joint_positions
from minidiffuser_ros.bridge.qos import SENSOR_DATA
from minidiffuser_ros.contract.errors import ConnectionLostError, MessageError, MotionError
from minidiffuser_ros.geometry.camera import PinholeCamera
from minidiffuser_ros.perception.assembly import opening_of

T = TypeVar("T")

# Longer than a picture takes on its way, shorter than a person waits.
TIMEOUT_S, POLL_S = 5.0, 0.02
# While the picture is taken the arm may move by no more: what a hand that leads it lets through.
STILL_S, STILL_RAD = 0.4, 1e-3
STATES_KEPT = 4000
DISTORTION_MODELS = ("", "plumb_bob", "rational_polynomial")


@dataclass(frozen=True)
class TakenView:
    """Colour [H, W, 3], depth [H, W] in metres or None, the camera and its distortion, joints [7], opening [0, 1]."""

    color: NDArray[np.uint8]
    depth: NDArray[np.float32] | None
    camera: PinholeCamera
    distortion: tuple[float, ...]
    joints: NDArray[np.float64]
    opening: float


class ViewTaker:
    """Listens to one camera and the arm while it is entered. rectified: the pictures are, whatever CameraInfo says."""

    def __init__(self, color_topic: str, depth_topic: str, info_topic: str, rectified: bool = False) -> None:
        self._topics, self._rectified = (color_topic, depth_topic, info_topic), rectified
        self._context = Context()
        self._color: Image | None = None
        self._depth: Image | None = None
        self._info: CameraInfo | None = None
        self._states: deque[tuple[int, JointState]] = deque(maxlen=STATES_KEPT)

    def __enter__(self) -> ViewTaker:
        self._context.init()
        self._node = Node("view_taker", context=self._context)
        color, depth, info = self._topics
        self._node.create_subscription(Image, color, self._on_color, SENSOR_DATA)
        self._node.create_subscription(Image, depth, self._on_depth, SENSOR_DATA)
        self._node.create_subscription(CameraInfo, info, self._on_info, SENSOR_DATA)
        self._node.create_subscription(JointState, "joint_states", self._on_state, SENSOR_DATA)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context.try_shutdown()
        self._thread.join(5.0)
        self._node.destroy_node()

    def take(self) -> TakenView:
        """A picture stamped from now on, with the joints of its moment.

        Raises ConnectionLostError for a topic that stays silent, MotionError while the arm moves, MessageError for
        messages that cannot be used.
        """
        asked_ns = int(self._node.get_clock().now().nanoseconds)
        info = self._awaited(lambda: self._info, self._topics[2])
        color = self._awaited(lambda: _not_before(self._color, asked_ns + int(STILL_S * 1e9)), self._topics[0])
        stamp_ns = stamp_to_ns(color.header.stamp)
        # The state after the picture must be there, too, to know that nothing moved meanwhile.
        self._awaited(lambda: self._states and self._states[-1][0] >= stamp_ns, "joint_states")
        states = [(at, joint_positions(message, STATE_NAMES)) for at, message in list(self._states) if at >= asked_ns]
        values = np.array([state[:7] for _, state in states])
        if (moved := float(np.ptp(values, axis=0).max())) > STILL_RAD:
            raise MotionError(f"the arm moved by {np.rad2deg(moved):.2f}° while the picture was taken: hold it still")
        _, state = min(states, key=lambda pair: abs(pair[0] - stamp_ns))
        depth = _not_before(self._depth, asked_ns)
        return TakenView(
            color_from_image(color),
            None if depth is None else self._same_size(depth_from_image(depth), info),
            camera_from_info(info),
            self._distortion(info),
            values.mean(axis=0),
            opening_of(state[7:], MAX_GRIPPER_WIDTH),
        )

    def _same_size(self, depth: NDArray[np.float32], info: CameraInfo) -> NDArray[np.float32] | None:
        """Depth in the colour picture's pixels, None for any other."""
        return depth if depth.shape == (info.height, info.width) else None

    def _distortion(self, info: CameraInfo) -> tuple[float, ...]:
        if self._rectified or not any(info.d):
            return ()
        if info.distortion_model not in DISTORTION_MODELS:
            raise MessageError(
                f"{self._topics[2]} tells the distortion model '{info.distortion_model:.40}'; understood are "
                f"{', '.join(DISTORTION_MODELS[1:])}: calibrate on the rectified picture"
            )
        return tuple(float(v) for v in info.d)

    def _awaited(self, probe: Callable[[], T | None], topic: str) -> T:
        """The first value of `probe` that is there. Raises ConnectionLostError."""
        deadline = time.monotonic() + TIMEOUT_S
        while not (value := probe()):
            if time.monotonic() > deadline:
                name = self._node.resolve_topic_name(topic)
                raise ConnectionLostError(f"nothing new arrived on {name} within {TIMEOUT_S:g} s: is its node running?")
            time.sleep(POLL_S)
        return value

    def _on_color(self, message: Image) -> None:
        self._color = message

    def _on_depth(self, message: Image) -> None:
        self._depth = message

    def _on_info(self, message: CameraInfo) -> None:
        self._info = message

    def _on_state(self, message: JointState) -> None:
        self._states.append((stamp_to_ns(message.header.stamp), message))

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            return


def _not_before(message: Image | None, stamp_ns: int) -> Image | None:
    return message if message is not None and stamp_to_ns(message.header.stamp) >= stamp_ns else None
