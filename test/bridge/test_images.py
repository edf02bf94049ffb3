"""Pictures survive the way through messages, whatever their encoding, padding and byte order."""

from __future__ import annotations

import array

import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, Image

from minidiffuser_ros.bridge.images import (
    camera_from_info,
    color_from_image,
    depth_from_image,
    image_from_color,
    image_from_depth,
    info_from_camera,
)
from minidiffuser_ros.contract.errors import MessageError
from minidiffuser_ros.geometry.camera import PinholeCamera

pytestmark = pytest.mark.ros

RNG = np.random.default_rng(7)
COLOR = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
DEPTH = RNG.uniform(0.2, 2.0, (5, 7)).astype(np.float32)


def raw_image(pixels: np.ndarray, encoding: str, padding: int = 0, big_endian: bool = False) -> Image:
    """An Image as a driver could send it: rows padded, either byte order."""
    height, width = pixels.shape[:2]
    ordered = pixels.astype(pixels.dtype.newbyteorder(">" if big_endian else "<"))
    rows = np.frombuffer(ordered.tobytes(), np.uint8).reshape(height, -1)
    rows = np.concatenate([rows, np.full((height, padding), 0xAB, np.uint8)], axis=1)
    message = Image(height=height, width=width, encoding=encoding, is_bigendian=int(big_endian), step=rows.shape[1])
    message.data = array.array("B", rows.tobytes())
    return message


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8"])
def test_colour_comes_back_as_it_was_sent(encoding: str) -> None:
    message = image_from_color(COLOR, "camera", 12_345_678_901, encoding)
    np.testing.assert_array_equal(color_from_image(message), COLOR)
    assert (message.header.frame_id, message.header.stamp.sec, message.encoding) == ("camera", 12, encoding)


def test_a_red_pixel_is_red_in_every_encoding() -> None:
    red = np.zeros((1, 1, 3), np.uint8)
    red[..., 0] = 200
    for encoding, data in {"rgb8": [200, 0, 0], "bgr8": [0, 0, 200], "rgba8": [200, 0, 0, 255]}.items():
        assert list(image_from_color(red, encoding=encoding).data) == data


@pytest.mark.parametrize(("encoding", "dtype"), [("mono8", np.uint8), ("mono16", np.uint16)])
def test_grey_pictures_become_equal_channels(encoding: str, dtype: type) -> None:
    grey = RNG.integers(0, np.iinfo(dtype).max, (4, 6), dtype=dtype)
    color = color_from_image(raw_image(grey, encoding, big_endian=True))
    expected = grey if dtype is np.uint8 else (grey >> 8).astype(np.uint8)
    for channel in range(3):
        np.testing.assert_array_equal(color[..., channel], expected)


@pytest.mark.parametrize("padding", [0, 1, 13])
@pytest.mark.parametrize("big_endian", [False, True])
def test_padding_and_byte_order_do_not_change_depth(padding: int, big_endian: bool) -> None:
    millimetres = np.rint(DEPTH * 1000).astype(np.uint16)
    from_integers = depth_from_image(raw_image(millimetres, "16UC1", padding, big_endian))
    from_floats = depth_from_image(raw_image(DEPTH, "32FC1", padding, big_endian))
    np.testing.assert_allclose(from_integers, DEPTH, atol=0.0005001)
    np.testing.assert_array_equal(from_floats, DEPTH)
    assert from_integers.dtype == from_floats.dtype == np.float32
    assert from_floats.dtype.isnative


def test_depth_comes_back_to_half_a_millimetre_or_exactly() -> None:
    np.testing.assert_allclose(depth_from_image(image_from_depth(DEPTH)), DEPTH, atol=0.0005001)
    np.testing.assert_array_equal(depth_from_image(image_from_depth(DEPTH, encoding="32FC1")), DEPTH)


def test_depth_that_millimetres_cannot_hold_is_sent_as_unknown() -> None:
    wild = np.array([[np.nan, np.inf, -1.0, 70.0, 1.0]], np.float32)
    np.testing.assert_allclose(depth_from_image(image_from_depth(wild)), [[0, 0, 0, 0, 1.0]], atol=1e-6)


def test_a_picture_shorter_than_its_size_is_refused() -> None:
    message = image_from_color(COLOR)
    message.data = message.data[:-1]
    with pytest.raises(MessageError, match="7x5 rgb8"):
        color_from_image(message)
    message = image_from_depth(DEPTH)
    message.step = 3
    with pytest.raises(MessageError, match="rows of 14 bytes"):
        depth_from_image(message)
    with pytest.raises(MessageError, match="empty"):
        color_from_image(Image(encoding="rgb8"))


def test_an_unknown_encoding_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(MessageError, match=r"bayer_rggb8.*rgb8"):
        color_from_image(raw_image(COLOR[..., 0], "bayer_rggb8"))
    with pytest.raises(MessageError, match=r"rgb8.*16UC1"):
        depth_from_image(image_from_color(COLOR))


def test_camera_info_comes_back_as_the_camera() -> None:
    camera = PinholeCamera(640, 480, 601.5, 602.5, 318.25, 241.75)
    assert camera_from_info(info_from_camera(camera, "optical", 5)) == camera


def test_an_uncalibrated_camera_is_refused() -> None:
    with pytest.raises(MessageError, match="calibrate"):
        camera_from_info(CameraInfo(width=640, height=480))
    message = info_from_camera(PinholeCamera(640, 480, 600.0, 600.0, 320.0, 240.0))
    message.k[4] = float("nan")
    with pytest.raises(MessageError, match="nan"):
        camera_from_info(message)
