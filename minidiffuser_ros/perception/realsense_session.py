"""Keeps a camera open: reads it in one thread, notices silence, opens it anew after it was unplugged."""

from __future__ import annotations

import dataclasses
import enum
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from minidiffuser_ros.contract.errors import ConnectionLostError
from minidiffuser_ros.perception.realsense import Pace, Pictures, RealsenseSettings, RgbdCamera, SensorOptions, Stamper

# How long one wait for pictures takes at most; an unplugged cable and a stop are noticed as fast.
READ_TIMEOUT_S = 0.5
# A camera that was just opened may need so long for its first pictures.
FIRST_PICTURES_S = 5.0
KINDS = ("colour", "depth")

Publish = Callable[[Pictures, int, int], None]


class Health(enum.Enum):
    """How a camera is."""

    OPENING = "opening"
    STREAMING = "streaming"
    DEGRADED = "degraded"
    LOST = "lost"
    ENDED = "ended"


@dataclass(frozen=True)
class CameraReport:
    """How a camera is, in a word, a sentence and what a person would look at."""

    health: Health
    sentence: str
    values: Mapping[str, object] = field(default_factory=dict)


class CameraSession:
    """Runs one camera until it is told to stop.

    publish: takes new pictures with the stamps of colour and depth in ROS time. now_ns: ROS time. Both are called from
    the thread of `run`; `report` may be called from any.
    """

    def __init__(
        self, camera: RgbdCamera, settings: RealsenseSettings, publish: Publish, now_ns: Callable[[], int]
    ) -> None:
        self._camera, self._settings = camera, settings
        self._publish, self._now_ns = publish, now_ns
        self._stamper = Stamper(settings)
        self._pace = Pace() if settings.recording and settings.real_time else None
        self._options, self._applied = settings.options, settings.options
        self._lock = threading.Lock()
        self._health, self._sentence = Health.OPENING, f"opening {camera.name}"
        self._about: dict[str, str] = {}
        self._sets = self._opened = 0
        self._counted, self._counted_at = 0, time.monotonic()

    def report(self) -> CameraReport:
        """How it is now; the rate is that since the report before."""
        with self._lock:
            now = time.monotonic()
            rate_hz = (self._sets - self._counted) / max(now - self._counted_at, 1e-3)
            self._counted, self._counted_at = self._sets, now
            values = {**self._about, "rate [Hz]": f"{rate_hz:.1f}", "pictures": self._sets, "opened": self._opened}
            return CameraReport(self._health, self._sentence, values)

    def set_options(self, options: SensorOptions) -> None:
        """Let the camera's thread set these before it reads on. Returns at once."""
        self._options = options

    def run(self, stop: threading.Event) -> None:
        """Read the camera until `stop` is set or a recording has ended; whatever happens, it is closed after."""
        wait_s = self._settings.retry_s
        while not stop.is_set():
            sets_before = self._sets
            try:
                about = self._camera.open()
                with self._lock:
                    self._about, self._opened = about, self._opened + 1
                self._stream(stop)
                return
            except ConnectionLostError as error:
                if self._sets > sets_before:
                    wait_s = self._settings.retry_s
                self._tell(Health.LOST, f"{error}; trying again in {wait_s:.1f} s")
            finally:
                self._camera.close()
            stop.wait(wait_s)
            wait_s = min(2.0 * wait_s, self._settings.retry_max_s)

    def _stream(self, stop: threading.Event) -> None:
        """Publish until `stop` or the end. Raises ConnectionLostError where the camera is gone or silent."""
        opened, last = time.monotonic(), dict[str, float]()
        while not stop.is_set():
            if (options := self._options) != self._applied:
                self._applied = options
                self._camera.apply(options)
            pictures = self._camera.read(READ_TIMEOUT_S)
            if pictures is not None:
                if self._pace is not None:
                    stop.wait(self._pace.delay_s(pictures.depth_ns, time.monotonic()))
                    pictures = dataclasses.replace(pictures, arrival_ns=time.time_ns())
                self._deliver(pictures)
                new = (pictures.color is not None, pictures.depth is not None)
                last |= {kind: time.monotonic() for kind, is_new in zip(KINDS, new, strict=True) if is_new}
            elif self._camera.ended:
                self._tell(Health.ENDED, f"{self._camera.name} has been played to its end")
                return
            if self._camera.live:
                self._watch(opened, last)

    def _deliver(self, pictures: Pictures) -> None:
        arrival_ns = self._now_ns() - (time.time_ns() - pictures.arrival_ns)
        stamps_ns = self._stamper(pictures, arrival_ns)
        self._publish(pictures, *stamps_ns)
        with self._lock:
            self._sets += 1
        remarks = [*self._camera.remarks, *([self._stamper.note] if self._stamper.note else [])]
        if remarks:
            self._tell(Health.DEGRADED, "; ".join(remarks))
        else:
            self._tell(Health.STREAMING, f"{self._camera.name} sends pictures")

    def _watch(self, opened: float, last: Mapping[str, float]) -> None:
        """Raises ConnectionLostError for a kind whose last picture, or else the opening, is too long ago."""
        now, limit_s = time.monotonic(), self._settings.silent_after_s
        first_s = max(FIRST_PICTURES_S, limit_s)
        ages = {kind: now - last.get(kind, opened) for kind in KINDS}
        silent = {kind: age for kind, age in ages.items() if age > (limit_s if kind in last else first_s)}
        if silent:
            kinds = " and no ".join(silent)
            raise ConnectionLostError(f"{self._camera.name} has sent no {kinds} for {min(silent.values()):.1f} s")

    def _tell(self, health: Health, sentence: str) -> None:
        with self._lock:
            self._health, self._sentence = health, sentence
