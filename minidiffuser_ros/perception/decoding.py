"""What messages of cameras and joints hold, as arrays.

Nothing here knows where a message comes from: rclpy's have the same fields as those that a recording is read into, so
that a node and a training machine without ROS decode by the very same lines.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.contract.episode import DEPTH_SCALE
from minidiffuser_ros.contract.errors import MessageError
from minidiffuser_ros.geometry.camera import PinholeCamera

NANOSECONDS = 1_000_000_000
MILLIMETRE = np.float32(DEPTH_SCALE)

# encoding: (dtype of one channel, channels, indices of red, green and blue)
COLOR_ENCODINGS: dict[str, tuple[str, int, tuple[int, int, int]]] = {
    "rgb8": ("u1", 3, (0, 1, 2)),
    "bgr8": ("u1", 3, (2, 1, 0)),
    "rgba8": ("u1", 4, (0, 1, 2)),
    "bgra8": ("u1", 4, (2, 1, 0)),
    "mono8": ("u1", 1, (0, 0, 0)),
    "8UC1": ("u1", 1, (0, 0, 0)),
    "8UC3": ("u1", 3, (2, 1, 0)),
    "mono16": ("u2", 1, (0, 0, 0)),
}
DEPTH_ENCODINGS: dict[str, str] = {"16UC1": "u2", "mono16": "u2", "32FC1": "f4"}
# Bytes between two that a digest looks at: a prime, so that every column and channel has its turn.
DIGEST_STRIDE = 97


class Stamp(Protocol):
    """builtin_interfaces/Time."""

    sec: int
    nanosec: int


class Header(Protocol):
    """std_msgs/Header."""

    stamp: Any
    frame_id: str


class ImageMessage(Protocol):
    """sensor_msgs/Image; `data` is anything that holds bytes."""

    header: Any
    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: Any


class CameraInfoMessage(Protocol):
    """sensor_msgs/CameraInfo, as far as a rectified picture needs it."""

    header: Any
    height: int
    width: int
    k: Any


class JointStateMessage(Protocol):
    """sensor_msgs/JointState."""

    name: Any
    position: Any
    velocity: Any


def stamp_to_ns(stamp: Stamp) -> int:
    """Nanoseconds since the epoch of the clock in use."""
    return int(stamp.sec) * NANOSECONDS + int(stamp.nanosec)


def color_from_image(message: ImageMessage) -> NDArray[np.uint8]:
    """RGB picture [H, W, 3] of an Image in any encoding of COLOR_ENCODINGS; 16-bit grey keeps its high byte.

    Raises MessageError for another encoding or for data that does not fill the picture.
    """
    check_color(message)
    dtype, channels, rgb = COLOR_ENCODINGS[message.encoding]
    pixels = _pixels(message, dtype, channels)
    if pixels.dtype == np.uint16:
        pixels = pixels >> 8
    return np.ascontiguousarray(pixels[..., rgb], dtype=np.uint8)


def depth_from_image(message: ImageMessage, scale: float = DEPTH_SCALE) -> NDArray[np.float32]:
    """Depth [H, W] in metres of an Image in 16UC1 or 32FC1 (metres); 0 or NaN mark unknown pixels.

    scale: metres of one count of 16UC1, ROS's own are millimetres.

    Raises MessageError for another encoding or for data that does not fill the picture.
    """
    check_depth(message)
    depth = _pixels(message, DEPTH_ENCODINGS[message.encoding], 1)[..., 0]
    if depth.dtype == np.uint16:
        return depth.astype(np.float32) * np.float32(scale)
    return depth.astype(np.float32)


def check_color(message: ImageMessage) -> None:
    """Raises MessageError where `color_from_image` would; looks at no pixel."""
    if message.encoding not in COLOR_ENCODINGS:
        raise MessageError(_unknown_encoding("colour", message, COLOR_ENCODINGS))
    dtype, channels, _ = COLOR_ENCODINGS[message.encoding]
    _check_size(message, channels * np.dtype(dtype).itemsize)


def check_depth(message: ImageMessage) -> None:
    """Raises MessageError where `depth_from_image` would; looks at no pixel."""
    if message.encoding not in DEPTH_ENCODINGS:
        raise MessageError(_unknown_encoding("depth", message, DEPTH_ENCODINGS))
    _check_size(message, np.dtype(DEPTH_ENCODINGS[message.encoding]).itemsize)


def content_digest(message: ImageMessage) -> int:
    """A number that is the same for pictures of the same content; of a part of their bytes, for the sake of time."""
    return zlib.crc32(np.frombuffer(message.data, np.uint8)[::DIGEST_STRIDE].tobytes())


def camera_from_info(message: CameraInfoMessage) -> PinholeCamera:
    """The pinhole camera of CameraInfo's K. Raises MessageError for an uncalibrated camera (zeros in K)."""
    fx, fy, cx, cy = float(message.k[0]), float(message.k[4]), float(message.k[2]), float(message.k[5])
    size_is_known = message.width > 0 and message.height > 0
    if not (size_is_known and np.isfinite([fx, fy, cx, cy]).all() and fx > 0 and fy > 0):
        raise MessageError(
            f"camera_info in '{message.header.frame_id}' gives {message.width}x{message.height} pixels and focal "
            f"lengths ({fx}, {fy}); calibrate the camera or check that its driver publishes K"
        )
    return PinholeCamera(int(message.width), int(message.height), fx, fy, cx, cy)


def joint_positions(message: JointStateMessage, names: Sequence[str]) -> NDArray[np.float64]:
    """Positions [len(names)] in the order of `names`, whatever the order in the message.

    Raises MessageError if a name or its position is missing.
    """
    if len(message.position) < len(message.name):
        raise MessageError(
            f"joint state with {len(message.name)} names has only {len(message.position)} positions; "
            "check the publisher of joint_states"
        )
    known = dict(zip(message.name, message.position, strict=False))
    missing = [name for name in names if name not in known]
    if missing:
        raise MessageError(f"joint state lacks {', '.join(missing)}; it has {', '.join(message.name) or 'no joints'}")
    return np.array([known[name] for name in names], dtype=np.float64)


def joint_velocities(message: JointStateMessage, names: Sequence[str]) -> NDArray[np.float64] | None:
    """Velocities [len(names)] in the order of `names`, or None where the message does not give all of them."""
    known = dict(zip(message.name, message.velocity, strict=False))
    if any(name not in known for name in names):
        return None
    return np.array([known[name] for name in names], dtype=np.float64)


def _check_size(message: ImageMessage, pixel_bytes: int) -> None:
    row_bytes = message.width * pixel_bytes
    if message.width == 0 or message.height == 0:
        raise MessageError(f"an image in '{message.header.frame_id}' is empty ({message.width}x{message.height})")
    if message.step < row_bytes or len(message.data) < message.step * message.height:
        raise MessageError(
            f"a {message.width}x{message.height} {message.encoding} image needs rows of {row_bytes} bytes, "
            f"got step {message.step} and {len(message.data)} bytes in all"
        )


def _pixels(message: ImageMessage, dtype: str, channels: int) -> NDArray[Any]:
    """The picture [H, W, channels] in native byte order; rows may be padded to `step` bytes."""
    sample = np.dtype(dtype).newbyteorder(">" if message.is_bigendian else "<")
    row_bytes = message.width * channels * sample.itemsize
    rows = np.frombuffer(message.data, np.uint8, message.step * message.height).reshape(message.height, message.step)
    pixels = np.ascontiguousarray(rows[:, :row_bytes]).view(sample)
    return pixels.reshape(message.height, message.width, channels).astype(sample.newbyteorder("="), copy=False)


def _unknown_encoding(kind: str, message: ImageMessage, known: Iterable[str]) -> str:
    return (
        f"a {kind} image in '{message.header.frame_id}' has encoding '{message.encoding:.40}'; "
        f"understood are {', '.join(known)}"
    )
