"""`sensor_msgs` Image and CameraInfo ↔ numpy and the pinhole camera."""

from __future__ import annotations

import array
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, Image

from minidiffuser_ros.bridge.headers import header
from minidiffuser_ros.contract.errors import MessageError
from minidiffuser_ros.geometry.camera import PinholeCamera

MILLIMETRE = np.float32(0.001)

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


def color_from_image(message: Image) -> NDArray[np.uint8]:
    """RGB picture [H, W, 3] of an Image in any encoding of COLOR_ENCODINGS; 16-bit grey keeps its high byte.

    Raises MessageError for another encoding or for data that does not fill the picture.
    """
    if message.encoding not in COLOR_ENCODINGS:
        raise MessageError(_unknown_encoding("colour", message, COLOR_ENCODINGS))
    dtype, channels, rgb = COLOR_ENCODINGS[message.encoding]
    pixels = _pixels(message, dtype, channels)
    if pixels.dtype == np.uint16:
        pixels = pixels >> 8
    return np.ascontiguousarray(pixels[..., rgb], dtype=np.uint8)


def depth_from_image(message: Image) -> NDArray[np.float32]:
    """Depth [H, W] in metres of an Image in 16UC1 (millimetres) or 32FC1 (metres); 0 or NaN mark unknown pixels.

    Raises MessageError for another encoding or for data that does not fill the picture.
    """
    if message.encoding not in DEPTH_ENCODINGS:
        raise MessageError(_unknown_encoding("depth", message, DEPTH_ENCODINGS))
    depth = _pixels(message, DEPTH_ENCODINGS[message.encoding], 1)[..., 0]
    if depth.dtype == np.uint16:
        return depth.astype(np.float32) * MILLIMETRE
    return depth.astype(np.float32)


def image_from_color(color: NDArray[np.uint8], frame_id: str = "", stamp_ns: int = 0, encoding: str = "rgb8") -> Image:
    """Image of an RGB picture [H, W, 3] in `rgb8`, `bgr8`, `rgba8` or `bgra8`. Raises MessageError otherwise."""
    if color.ndim != 3 or color.shape[2] != 3 or color.dtype != np.uint8:
        raise MessageError(f"a colour picture is [H, W, 3] uint8, got {color.shape} {color.dtype}")
    if encoding not in ("rgb8", "bgr8", "rgba8", "bgra8"):
        raise MessageError(f"colour pictures are sent as rgb8, bgr8, rgba8 or bgra8, not as '{encoding}'")
    _, channels, rgb = COLOR_ENCODINGS[encoding]
    pixels = np.full((*color.shape[:2], channels), 255, np.uint8)
    pixels[..., rgb] = color
    return _image(pixels, encoding, frame_id, stamp_ns)


def image_from_depth(
    depth: NDArray[np.floating], frame_id: str = "", stamp_ns: int = 0, encoding: str = "16UC1"
) -> Image:
    """Image of depth [H, W] in metres, as 16UC1 (millimetres, 0 where unknown or beyond 65.535 m) or 32FC1."""
    if depth.ndim != 2:
        raise MessageError(f"a depth picture is [H, W], got {depth.shape}")
    if encoding == "32FC1":
        return _image(depth.astype(np.float32)[..., None], encoding, frame_id, stamp_ns)
    if encoding != "16UC1":
        raise MessageError(f"depth pictures are sent as 16UC1 or 32FC1, not as '{encoding}'")
    millimetres = np.rint(np.nan_to_num(depth, nan=0.0, posinf=0.0, neginf=0.0) / MILLIMETRE)
    millimetres[(millimetres < 0) | (millimetres > np.iinfo(np.uint16).max)] = 0
    return _image(millimetres.astype(np.uint16)[..., None], encoding, frame_id, stamp_ns)


def camera_from_info(message: CameraInfo) -> PinholeCamera:
    """The pinhole camera of CameraInfo's K. Raises MessageError for an uncalibrated camera (zeros in K)."""
    fx, fy, cx, cy = float(message.k[0]), float(message.k[4]), float(message.k[2]), float(message.k[5])
    size_is_known = message.width > 0 and message.height > 0
    if not (size_is_known and np.isfinite([fx, fy, cx, cy]).all() and fx > 0 and fy > 0):
        raise MessageError(
            f"camera_info in '{message.header.frame_id}' gives {message.width}x{message.height} pixels and focal "
            f"lengths ({fx}, {fy}); calibrate the camera or check that its driver publishes K"
        )
    return PinholeCamera(int(message.width), int(message.height), fx, fy, cx, cy)


def info_from_camera(camera: PinholeCamera, frame_id: str = "", stamp_ns: int = 0) -> CameraInfo:
    """CameraInfo of an ideal camera: K and P filled in, no distortion, no rotation."""
    message = CameraInfo(width=camera.width, height=camera.height, distortion_model="plumb_bob", d=[0.0] * 5)
    message.header = header(frame_id, stamp_ns)
    message.k = [camera.fx, 0.0, camera.cx, 0.0, camera.fy, camera.cy, 0.0, 0.0, 1.0]
    message.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    message.p = [camera.fx, 0.0, camera.cx, 0.0, 0.0, camera.fy, camera.cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    return message


def _pixels(message: Image, dtype: str, channels: int) -> NDArray[Any]:
    """The picture [H, W, channels] in native byte order; rows may be padded to `step` bytes."""
    sample = np.dtype(dtype).newbyteorder(">" if message.is_bigendian else "<")
    row_bytes = message.width * channels * sample.itemsize
    if message.width == 0 or message.height == 0:
        raise MessageError(f"an image in '{message.header.frame_id}' is empty ({message.width}x{message.height})")
    if message.step < row_bytes or len(message.data) < message.step * message.height:
        raise MessageError(
            f"a {message.width}x{message.height} {message.encoding} image needs rows of {row_bytes} bytes, "
            f"got step {message.step} and {len(message.data)} bytes in all"
        )
    rows = np.frombuffer(message.data, np.uint8, message.step * message.height).reshape(message.height, message.step)
    pixels = np.ascontiguousarray(rows[:, :row_bytes]).view(sample)
    return pixels.reshape(message.height, message.width, channels).astype(sample.newbyteorder("="), copy=False)


def _image(pixels: NDArray[Any], encoding: str, frame_id: str, stamp_ns: int) -> Image:
    height, width = pixels.shape[:2]
    message = Image(height=height, width=width, encoding=encoding, is_bigendian=int(sys.byteorder == "big"))
    message.header = header(frame_id, stamp_ns)
    message.step = pixels.nbytes // height
    # An array.array is taken as it is; any other sequence would be checked byte by byte.
    message.data = array.array("B", pixels.tobytes())
    return message


def _unknown_encoding(kind: str, message: Image, known: Iterable[str]) -> str:
    return (
        f"a {kind} image in '{message.header.frame_id}' has encoding '{message.encoding}'; "
        f"understood are {', '.join(known)}"
    )
