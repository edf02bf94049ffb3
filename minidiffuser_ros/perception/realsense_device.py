"""librealsense behind the `RgbdCamera` protocol: the only module that imports pyrealsense2."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyrealsense2 as rs
from numpy.typing import NDArray

from minidiffuser_ros.contract.errors import ConnectionLostError
from minidiffuser_ros.perception.realsense import (
    AS_IT_IS,
    ON,
    Lens,
    Pictures,
    RealsenseSettings,
    SensorOptions,
    StreamProfile,
    millimetres,
)
from minidiffuser_ros.perception.realsense_lens import Rectifier, lens_of, rectifier_of

MAX_LISTED = 6
# Colour and depth of a recording that are farther apart than this, in periods of depth, are not of one moment.
MAX_APART_PERIODS = 0.75
# How often a recording is started anew whose streams do not begin together.
RESTARTS, FIRST_TIMEOUT_MS = 5, 1000
# Formats of colour → the order of channels that makes them RGB.
COLOR_ORDER = {rs.format.rgb8: (0, 1, 2), rs.format.bgr8: (2, 1, 0)}


class RealsenseCamera:
    """A connected camera, or a recording of one, with depth seen through the colour camera's lens."""

    def __init__(self, settings: RealsenseSettings, connected: Callable[[], Iterable[rs.device]] | None = None) -> None:
        """connected: the cameras to choose from; default: those on this machine's USB ports."""
        self._settings, self._options = settings, settings.options
        self._context = rs.context()
        self._connected = connected or self._context.query_devices
        self.live = not settings.recording
        self.name = "the RealSense camera" if self.live else f"the recording '{Path(settings.recording).name}'"
        self.remarks: list[str] = []
        self.ended = False
        self._serial = ""
        self._pipeline: Any = None
        self._device: Any = None
        self._playback: Any = None
        self._filters: list[Any] = []
        self._lens: Any = None
        self._rectifier: Rectifier | None = None
        self._last = (-1, -1)
        self._first: Any = None
        self._apart_ns = 0

    def open(self) -> dict[str, str]:
        """Start the streams. Raises ConnectionLostError: no such camera, not over this port, in use by another."""
        profile = self._start()
        for _ in range(RESTARTS):
            if self.live or self._begins_together():
                break
            self.close()
            profile = self._start()
        self._filters = _smoothing(self._settings)
        if not _is_aligned(profile):
            self._filters.append(rs.align(rs.stream.color))
        intrinsics = profile.get_stream(rs.stream.color).as_video_stream_profile().intrinsics
        self._rectifier = rectifier_of(intrinsics) if self._settings.rectify else None
        self._lens = lens_of(intrinsics)
        if self._rectifier is not None:
            self._lens = Lens(self._lens.camera)
        self._device = device = profile.get_device()
        self.apply(self._options)
        about = {"camera": rs.camera_info.name, "serial": rs.camera_info.serial_number}
        about |= {"firmware": rs.camera_info.firmware_version, "USB": rs.camera_info.usb_type_descriptor}
        return {key: _info(device, what) for key, what in about.items()}

    def _start(self) -> Any:
        """The profile of a pipeline that was started. Raises ConnectionLostError."""
        self.remarks, self.ended, self._last, self._first = [], False, (-1, -1), None
        try:
            pipeline = rs.pipeline(self._context)
            config = self._of_camera(pipeline) if self.live else self._of_recording(pipeline)
        except RuntimeError as error:
            raise ConnectionLostError(f"{self.name} cannot be asked what it offers ({_first_line(error)})") from error
        try:
            profile = pipeline.start(config)
        except RuntimeError as error:
            advice = "; another program may be using it: end that, or plug the camera in anew" if self.live else ""
            raise ConnectionLostError(f"{self.name} does not start ({_first_line(error)}){advice}") from error
        self._pipeline = pipeline
        self._apart_ns = round(MAX_APART_PERIODS / max(profile.get_stream(rs.stream.depth).fps(), 1) * 1e9)
        return profile

    def _begins_together(self) -> bool:
        """Whether the first pictures of a recording belong together; they are kept for `read`.

        librealsense starts one stream after the other: on a busy machine the first one may have run ahead by then.
        """
        came, frames = self._pipeline.try_wait_for_frames(FIRST_TIMEOUT_MS)
        self._first = frames if came else None
        return not came or self._belong_together(frames)

    def _belong_together(self, frames: Any) -> bool:
        color, depth = frames.get_color_frame(), frames.get_depth_frame()
        if not (color and depth):
            return False
        return bool(abs(color.get_timestamp() - depth.get_timestamp()) * 1e6 <= self._apart_ns)

    def read(self, timeout_s: float) -> Pictures | None:
        """The next pictures, aligned; None where none came. Raises ConnectionLostError where the camera is gone."""
        if self._pipeline is None:
            raise ConnectionLostError(f"{self.name} is not open")
        try:
            if self._first is not None:
                came, frames, self._first = True, self._first, None
            else:
                came, frames = self._pipeline.try_wait_for_frames(max(1, round(timeout_s * 1e3)))
            arrival_ns = time.time_ns()
            if came:
                return self._pictures(frames, arrival_ns)
            if self._playback is not None:
                self.ended = self._playback.current_status() == rs.playback_status.stopped
            elif self._serial not in {_serial(device) for device in self._connected()}:
                raise ConnectionLostError(f"{self.name} is no longer connected; plug it in again")
        except RuntimeError as error:
            raise ConnectionLostError(f"{self.name} failed ({_first_line(error)})") from error
        return None

    def apply(self, options: SensorOptions) -> None:
        """Set these now and whenever it is opened anew; a recording has nothing to set."""
        self._options = options
        if self.live and self._device is not None:
            try:
                self.remarks = _apply_options(self._device, options)
            except RuntimeError as error:
                raise ConnectionLostError(f"{self.name} failed ({_first_line(error)})") from error

    def close(self) -> None:
        """Stop the streams and let the camera go."""
        pipeline, self._pipeline, self._device, self._playback = self._pipeline, None, None, None
        self._filters, self._first = [], None
        if pipeline is not None:
            with suppress(RuntimeError):  # of a camera that is gone already
                pipeline.stop()

    def _of_recording(self, pipeline: Any) -> Any:
        path = str(Path(self._settings.recording).expanduser())
        config = rs.config()
        config.enable_device_from_file(path, repeat_playback=self._settings.repeat)
        config.enable_stream(rs.stream.color)
        config.enable_stream(rs.stream.depth)
        wrapper = rs.pipeline_wrapper(pipeline)
        if not config.can_resolve(wrapper):
            raise ConnectionLostError(f"{self.name} cannot be played: it needs a stream of colour and one of depth")
        # Before the start: pictures would be lost until it is told. Not real time: the session keeps the pace.
        self._playback = config.resolve(wrapper).get_device().as_playback()
        self._playback.set_real_time(False)
        return config

    def _of_camera(self, pipeline: Any) -> Any:
        device, settings = self._chosen(), self._settings
        self._serial = _serial(device)
        self.name = f"{_info(device, rs.camera_info.name) or 'RealSense'} {self._serial}"
        color, depth = settings.color, settings.depth
        config = rs.config()
        config.enable_stream(rs.stream.color, color.width, color.height, rs.format.rgb8, color.rate)
        config.enable_stream(rs.stream.depth, depth.width, depth.height, rs.format.z16, depth.rate)
        pipeline.set_device(device)
        if config.can_resolve(rs.pipeline_wrapper(pipeline)):
            return config
        usb = _info(device, rs.camera_info.usb_type_descriptor)
        slow = f" over USB {usb}: use a port and a cable of USB 3, or ask for less" if usb.startswith("2") else ""
        raise ConnectionLostError(
            f"{self.name} does not offer colour {color} with depth {depth}{slow}; it offers colour "
            f"{_offers(device, rs.stream.color, color)} and depth {_offers(device, rs.stream.depth, depth)}"
        )

    def _chosen(self) -> Any:
        """The camera that was asked for. Raises ConnectionLostError naming it and those that are there."""
        devices = {_serial(device): device for device in self._connected()}
        there = ", ".join(f"{serial} ({_info(d, rs.camera_info.name)})" for serial, d in devices.items())
        wanted = self._settings.serial
        if wanted in devices:
            return devices[wanted]
        if wanted:
            raise ConnectionLostError(
                f"no RealSense camera with the serial number {wanted} is connected; there is "
                f"{there or 'none at all: look at cable, port and udev rules'}"
            )
        if not devices:
            raise ConnectionLostError("no RealSense camera is connected; look at cable, port and udev rules")
        if len(devices) > 1:
            raise ConnectionLostError(f"several RealSense cameras are connected ({there}); choose one by serial")
        return next(iter(devices.values()))

    def _pictures(self, frames: Any, arrival_ns: int) -> Pictures | None:
        if not (frames.get_color_frame() and frames.get_depth_frame()):
            return None
        for block in self._filters:
            frames = block.process(frames).as_frameset()
        color, depth = frames.get_color_frame(), frames.get_depth_frame()
        numbers = (color.get_frame_number(), depth.get_frame_number())
        new = [number != last for number, last in zip(numbers, self._last, strict=True)]
        # Where a recording begins again, librealsense joins the first picture of one kind to the last of the other.
        alone = self._playback is not None and not (all(new) and self._belong_together(frames))
        if not any(new) or alone:
            return None
        self._last = numbers
        order = COLOR_ORDER.get(color.profile.format())
        if order is None:
            raise ConnectionLostError(
                f"{self.name} has colour in {color.profile.format().name}, rgb8 or bgr8 is needed"
            )
        straight = self._rectifier or _copied
        clocks = {frame.get_frame_timestamp_domain().name for frame in (color, depth)}
        return Pictures(
            # Copied: librealsense has few buffers, and takes these back.
            color=straight(np.asanyarray(color.get_data())[..., order]) if new[0] else None,
            depth=straight(millimetres(np.asanyarray(depth.get_data()), depth.get_units())) if new[1] else None,
            color_ns=round(color.get_timestamp() * 1e6),
            depth_ns=round(depth.get_timestamp() * 1e6),
            clock=" and ".join(sorted(clocks)) if len(clocks) > 1 else clocks.pop(),
            arrival_ns=arrival_ns,
            lens=self._lens,
        )


def _copied(picture: NDArray[Any]) -> NDArray[Any]:
    return np.array(picture, order="C")


def _is_aligned(profile: Any) -> bool:
    """Whether depth and colour are seen through one lens already: aligning would only blur the edges of depth."""
    depth, color = (profile.get_stream(kind).as_video_stream_profile() for kind in (rs.stream.depth, rs.stream.color))
    beside = depth.get_extrinsics_to(color)
    same_place = np.allclose(beside.translation, 0.0) and np.allclose(beside.rotation, np.eye(3).ravel())
    return bool(same_place and lens_of(depth.intrinsics) == lens_of(color.intrinsics))


def _smoothing(settings: RealsenseSettings) -> list[Any]:
    """The filters that were asked for, in the order that librealsense advises: in disparity, before alignment."""
    chosen = [rs.spatial_filter()] if settings.spatial_filter else []
    chosen += [rs.temporal_filter()] if settings.temporal_filter else []
    return [rs.disparity_transform(True), *chosen, rs.disparity_transform(False)] if chosen else []


def _apply_options(device: Any, options: SensorOptions) -> list[str]:
    """Set what was asked for; returns a sentence for each option that this camera does not take."""
    remarks: list[str] = []
    for stream, exposure in ((rs.stream.color, options.color_exposure), (rs.stream.depth, options.depth_exposure)):
        sensor = _sensor_of(device, stream)
        automatic = float(exposure == 0.0)
        if sensor.supports(rs.option.enable_auto_exposure):
            remarks += _set(sensor, rs.option.enable_auto_exposure, automatic, f"{stream.name} automatic exposure")
        if exposure:
            remarks += _set(sensor, rs.option.exposure, exposure, f"{stream.name} exposure")
    depth = _sensor_of(device, rs.stream.depth)
    if options.emitter != AS_IT_IS:
        remarks += _set(depth, rs.option.emitter_enabled, float(options.emitter == ON), "emitter")
    if options.laser_power:
        remarks += _set(depth, rs.option.laser_power, options.laser_power, "laser power")
    return remarks


def _set(sensor: Any, option: Any, value: float, name: str) -> list[str]:
    if not sensor.supports(option) or sensor.is_option_read_only(option):
        return [f"this camera has no {name} to set"]
    limits = sensor.get_option_range(option)
    if not limits.min <= value <= limits.max:
        return [f"{name} must lie between {limits.min:g} and {limits.max:g} for this camera, got {value:g}"]
    try:
        sensor.set_option(option, value)
    except RuntimeError as error:
        return [f"{name} could not be set to {value:g} ({_first_line(error)})"]
    return []


def _sensor_of(device: Any, stream: Any) -> Any:
    """The sensor that sends `stream`; one that was resolved has it."""
    return next(s for s in device.query_sensors() if any(p.stream_type() == stream for p in s.get_stream_profiles()))


def _offers(device: Any, stream: Any, wanted: StreamProfile) -> str:
    """Some sizes and rates of a stream, those that are most like the one that was asked for first."""
    found = set()
    for sensor in device.query_sensors():
        for profile in sensor.get_stream_profiles():
            if profile.stream_type() == stream and profile.is_video_stream_profile():
                video = profile.as_video_stream_profile()
                found.add(StreamProfile(video.width(), video.height(), profile.fps()))
    size = wanted.width * wanted.height
    by_likeness = sorted(found, key=lambda p: (abs(p.width * p.height - size), abs(p.rate - wanted.rate)))
    more = ", …" if len(found) > MAX_LISTED else ""
    return ", ".join(map(str, by_likeness[:MAX_LISTED])) + more if found else "nothing"


def _info(device: Any, what: Any) -> str:
    return str(device.get_info(what)) if device.supports(what) else ""


def _serial(device: Any) -> str:
    return _info(device, rs.camera_info.serial_number)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:200]
