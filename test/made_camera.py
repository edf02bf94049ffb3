"""RealSense cameras that are made up: librealsense's software device, live and recorded."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyrealsense2 as rs

from minidiffuser_ros.geometry.camera import PinholeCamera

START_MS = 1_700_000_000_000.0
PERIOD_MS = 40.0
COLOR_LATER_MS = 3.0
# Wide enough that depth and colour see the same, small enough to be quick.
LENS = PinholeCamera(64, 48, 60.0, 60.0, 31.5, 23.5)


@dataclass(frozen=True)
class MadeCamera:
    """What a made-up camera is like: lenses, where colour sits beside depth (m), unit of depth (m), names."""

    depth_lens: PinholeCamera = LENS
    color_lens: PinholeCamera = LENS
    color_distortion: tuple[float, ...] = (0.0,) * 5
    T_color_depth: tuple[float, float, float] = (0.0, 0.0, 0.0)
    unit_m: float = 0.001
    clock: rs.timestamp_domain = rs.timestamp_domain.global_time
    serial: str = "123456"
    usb: str = "3.2"
    options: tuple[rs.option, ...] = ()
    rate: int = 25


@dataclass
class Parts:
    """The software device of a MadeCamera, with what is needed to send pictures through it."""

    made: MadeCamera
    device: rs.software_device = field(init=False)

    def __post_init__(self) -> None:
        made, self.device = self.made, rs.software_device()
        self.device.register_info(rs.camera_info.serial_number, made.serial)
        self.device.register_info(rs.camera_info.name, "Made Camera")
        self.device.register_info(rs.camera_info.usb_type_descriptor, made.usb)
        self.depth_sensor = self.device.add_sensor("Stereo Module")
        self.color_sensor = self.device.add_sensor("RGB Camera")
        self.depth_profile = self.depth_sensor.add_video_stream(
            _stream(rs.stream.depth, 1, rs.format.z16, 2, made.depth_lens, (0.0,) * 5, made.rate), True
        )
        self.color_profile = self.color_sensor.add_video_stream(
            _stream(rs.stream.color, 2, rs.format.rgb8, 3, made.color_lens, made.color_distortion, made.rate), True
        )
        self.depth_sensor.add_read_only_option(rs.option.depth_units, made.unit_m)
        limits = rs.option_range()
        limits.min, limits.max, limits.default, limits.step = 0.0, 1000.0, 1.0, 1.0
        for option in made.options:
            self.depth_sensor.add_option(option, limits, True)
            self.color_sensor.add_option(option, limits, True)
        beside = rs.extrinsics()
        beside.rotation, beside.translation = np.eye(3).ravel().tolist(), list(made.T_color_depth)
        self.depth_profile.register_extrinsics_to(self.color_profile, beside)

    def send(
        self, number: int, depth: np.ndarray | None, color: np.ndarray | None, depth_ms: float, color_ms: float
    ) -> None:
        for sensor, profile, pixels, stamp_ms in (
            (self.depth_sensor, self.depth_profile, depth, depth_ms),
            (self.color_sensor, self.color_profile, color, color_ms),
        ):
            if pixels is None:
                continue
            frame = rs.software_video_frame()
            frame.pixels, frame.stride = np.ascontiguousarray(pixels), pixels.strides[0]
            frame.bpp = pixels.strides[1]
            frame.timestamp, frame.domain, frame.frame_number = stamp_ms, self.made.clock, number
            frame.profile = profile.as_video_stream_profile()
            if sensor is self.depth_sensor:
                frame.depth_units = self.made.unit_m
            sensor.on_video_frame(frame)


def _stream(
    kind: rs.stream, uid: int, pixel: rs.format, size: int, lens: PinholeCamera, bent: tuple[float, ...], rate: int
) -> rs.video_stream:
    intrinsics = rs.intrinsics()
    intrinsics.width, intrinsics.height = lens.width, lens.height
    intrinsics.fx, intrinsics.fy, intrinsics.ppx, intrinsics.ppy = lens.fx, lens.fy, lens.cx, lens.cy
    intrinsics.model = rs.distortion.inverse_brown_conrady if any(bent) else rs.distortion.none
    intrinsics.coeffs = list(bent)
    stream = rs.video_stream()
    stream.type, stream.index, stream.uid, stream.fmt, stream.bpp = kind, 0, uid, pixel, size
    stream.width, stream.height, stream.fps, stream.intrinsics = lens.width, lens.height, rate, intrinsics
    return stream


def noise(made: MadeCamera, count: int, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pictures without any pattern, some of them without depth: (depth [h, w] in the camera's units, colour)."""
    rng = np.random.default_rng(seed)
    pictures = []
    for _ in range(count):
        depth = rng.integers(300, 900, (made.depth_lens.height, made.depth_lens.width), dtype=np.uint16)
        depth[rng.random(depth.shape) < 0.1] = 0
        color = rng.integers(0, 256, (made.color_lens.height, made.color_lens.width, 3), dtype=np.uint8)
        pictures.append((depth, color))
    return pictures


def record(path: Path, made: MadeCamera, pictures: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """A file of librealsense's own recorder. Picture k is stamped START_MS + k PERIOD_MS, colour a little later."""
    parts = Parts(made)
    recorder = rs.recorder(str(path), parts.device)
    sensors, received = recorder.query_sensors(), rs.frame_queue(len(pictures) * 2)
    for sensor in sensors:
        sensor.open(sensor.get_stream_profiles()[0])
        sensor.start(received)
    for number, (depth, color) in enumerate(pictures):
        stamp_ms = START_MS + number * PERIOD_MS
        parts.send(number, depth, color, stamp_ms, stamp_ms + COLOR_LATER_MS)
        # What is played in real time keeps these distances.
        time.sleep(PERIOD_MS / 1e3)
    for _ in range(2 * len(pictures)):
        assert received.try_wait_for_frame(5000)[0], "the recorder did not pass on every picture"
    for sensor in sensors:
        sensor.stop()
        sensor.close()
    recorder.pause()


class LiveCamera:
    """A software device that sends pictures in a thread; it can fall silent and be unplugged."""

    def __init__(self, made: MadeCamera | None = None) -> None:
        self.parts = Parts(made or MadeCamera())
        self.plugged = True
        self.silent: set[str] = set()
        self.behind_ms = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._feed, daemon=True)

    def connected(self) -> list[rs.device]:
        return [self.parts.device] if self.plugged else []

    def option(self, kind: str, option: rs.option) -> float:
        sensor = self.parts.depth_sensor if kind == "depth" else self.parts.color_sensor
        return float(sensor.get_option(option))

    def _feed(self) -> None:
        pictures, number = noise(self.parts.made, 4), 0
        while not self._stop.wait(1.0 / self.parts.made.rate):
            if not self.plugged:
                continue
            depth, color = pictures[number % len(pictures)]
            now_ms = time.time() * 1e3 - self.behind_ms
            number += 1
            self.parts.send(
                number,
                None if "depth" in self.silent else depth,
                None if "colour" in self.silent else color,
                now_ms,
                now_ms,
            )

    def __enter__(self) -> LiveCamera:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()


@contextmanager
def plugged_in(path: Path) -> Iterator[tuple[Callable[[], list[rs.device]], Callable[[], None]]]:
    """A recording as a camera on the bus: what is connected, and a way to pull the cable."""
    context = rs.context()
    device = context.load_device(str(path))
    out = threading.Event()

    def unplug() -> None:
        out.set()
        context.unload_device(str(path))

    try:
        yield lambda: list(context.query_devices()), unplug
    finally:
        if not out.is_set():
            unplug()
        del device  # for as long as it is held, it is there
