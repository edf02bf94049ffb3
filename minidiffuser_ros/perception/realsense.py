"""A RealSense camera without its driver and without ROS: its settings, its pictures, and what their stamps mean.

librealsense stamps a picture in one of three clocks. Its *global time* is the camera's own counter, fitted continuously
to this machine's system clock: the moment of the exposure in the time that ROS keeps, free of the jitter of USB. The
*system time* is when the picture arrived at the driver. The *hardware clock* counts from an instant that nobody knows,
so such a picture can only be stamped when it arrives.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.geometry.camera import PinholeCamera

GLOBAL_TIME, SYSTEM_TIME = "global_time", "system_time"
REBASED, ORIGINAL = "rebased", "original"
AS_IT_IS, ON, OFF = "as_it_is", "on", "off"
SECOND_NS = 1_000_000_000
# A picture that claims to be older, or from later than now by more than the clocks are read apart, has a wrong clock.
MAX_AGE_NS, MAX_AHEAD_NS = 2 * SECOND_NS, SECOND_NS // 20
# Rebased pictures lie so far back at first: what was recorded with less jitter keeps its distances exactly.
REBASE_MARGIN_NS = SECOND_NS // 20
# ROS time and the system clock read this close to each other are one clock.
SAME_CLOCK_NS = SECOND_NS // 2
# What librealsense records: an SQLite file. Its older .bag it no longer reads.
RECORDING_SUFFIX, RECORDING_MAGIC = ".db3", b"SQLite format 3\x00"


def _setting(default: Any, description: str, read_only: bool = True, **about: Any) -> Any:
    return field(default=default, metadata={"description": description, "read_only": read_only, **about})


def _option(default: Any, description: str, **about: Any) -> Any:
    return _setting(default, description, read_only=False, **about)


@dataclass(frozen=True)
class StreamProfile:
    """Size and rate of one stream; a recording has its own."""

    width: int = _setting(640, "width", unit="pixel", range=(16, 7680))
    height: int = _setting(480, "height", unit="pixel", range=(16, 4320))
    rate: int = _setting(30, "pictures a second", unit="Hz", range=(1, 300))

    def __str__(self) -> str:
        return f"{self.width}x{self.height} at {self.rate} Hz"


@dataclass(frozen=True)
class SensorOptions:
    """What a person sets at the camera, also while it runs. Values are in the camera's own units and ranges."""

    color_exposure: float = _option(0.0, "exposure of colour; 0: automatic", unit="100 us", range=(0.0, 1e6))
    depth_exposure: float = _option(0.0, "exposure of depth; 0: automatic", unit="us", range=(0.0, 1e6))
    emitter: str = _option(AS_IT_IS, "projector of the depth camera", choices=(AS_IT_IS, ON, OFF))
    laser_power: float = _option(0.0, "power of the projector; 0: as it is", unit="mW", range=(0.0, 1e4))


@dataclass(frozen=True)
class RealsenseSettings:
    """Which camera or recording, what it shall send, and how long it may be silent."""

    serial: str = _setting("", "serial number; empty: the only camera that is connected")
    recording: str = _setting("", "file (.db3) that is played instead of a camera")
    repeat: bool = _setting(True, "play the recording again and again")
    real_time: bool = _setting(True, "play the recording as fast as it was made; false: as fast as it can be read")
    stamps: str = _setting(REBASED, f"of a recording; {REBASED}: as if it happened now", choices=(REBASED, ORIGINAL))
    color: StreamProfile = field(default_factory=StreamProfile)
    depth: StreamProfile = field(default_factory=StreamProfile)
    options: SensorOptions = field(default_factory=SensorOptions)
    spatial_filter: bool = _setting(False, "smooth depth within a picture, keeping edges")
    temporal_filter: bool = _setting(False, "smooth depth over pictures; smears what moves")
    rectify: bool = _setting(
        True, "send the pictures of a bent lens as an ideal one sees them, which is lifted exactly"
    )
    silent_after_s: float = _setting(
        2.0, "time without a picture of either kind after which the camera is opened anew", unit="s", range=(0.2, 60.0)
    )
    retry_s: float = _setting(1.0, "wait before the first new try to open it", unit="s", range=(0.05, 60.0))
    retry_max_s: float = _setting(
        15.0, "longest wait between tries; it doubles each time", unit="s", range=(0.05, 600.0)
    )

    def __post_init__(self) -> None:
        if self.retry_max_s < self.retry_s:
            raise ConfigurationError(f"retry_max_s ({self.retry_max_s}) must be at least retry_s ({self.retry_s})")
        if self.serial and self.recording:
            raise ConfigurationError(
                f"serial is '{self.serial}' and recording '{self.recording}': give the one or the other"
            )


@dataclass(frozen=True)
class Lens:
    """Intrinsics with distortion: ROS's model name and its coefficients (plumb_bob: k1, k2, p1, p2, k3)."""

    camera: PinholeCamera
    model: str = "plumb_bob"
    distortion: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Pictures:
    """One colour and one depth picture, seen through the colour camera's lens; None where it is not a new one.

    color: [H, W, 3] uint8 RGB. depth: [H, W] uint16 mm, 0 where unknown. color_ns, depth_ns: the camera's stamps in
    `clock` (librealsense's name). arrival_ns: this machine's system clock when they came.
    """

    color: NDArray[np.uint8] | None
    depth: NDArray[np.uint16] | None
    color_ns: int
    depth_ns: int
    clock: str
    arrival_ns: int
    lens: Lens


class RgbdCamera(Protocol):
    """A camera or a recording: open, read, close; after `close` it can be opened again. Used by one thread."""

    name: str
    # What could not be set as asked for, a sentence each.
    remarks: list[str]
    # Whether a recording has come to its end.
    ended: bool
    # Whether nobody but the reader's own pace makes it slow: a recording cannot be silent.
    live: bool

    def open(self) -> dict[str, str]:
        """Start it; returns what it tells of itself. Raises ConnectionLostError with a sentence."""

    def read(self, timeout_s: float) -> Pictures | None:
        """The next pictures, or None where none came in time. Raises ConnectionLostError where it is gone."""

    def apply(self, options: SensorOptions) -> None:
        """Set these from now on; `remarks` tells what could not be set. Raises ConnectionLostError."""

    def close(self) -> None:
        """Stop it, whatever state it is in."""


def check_recording(settings: RealsenseSettings) -> None:
    """Raises ConfigurationError unless the recording, where one is named, is a file that librealsense can play."""
    if not settings.recording:
        return
    path = Path(settings.recording).expanduser()
    if path.suffix != RECORDING_SUFFIX:
        raise ConfigurationError(
            f"recording '{path}' does not end with {RECORDING_SUFFIX}; convert an older .bag with "
            "pyrealsense2's context().convert_bag_to_db3"
        )
    try:
        with path.open("rb") as file:
            magic = file.read(len(RECORDING_MAGIC))
    except OSError as error:
        raise ConfigurationError(
            f"cannot read the recording '{path}' ({error.strerror}); name a {RECORDING_SUFFIX} file of librealsense"
        ) from None
    if magic != RECORDING_MAGIC:
        raise ConfigurationError(f"'{path}' is no recording of librealsense: its first bytes are {magic!r}")


def millimetres(depth: NDArray[np.uint16], unit_m: float) -> NDArray[np.uint16]:
    """Depth [H, W] counted in units of `unit_m` metres, in millimetres; 0 where unknown or beyond 65.535 m."""
    if math.isclose(unit_m, 0.001, rel_tol=1e-5):
        return depth.copy()
    # Cameras keep their unit in single precision: 0.0001 m, and not 0.0000999999975 m.
    scaled = np.rint(depth.astype(np.float64) * (float(str(np.float32(unit_m))) * 1000.0))
    scaled[scaled > np.iinfo(np.uint16).max] = 0
    return scaled.astype(np.uint16)


class Pace:
    """When the pictures of a recording are due: as far apart as they were taken. None is dropped to keep up.

    librealsense's own playing in real time drops what comes while its reader is busy, as a camera does.
    """

    def __init__(self) -> None:
        self._started_s, self._first_ns, self._last_ns = 0.0, 0, -1

    def delay_s(self, stamp_ns: int, now_s: float) -> float:
        """How long to wait with a picture of this stamp; `now_s` is of a steady clock. A repetition starts at once."""
        if self._last_ns < 0 or stamp_ns < self._last_ns:
            self._started_s, self._first_ns = now_s, stamp_ns
        self._last_ns = stamp_ns
        return max(0.0, self._started_s + (stamp_ns - self._first_ns) / SECOND_NS - now_s)


class Stamper:
    """Gives pictures their stamps in ROS time. `note` says what is wrong with the camera's own clock, or nothing."""

    def __init__(self, settings: RealsenseSettings) -> None:
        self.note = ""
        self._stamps = settings.stamps if settings.recording else ""
        self._offset_ns: int | None = None
        self._last_ns = 0

    def __call__(self, pictures: Pictures, arrival_ns: int) -> tuple[int, int]:
        """Stamps of colour and depth. `arrival_ns`: ROS time when they came."""
        if self._stamps == ORIGINAL:
            return pictures.color_ns, pictures.depth_ns
        if self._stamps == REBASED:
            offset_ns = self._rebase(pictures, arrival_ns)
        else:
            offset_ns = self._clock_offset(pictures, arrival_ns)
            if self.note:
                return arrival_ns, arrival_ns
        return pictures.color_ns + offset_ns, pictures.depth_ns + offset_ns

    def _rebase(self, pictures: Pictures, arrival_ns: int) -> int:
        """What makes recorded stamps present ones. Never later than now; later than those before, when it repeats."""
        newest_ns = max(pictures.color_ns, pictures.depth_ns)
        if self._offset_ns is None:
            self._offset_ns = arrival_ns - REBASE_MARGIN_NS - newest_ns
        elif newest_ns < self._last_ns or newest_ns + self._offset_ns > arrival_ns:
            self._offset_ns = arrival_ns - newest_ns
        self._last_ns = newest_ns
        return self._offset_ns

    def _clock_offset(self, pictures: Pictures, arrival_ns: int) -> int:
        """ROS time less the camera's time: nothing but where ROS runs on simulated time. Sets `note`."""
        ages_ns = [pictures.arrival_ns - stamp_ns for stamp_ns in (pictures.color_ns, pictures.depth_ns)]
        if pictures.clock not in (GLOBAL_TIME, SYSTEM_TIME):
            self.note = f"the camera stamps in its {pictures.clock}, not in global time: stamps are times of arrival"
        elif min(ages_ns) < -MAX_AHEAD_NS or max(ages_ns) > MAX_AGE_NS:
            off_s = max(ages_ns, key=abs) / SECOND_NS
            self.note = f"the camera's clock is {off_s:.2f} s behind this machine's: stamps are times of arrival"
        else:
            self.note = ""
        ahead_ns = arrival_ns - pictures.arrival_ns
        return ahead_ns if abs(ahead_ns) > SAME_CLOCK_NS else 0
