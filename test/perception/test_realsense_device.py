"""A RealSense camera through librealsense's own pipeline: recorded, played, chosen, refused, silent, unplugged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from minidiffuser_ros.contract.errors import ConnectionLostError
from minidiffuser_ros.geometry.camera import PinholeCamera
from minidiffuser_ros.perception.realsense import Lens, Pictures, RealsenseSettings, SensorOptions, StreamProfile

pytest.importorskip("pyrealsense2")

import pyrealsense2 as rs
from made_camera import COLOR_LATER_MS, PERIOD_MS, START_MS, LiveCamera, MadeCamera, Parts, noise, record

from minidiffuser_ros.perception.realsense_device import RealsenseCamera

SMALL = StreamProfile(64, 48, 25)
LIVE = RealsenseSettings(color=SMALL, depth=SMALL)


def played(path: Path, **settings: object) -> list[Pictures]:
    camera = RealsenseCamera(RealsenseSettings(recording=str(path), repeat=False, real_time=False, **settings))
    camera.open()
    found = []
    try:
        while not camera.ended:
            if (pictures := camera.read(0.3)) is not None:
                found.append(pictures)
    finally:
        camera.close()
    return found


def test_a_recording_gives_every_picture_bit_by_bit_with_its_stamps_and_lens(tmp_path: Path) -> None:
    made = MadeCamera()
    sent = noise(made, 6)
    record(tmp_path / "a.db3", made, sent)
    found = played(tmp_path / "a.db3")
    assert len(found) == len(sent)
    for number, (pictures, (depth, color)) in enumerate(zip(found, sent, strict=True)):
        assert pictures.color is not None
        assert pictures.depth is not None
        np.testing.assert_array_equal(pictures.color, color)
        np.testing.assert_array_equal(pictures.depth, depth)
        # A double of milliseconds since 1970 resolves a quarter of a microsecond.
        assert abs(pictures.depth_ns - round((START_MS + number * PERIOD_MS) * 1e6)) <= 250
        assert abs(pictures.color_ns - pictures.depth_ns - round(COLOR_LATER_MS * 1e6)) <= 500
        assert pictures.clock == "global_time"
        assert pictures.lens == Lens(made.color_lens)


def test_a_bent_lens_is_told_with_its_coefficients(tmp_path: Path) -> None:
    made = MadeCamera(color_distortion=(-0.05, 0.06, 0.001, -0.0007, -0.02))
    record(tmp_path / "a.db3", made, noise(made, 2))
    lens = played(tmp_path / "a.db3", rectify=False)[0].lens
    assert (lens.camera, lens.model) == (made.color_lens, "plumb_bob")
    np.testing.assert_allclose(lens.distortion, made.color_distortion, rtol=1e-6)


def test_pictures_of_a_bent_lens_are_made_straight(tmp_path: Path) -> None:
    # At the rim it moves pixels by about two.
    straight = PinholeCamera(320, 240, 215.0, 215.0, 159.5, 119.5)
    bent = (-0.055, 0.062, 0.0005, -0.0005, -0.02)
    made = MadeCamera(depth_lens=straight, color_lens=straight, color_distortion=bent)
    parts = Parts(made)
    intrinsics = parts.color_profile.as_video_stream_profile().get_intrinsics()
    color, points = np.zeros((240, 320, 3), np.uint8), []
    for x in (-0.6, -0.2, 0.3, 0.62):
        for y in (-0.45, 0.05, 0.44):
            column, row = np.rint(rs.rs2_project_point_to_pixel(intrinsics, [x, y, 1.0])).astype(int)
            color[row - 1 : row + 2, column - 1 : column + 2] = 255
            points.append((x, y, 1.0))
    record(tmp_path / "a.db3", made, [(np.full((240, 320), 1000, np.uint16), color)] * 6)
    found, as_it_is = played(tmp_path / "a.db3")[0], played(tmp_path / "a.db3", rectify=False)[0]
    assert found.lens == Lens(straight)
    errors = {}
    for name, pictures in (("straight", found), ("bent", as_it_is)):
        assert pictures.color is not None
        rows, columns = np.nonzero(pictures.color[..., 0])
        spots = np.stack([columns, rows], axis=1)
        pixels = straight.project(np.array(points))
        errors[name] = [
            float(np.linalg.norm(spots[np.linalg.norm(spots - pixel, axis=1) < 6].mean(axis=0) - pixel))
            for pixel in pixels
        ]
    assert max(errors["straight"]) < 1.3
    assert max(errors["bent"]) > 1.8, "the test would not notice a lens that is left bent"
    assert found.depth is not None
    assert set(np.unique(found.depth)) <= {0, 1000}
    assert (found.depth == 1000).mean() > 0.95


@pytest.mark.parametrize("unit_m", [0.0001, 0.00025, 0.01])
def test_depth_in_another_unit_comes_in_millimetres_and_what_is_too_far_is_unknown(
    tmp_path: Path, unit_m: float
) -> None:
    made = MadeCamera(unit_m=unit_m)
    depth, color = noise(made, 1)[0]
    depth[0] = np.iinfo(np.uint16).max
    record(tmp_path / "a.db3", made, [(depth, color)] * 6)
    expected = np.rint(depth * (unit_m * 1e3))
    expected[expected > 65535] = 0
    found = played(tmp_path / "a.db3")[0].depth
    assert found is not None
    assert (expected[1:] > 0).any()
    assert (expected[0] == 0).all() == (unit_m == 0.01)
    np.testing.assert_array_equal(found, expected)


def projected(depth: np.ndarray, made: MadeCamera) -> np.ndarray:
    """Depth [h, w] in mm as the colour camera sees it: each pixel's square is moved, and the nearest one is seen."""
    lens, color = made.depth_lens, made.color_lens
    seen = np.full((color.height, color.width), np.inf)
    for row, column in np.argwhere(depth > 0):
        z = depth[row, column] * made.unit_m
        corners = []
        for shift in (-0.5, 0.5):
            ray = np.array([(column + shift - lens.cx) / lens.fx, (row + shift - lens.cy) / lens.fy, 1.0])
            corners.append(color.project(z * ray + np.array(made.T_color_depth)))
        (left, top), (right, bottom) = np.trunc(np.array(corners) + 0.5).astype(int)  # as C rounds
        if left < 0 or top < 0 or right >= color.width or bottom >= color.height:
            continue
        region = seen[top : bottom + 1, left : right + 1]
        np.minimum(region, depth[row, column], out=region)
    return np.where(np.isfinite(seen), seen, 0.0)


def test_depth_is_moved_into_the_colour_cameras_view_as_our_own_projection_says(tmp_path: Path) -> None:
    made = MadeCamera(
        depth_lens=PinholeCamera(64, 48, 55.3, 55.1, 31.2, 23.9),
        color_lens=PinholeCamera(80, 60, 75.7, 75.2, 40.3, 28.6),
        T_color_depth=(0.015, -0.002, 0.001),
    )
    depth = np.full((48, 64), 900, np.uint16)
    depth[10:30, 20:40] = 500  # something nearer, which hides what is behind it
    depth[35:40, 5:15] = 0
    color = np.zeros((60, 80, 3), np.uint8)
    record(tmp_path / "a.db3", made, [(depth, color)] * 6)
    pictures = played(tmp_path / "a.db3")[0]
    assert pictures.depth is not None
    assert pictures.depth.shape == (60, 80)
    assert pictures.lens.camera.width == 80
    expected = projected(depth, made)
    assert set(np.unique(pictures.depth)) == {0, 500, 900}
    # A corner that falls on the border between two pixels may be rounded to either.
    assert (pictures.depth == expected).mean() > 0.99
    unmoved = MadeCamera(depth_lens=made.depth_lens, color_lens=made.color_lens)
    assert (pictures.depth == projected(depth, unmoved)).mean() < 0.97, "the test would not notice a wrong baseline"


def test_a_connected_camera_streams_and_its_options_are_set() -> None:
    made = MadeCamera(options=(rs.option.exposure, rs.option.emitter_enabled, rs.option.enable_auto_exposure))
    options = SensorOptions(color_exposure=120.0, depth_exposure=0.0, emitter="off")
    with LiveCamera(made) as live:
        live.parts.depth_sensor.set_option(rs.option.emitter_enabled, 1.0)
        live.parts.color_sensor.set_option(rs.option.enable_auto_exposure, 1.0)
        live.parts.depth_sensor.set_option(rs.option.enable_auto_exposure, 0.0)
        camera = RealsenseCamera(RealsenseSettings(color=SMALL, depth=SMALL, options=options), live.connected)
        about = camera.open()
        try:
            assert (about["serial"], about["USB"]) == ("123456", "3.2")
            assert camera.remarks == []
            assert live.option("color", rs.option.exposure) == 120.0
            assert live.option("color", rs.option.enable_auto_exposure) == 0.0
            assert live.option("depth", rs.option.enable_auto_exposure) == 1.0
            assert live.option("depth", rs.option.emitter_enabled) == 0.0
            assert any(camera.read(0.5) is not None for _ in range(10))
        finally:
            camera.close()


def test_an_option_that_the_camera_does_not_take_is_a_remark_and_it_streams_all_the_same() -> None:
    options = SensorOptions(color_exposure=5000.0, laser_power=100.0)
    with LiveCamera(MadeCamera(options=(rs.option.exposure,))) as live:
        camera = RealsenseCamera(RealsenseSettings(color=SMALL, depth=SMALL, options=options), live.connected)
        camera.open()
        try:
            assert len(camera.remarks) == 2
            assert "between 0 and 1000" in camera.remarks[0]
            assert "no laser power" in camera.remarks[1]
            assert any(camera.read(0.5) is not None for _ in range(10))
        finally:
            camera.close()


def test_filters_smooth_depth_and_leave_colour_alone(tmp_path: Path) -> None:
    made = MadeCamera()
    # Around one distance: the filters keep edges.
    pictures = [((500 + depth % 7).astype(np.uint16), color) for depth, color in noise(made, 3)]
    record(tmp_path / "a.db3", made, pictures)
    plain, smooth = played(tmp_path / "a.db3")[-1], played(tmp_path / "a.db3", spatial_filter=True)[-1]
    assert plain.depth is not None
    assert smooth.depth is not None
    assert smooth.depth[4:-4, 4:-4].std() < 0.8 * plain.depth[4:-4, 4:-4].std()
    np.testing.assert_array_equal(smooth.color, pictures[-1][1])


def refused(settings: RealsenseSettings, connected: list[rs.device]) -> str:
    camera = RealsenseCamera(settings, lambda: connected)
    with pytest.raises(ConnectionLostError) as caught:
        camera.open()
    camera.close()
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def test_without_the_camera_asked_for_the_sentence_names_it_and_those_that_are_there() -> None:
    assert "no RealSense camera is connected" in refused(LIVE, [])
    wanted = RealsenseSettings(serial="999")
    assert "999" in refused(wanted, [])
    assert "none at all" in refused(wanted, [])
    devices = [LiveCamera(MadeCamera(serial=serial)).parts.device for serial in ("111", "222")]
    sentence = refused(wanted, devices)
    assert all(part in sentence for part in ("999", "111 (Made Camera)", "222 (Made Camera)"))
    assert "choose one by serial" in refused(LIVE, devices)


def test_a_size_that_the_port_is_too_slow_for_is_refused_naming_usb_2_and_what_there_is() -> None:
    device = LiveCamera(MadeCamera(usb="2.1")).parts.device
    sentence = refused(RealsenseSettings(), [device])
    assert "640x480 at 30 Hz" in sentence
    assert "USB 2.1" in sentence
    assert "64x48 at 25 Hz" in sentence
    assert "USB" not in refused(RealsenseSettings(), [LiveCamera(MadeCamera(usb="3.2")).parts.device])


def test_a_camera_that_another_one_uses_is_refused_and_free_again_after_it() -> None:
    with LiveCamera() as live:
        first = RealsenseCamera(LIVE, live.connected)
        first.open()
        assert "another program may be using it" in refused(LIVE, live.connected())
        first.close()
        second = RealsenseCamera(LIVE, live.connected)
        second.open()
        second.close()


def test_an_unplugged_camera_is_told_apart_from_a_slow_one() -> None:
    with LiveCamera() as live:
        camera = RealsenseCamera(LIVE, live.connected)
        camera.open()
        try:
            assert any(camera.read(0.5) is not None for _ in range(10))
            live.silent = {"depth", "colour"}
            while camera.read(0.3) is not None:
                pass
            assert camera.read(0.3) is None
            live.plugged = False
            with pytest.raises(ConnectionLostError, match="no longer connected"):
                camera.read(0.3)
        finally:
            camera.close()


def test_a_recording_that_holds_no_streams_is_refused_naming_it(tmp_path: Path) -> None:
    path = tmp_path / "broken.db3"
    path.write_bytes(b"SQLite format 3\x00" + bytes(500))
    assert "broken.db3" in refused(RealsenseSettings(recording=str(path)), [])
