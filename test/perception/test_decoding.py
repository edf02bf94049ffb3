"""Messages are decoded without ROS: those of a recording give the numbers that were put into them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from recorded_episode import CAMERA, Messages

from minidiffuser_ros.contract.errors import MessageError
from minidiffuser_ros.perception.decoding import (
    camera_from_info,
    check_color,
    check_depth,
    color_from_image,
    content_digest,
    depth_from_image,
    joint_positions,
    joint_velocities,
    stamp_to_ns,
)

MAKE = Messages()
RNG = np.random.default_rng(3)
STAMP_NS = 1_700_000_000_987_654_321


@pytest.mark.parametrize(("encoding", "order"), [("rgb8", (0, 1, 2)), ("bgr8", (2, 1, 0))])
def test_colours_come_back(encoding: str, order: tuple[int, int, int]) -> None:
    color = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    message = MAKE.image(color[..., order], encoding, "camera", STAMP_NS)
    np.testing.assert_array_equal(color_from_image(message), color)
    assert stamp_to_ns(message.header.stamp) == STAMP_NS


def test_depth_comes_back_in_metres() -> None:
    millimetres = RNG.integers(0, 2**16, (5, 7), dtype=np.uint16)
    metres = millimetres.astype(np.float32) * np.float32(0.001)
    np.testing.assert_array_equal(depth_from_image(MAKE.image(millimetres, "16UC1", "c", 0)), metres)
    np.testing.assert_array_equal(depth_from_image(MAKE.image(metres, "32FC1", "c", 0)), metres)


def test_depth_may_be_counted_in_another_unit() -> None:
    counts = RNG.integers(0, 2**16, (5, 7), dtype=np.uint16)
    found = depth_from_image(MAKE.image(counts, "16UC1", "c", 0), 0.0001)
    np.testing.assert_allclose(found, counts * 0.0001, rtol=1e-6)
    metres = counts.astype(np.float32)
    np.testing.assert_array_equal(depth_from_image(MAKE.image(metres, "32FC1", "c", 0), 0.0001), metres)


def test_cameras_come_back_and_an_uncalibrated_one_is_refused() -> None:
    message = MAKE.info(CAMERA, "camera", 0)
    assert camera_from_info(message) == CAMERA
    message.k[:] = 0.0
    with pytest.raises(MessageError, match="calibrate"):
        camera_from_info(message)


def test_joints_come_in_the_order_asked_for() -> None:
    message = MAKE.joints(["b", "a", "c"], [1.0, 2.0, 3.0], 0, [10.0, 20.0, 30.0])
    np.testing.assert_array_equal(joint_positions(message, ["a", "b"]), [2.0, 1.0])
    velocities = joint_velocities(message, ["c", "a"])
    assert velocities is not None
    np.testing.assert_array_equal(velocities, [30.0, 20.0])
    with pytest.raises(MessageError, match="lacks d; it has b, a, c"):
        joint_positions(message, ["a", "d"])


@pytest.mark.parametrize("velocities", [[], [1.0]])
def test_velocities_that_are_not_all_there_are_none(velocities: list[float]) -> None:
    message = MAKE.joints(["a", "b"], [1.0, 2.0], 0, velocities)
    assert joint_velocities(message, ["a", "b"]) is None


def test_pictures_that_do_not_fill_their_size_are_refused() -> None:
    message = MAKE.image(np.zeros((5, 7, 3), np.uint8), "rgb8", "camera", 0)
    message.height = 2**31
    with pytest.raises(MessageError, match="image needs rows"):
        color_from_image(message)
    with pytest.raises(MessageError, match="has encoding 'rgb8'"):
        depth_from_image(message)


@pytest.mark.parametrize(
    "broken",
    [{"encoding": "yuv422"}, {"width": 8}, {"height": 6}, {"step": 3}, {"height": 0}, {"data": b""}, {"encoding": ""}],
    ids=str,
)
def test_what_cannot_be_decoded_is_refused_before_a_pixel_is_looked_at(broken: dict[str, object]) -> None:
    pictures = {
        (check_color, color_from_image): MAKE.image(np.zeros((5, 7, 3), np.uint8), "rgb8", "camera", 0),
        (check_depth, depth_from_image): MAKE.image(np.zeros((5, 7), np.uint16), "16UC1", "camera", 0),
    }
    for (check, decode), message in pictures.items():
        check(message)
        decode(message)
        changed = replace(message, **broken)
        with pytest.raises(MessageError) as early:
            check(changed)
        with pytest.raises(MessageError) as late:
            decode(changed)
        assert str(early.value) == str(late.value)


def test_a_digest_tells_pictures_apart_by_what_flickers_in_a_sensor() -> None:
    dark = np.zeros((48, 64, 3), np.uint8)
    flickering = [RNG.integers(0, 2, dark.shape, np.uint8) for _ in range(100)]
    digests = [content_digest(MAKE.image(picture, "rgb8", "camera", i)) for i, picture in enumerate(flickering)]
    assert len(set(digests)) == 100
    assert len({content_digest(MAKE.image(dark, "rgb8", "camera", stamp)) for stamp in range(5)}) == 1
