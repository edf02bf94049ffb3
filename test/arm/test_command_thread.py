"""Calls that may block for ever: answered, given up in time, cut short, and never two at once."""

from __future__ import annotations

import threading
import time

import pytest

from minidiffuser_ros.arm.command_thread import CommandThread, HaltedError, in_time
from minidiffuser_ros.contract.errors import MotionError
from minidiffuser_ros.contract.refusal import Reason, codes_of

LATE = TimeoutError("too late")


def test_calls_run_in_one_thread_and_their_results_and_errors_come_back() -> None:
    thread = CommandThread("hand")
    names = {thread.run(lambda: threading.current_thread().name, 5.0, LATE) for _ in range(3)}
    assert names == {"hand"}
    with pytest.raises(ZeroDivisionError):
        thread.run(lambda: 1 / 0, 5.0, LATE)
    assert thread.run(lambda: 7, 5.0, LATE) == 7
    thread.close()


def test_a_call_that_blocks_is_given_up_and_the_next_one_refused_until_it_has_returned() -> None:
    thread, gate = CommandThread("hand"), threading.Event()
    begin = time.monotonic()
    with pytest.raises(TimeoutError, match="too late"):
        thread.run(gate.wait, 0.1, LATE)
    assert time.monotonic() - begin < 2.0
    with pytest.raises(MotionError) as refused:
        thread.run(lambda: 7, 5.0, LATE)
    assert codes_of([refused.value.reason]) == [Reason.BUSY]
    gate.set()
    assert thread.wait(5.0)
    assert thread.run(lambda: 7, 5.0, LATE) == 7


def test_a_wait_is_cut_short_by_its_event() -> None:
    thread, gate, halt = CommandThread("hand"), threading.Event(), threading.Event()
    threading.Timer(0.1, halt.set).start()
    with pytest.raises(HaltedError):
        thread.run(gate.wait, 30.0, LATE, halt)
    gate.set()


def test_a_single_call_is_answered_or_given_up() -> None:
    gate = threading.Event()
    assert in_time(lambda: 7, 5.0, LATE) == 7
    with pytest.raises(TimeoutError, match="too late"):
        in_time(gate.wait, 0.1, LATE)
    gate.set()
