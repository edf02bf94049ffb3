"""A camera kept open: stamps in ROS time, silence noticed, opened anew when it was unplugged, recordings that end."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.geometry.camera import PinholeCamera
from minidiffuser_ros.perception.realsense import (
    GLOBAL_TIME,
    ORIGINAL,
    REBASE_MARGIN_NS,
    Lens,
    Pace,
    Pictures,
    RealsenseSettings,
    Stamper,
    StreamProfile,
    check_recording,
    millimetres,
)

pytest.importorskip("pyrealsense2")

from made_camera import PERIOD_MS, START_MS, LiveCamera, MadeCamera, noise, plugged_in, record

from minidiffuser_ros.perception.realsense_device import RealsenseCamera
from minidiffuser_ros.perception.realsense_session import CameraSession, Health

NOW_NS = 1_800_000_000_000_000_000
MS = 1_000_000
SMALL = StreamProfile(64, 48, 25)
QUICK = RealsenseSettings(color=SMALL, depth=SMALL, silent_after_s=0.6, retry_s=0.1, retry_max_s=0.4)


def pictures(stamp_ns: int, clock: str = GLOBAL_TIME, arrival_ns: int = NOW_NS, color_later_ns: int = 0) -> Pictures:
    lens = Lens(PinholeCamera(4, 3, 5.0, 5.0, 1.5, 1.0))
    return Pictures(None, None, stamp_ns + color_later_ns, stamp_ns, clock, arrival_ns, lens)


def test_global_time_is_kept_as_it_is_whatever_the_arrival() -> None:
    stamper = Stamper(RealsenseSettings())
    taken = NOW_NS - 35 * MS
    assert stamper(pictures(taken, color_later_ns=4 * MS), NOW_NS) == (taken + 4 * MS, taken)
    assert stamper(pictures(taken), NOW_NS + 100 * MS) == (taken, taken)
    assert stamper.note == ""


@pytest.mark.parametrize(("clock", "late_s"), [("hardware_clock", 0), (GLOBAL_TIME, 60), (GLOBAL_TIME, -1)])
def test_a_clock_that_cannot_be_believed_gives_arrival_times_and_a_sentence(clock: str, late_s: int) -> None:
    stamper = Stamper(RealsenseSettings())
    assert stamper(pictures(NOW_NS - late_s * 1000 * MS, clock), NOW_NS + 7) == (NOW_NS + 7, NOW_NS + 7)
    assert "times of arrival" in stamper.note
    stamper(pictures(NOW_NS - 30 * MS), NOW_NS)
    assert stamper.note == ""


def test_under_simulated_time_pictures_are_as_old_as_they_are() -> None:
    simulated_ns = 100_000 * MS
    assert Stamper(RealsenseSettings())(pictures(NOW_NS - 35 * MS), simulated_ns)[1] == simulated_ns - 35 * MS


def test_rebased_stamps_keep_their_distances_and_never_lie_ahead_of_now_or_go_back() -> None:
    rng = np.random.default_rng(0)
    stamper, last = Stamper(RealsenseSettings(recording="a.db3")), 0
    # Played twice with a jitter that is smaller than the margin.
    for round_ns in (0, 20 * 40 * MS):
        given = []
        for k in range(20):
            arrival = NOW_NS + round_ns + k * 40 * MS + int(rng.integers(0, 20 * MS))
            color, depth = stamper(pictures(k * 40 * MS, color_later_ns=3 * MS), arrival)
            assert color - depth == 3 * MS
            assert last < depth <= color <= arrival
            given.append(depth)
            last = depth
        if round_ns == 0:
            assert set(np.diff(given)) == {40 * MS}
            assert abs(given[0] + REBASE_MARGIN_NS - NOW_NS) <= 23 * MS


def test_a_recording_read_faster_than_it_was_made_is_stamped_now() -> None:
    stamper = Stamper(RealsenseSettings(recording="a.db3", real_time=False))
    stamps = [stamper(pictures(k * 40 * MS), NOW_NS + k * MS)[1] for k in range(20)]
    assert all(stamp <= NOW_NS + k * MS for k, stamp in enumerate(stamps))
    assert all(np.diff(stamps) > 0)


def test_pictures_of_a_recording_are_due_as_far_apart_as_they_were_taken() -> None:
    pace = Pace()
    assert pace.delay_s(1_000 * MS, 10.0) == 0.0
    assert pace.delay_s(1_040 * MS, 10.01) == pytest.approx(0.03)
    # A reader that is late is not waited for, and the one after it is in time again.
    assert pace.delay_s(1_080 * MS, 10.5) == 0.0
    assert pace.delay_s(1_600 * MS, 10.5) == pytest.approx(0.1)
    # The recording begins again.
    assert pace.delay_s(1_000 * MS, 10.6) == 0.0
    assert pace.delay_s(1_040 * MS, 10.6) == pytest.approx(0.04)


def test_original_stamps_are_those_of_the_recording() -> None:
    stamper = Stamper(RealsenseSettings(recording="a.db3", stamps=ORIGINAL))
    assert stamper(pictures(123, "hardware_clock", color_later_ns=4), NOW_NS) == (127, 123)


def test_millimetres_are_passed_on_and_other_units_rounded() -> None:
    depth = np.array([[0, 1, 499, 65535]], np.uint16)
    np.testing.assert_array_equal(millimetres(depth, float(np.float32(0.001))), depth)
    np.testing.assert_array_equal(millimetres(depth, 0.0001), [[0, 0, 50, 6554]])
    np.testing.assert_array_equal(millimetres(depth, 0.01), [[0, 10, 4990, 0]])


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [("old.bag", b"#ROSBAG V2.0", "convert"), ("none.db3", None, "No such file"), ("a.db3", b"hello", "hello")],
)
def test_what_cannot_be_played_is_refused_before_anything_starts(
    tmp_path: Path, name: str, content: bytes | None, word: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigurationError, match=word):
        check_recording(RealsenseSettings(recording=str(tmp_path / name)))


@pytest.mark.parametrize("values", [{"serial": "1", "recording": "a.db3"}, {"retry_s": 2.0, "retry_max_s": 1.0}])
def test_settings_that_contradict_each_other_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        RealsenseSettings(**values)


class Running:
    """A session in its thread, and what it published."""

    def __init__(self, camera: RealsenseCamera, settings: RealsenseSettings) -> None:
        self.stamps: list[tuple[int, int]] = []
        self.stop = threading.Event()
        self.session = CameraSession(camera, settings, lambda _, *stamps: self.stamps.append(stamps), time.time_ns)
        self.thread = threading.Thread(target=self.session.run, args=(self.stop,), daemon=True)

    def until(self, reached: Callable[[], object], timeout_s: float = 15.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not reached():
            assert time.monotonic() < deadline, self.session.report()
            time.sleep(0.01)

    def until_health(self, health: Health) -> str:
        self.until(lambda: self.session.report().health == health)
        return self.session.report().sentence


@contextmanager
def running(camera: RealsenseCamera, settings: RealsenseSettings) -> Iterator[Running]:
    run = Running(camera, settings)
    run.thread.start()
    try:
        yield run
    finally:
        run.stop.set()
        run.thread.join(10.0)
        assert not run.thread.is_alive()


def test_an_unplugged_camera_is_opened_anew_when_it_comes_back(tmp_path: Path) -> None:
    with LiveCamera() as live, running(RealsenseCamera(QUICK, live.connected), QUICK) as run:
        run.until_health(Health.STREAMING)
        live.plugged = False
        run.until_health(Health.LOST)
        run.until(lambda: "no RealSense camera is connected" in run.session.report().sentence)
        live.plugged = True
        run.until_health(Health.STREAMING)
        assert run.session.report().values["opened"] == 2
        before = len(run.stamps)
        run.until(lambda: len(run.stamps) > before + 3)
        assert abs(run.stamps[-1][0] - time.time_ns()) < 2_000 * MS


def test_a_cable_pulled_from_the_bus_is_noticed(tmp_path: Path) -> None:
    record(tmp_path / "a.db3", MadeCamera(), noise(MadeCamera(), 5))
    with (
        plugged_in(tmp_path / "a.db3") as (connected, unplug),
        running(RealsenseCamera(QUICK, connected), QUICK) as run,
    ):
        run.until(lambda: run.stamps)
        # Recorded stamps are no present ones: the camera's clock is far off.
        run.until(lambda: "times of arrival" in run.session.report().sentence)
        unplug()
        assert "again in" in run.until_health(Health.LOST)


@pytest.mark.parametrize("kind", ["depth", "colour"])
def test_one_silent_stream_is_named_and_the_camera_opened_anew(kind: str) -> None:
    with LiveCamera() as live, running(RealsenseCamera(QUICK, live.connected), QUICK) as run:
        run.until_health(Health.STREAMING)
        live.silent = {kind}
        sentence = run.until_health(Health.LOST)
        assert f"no {kind}" in sentence
        live.silent = set()
        run.until_health(Health.STREAMING)


def test_tries_become_rarer_up_to_the_longest_wait() -> None:
    tried: list[float] = []

    def connected() -> list[object]:
        tried.append(time.monotonic())
        return []

    settings = dataclasses.replace(QUICK, retry_s=0.1, retry_max_s=0.4)
    with running(RealsenseCamera(settings, connected), settings) as run:
        run.until(lambda: len(tried) >= 5)
    waits = np.diff(tried)
    # Never earlier than said; how much later is the machine's business.
    assert all(waits[:4] >= np.array([0.1, 0.2, 0.4, 0.4]) - 0.01)


def test_a_recording_ends_or_repeats(tmp_path: Path) -> None:
    record(tmp_path / "a.db3", MadeCamera(), noise(MadeCamera(), 5))
    once = RealsenseSettings(recording=str(tmp_path / "a.db3"), repeat=False, stamps=ORIGINAL)
    started = time.monotonic()
    with running(RealsenseCamera(once), once) as run:
        run.until(lambda: len(run.stamps) == 5)
        assert time.monotonic() - started > 4 * PERIOD_MS / 1e3
        assert "to its end" in run.until_health(Health.ENDED)
        expected = [round((START_MS + k * PERIOD_MS) * 1e6) for k in range(5)]
        assert [depth for _, depth in run.stamps] == pytest.approx(expected, abs=250)
    again = dataclasses.replace(once, repeat=True, stamps="rebased")
    with running(RealsenseCamera(again), again) as run:
        run.until(lambda: len(run.stamps) >= 12)
        depths = [depth for _, depth in run.stamps]
        assert all(np.diff(depths) > 0)
        assert run.session.report().health == Health.STREAMING
