"""The width is read beside everything else: it is the newest, it can be a fresh one, and failures are not hidden."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from minidiffuser_ros.arm.width_reader import WidthReader

PROGRAM = """
import time
from minidiffuser_ros.arm.width_reader import WidthReader
reader = WidthReader(lambda: time.sleep(0.2) or 0.08)
assert reader.width() == 0.08
print("read", flush=True)
"""


class Hand:
    """Tells its width every 50 ms."""

    def __init__(self) -> None:
        self.width, self.readings = 0.08, 0
        self.error: Exception | None = None

    def read(self) -> float:
        width = self.width
        time.sleep(0.05)
        if self.error is not None:
            raise self.error
        self.readings += 1
        return width


def test_asking_does_not_wait_for_the_hand_except_for_the_first_time() -> None:
    hand = Hand()
    reader = WidthReader(hand.read)
    assert reader.width() == 0.08
    began = time.monotonic()
    assert [reader.width() for _ in range(100)] == [0.08] * 100
    assert time.monotonic() - began < 0.04
    reader.stop()


def test_a_fresh_width_is_one_whose_reading_began_after_the_question() -> None:
    hand = Hand()
    reader = WidthReader(hand.read)
    reader.width()
    hand.width = 0.02
    assert reader.width(not_before_s=time.monotonic()) == 0.02
    reader.stop()


def test_a_failed_reading_is_raised_to_whoever_asks() -> None:
    hand = Hand()
    hand.error = ConnectionResetError("gone")
    reader = WidthReader(hand.read)
    for _ in range(2):
        with pytest.raises(ConnectionResetError, match="gone"):
            reader.width()


def test_a_silent_hand_is_a_timeout() -> None:
    reader = WidthReader(lambda: time.sleep(0.5) or 0.08)
    with pytest.raises(TimeoutError, match="told no width"):
        reader.width(timeout_s=0.1)
    reader.stop()


def test_a_stopped_reader_reads_no_more() -> None:
    hand = Hand()
    reader = WidthReader(hand.read)
    reader.width()
    reader.stop()
    time.sleep(0.15)
    count = hand.readings
    time.sleep(0.15)
    assert hand.readings == count


def test_a_process_that_never_stopped_it_ends_cleanly() -> None:
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=30.0)
    assert (run.returncode, run.stdout) == (0, "read\n")
    assert not run.stderr
