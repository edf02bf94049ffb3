"""`sensor_msgs` Image and CameraInfo ↔ numpy and the pinhole camera; reading them is `perception/decoding.py`'s."""

from __future__ import annotations

import array
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, Image

from minidiffuser_ros.bridge.headers import header
from minidiffuser_ros.contract.errors import MessageError
from minidiffuser_ros.geometry.camera import PinholeCamera
from minidiffuser_ros.perception.decoding import (
    COLOR_ENCODINGS,
    MILLIMETRE,
    camera_from_info,
    color_from_image,
    depth_from_image,
)

__all__ = [
    "camera_from_info",
    "color_from_image",
    "depth_from_image",
    "image_from_color",
    "image_from_depth",
    "image_from_millimetres",
    "info_from_camera",
]


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


def image_from_millimetres(depth: NDArray[np.uint16], frame_id: str = "", stamp_ns: int = 0) -> Image:
    """Image in 16UC1 of depth [H, W] in whole millimetres, 0 where unknown. Raises MessageError for other arrays."""
    if depth.ndim != 2 or depth.dtype != np.uint16:
        raise MessageError(f"depth in millimetres is [H, W] uint16, got {depth.shape} {depth.dtype}")
    return _image(depth[..., None], "16UC1", frame_id, stamp_ns)


def info_from_camera(
    camera: PinholeCamera,
    frame_id: str = "",
    stamp_ns: int = 0,
    distortion: Sequence[float] = (0.0,) * 5,
    model: str = "plumb_bob",
) -> CameraInfo:
    """CameraInfo: K and P filled in, no rotation; without a distortion that of an ideal camera."""
    message = CameraInfo(width=camera.width, height=camera.height, distortion_model=model, d=list(distortion))
    message.header = header(frame_id, stamp_ns)
    message.k = [camera.fx, 0.0, camera.cx, 0.0, camera.fy, camera.cy, 0.0, 0.0, 1.0]
    message.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    message.p = [camera.fx, 0.0, camera.cx, 0.0, 0.0, camera.fy, camera.cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    return message


def _image(pixels: NDArray[Any], encoding: str, frame_id: str, stamp_ns: int) -> Image:
    height, width = pixels.shape[:2]
    message = Image(height=height, width=width, encoding=encoding, is_bigendian=int(sys.byteorder == "big"))
    message.header = header(frame_id, stamp_ns)
    message.step = pixels.nbytes // height
    # An array.array is taken as it is; any other sequence would be checked byte by byte.
    message.data = array.array("B", pixels.tobytes())
    return message
