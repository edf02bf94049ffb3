"""The terminal under the keyboard: keys come at once, and it is given back whatever happens."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator

import pytest

from minidiffuser_ros.arm.teleop_input import Intent
from minidiffuser_ros.arm.teleop_keyboard import Keyboard, Terminal
from minidiffuser_ros.contract.errors import ConfigurationError, ConnectionLostError

ENDS = {
    "an end": "",
    "an exception": "raise RuntimeError('a defect')",
    "being killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "leaving at once": "import os; os._exit(3)",
}
PROGRAM = """
import sys
from minidiffuser_ros.arm.teleop_keyboard import Terminal
terminal = Terminal()
print("open", flush=True)
sys.stdin.read(1)
"""


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    master, slave = pty.openpty()
    yield master, slave
    for fd in (master, slave):
        with contextlib.suppress(OSError):
            os.close(fd)


def echoes(fd: int) -> bool:
    return bool(termios.tcgetattr(fd)[3] & termios.ECHO) and bool(termios.tcgetattr(fd)[3] & termios.ICANON)


def eventually(probe: Callable[[], object], timeout_s: float = 5.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not probe():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_keys_arrive_without_a_return_and_the_terminal_is_given_back(ends: tuple[int, int]) -> None:
    master, slave = ends
    before = termios.tcgetattr(slave)
    keyboard = Keyboard(Terminal(slave, slave), hold_s=0.35)
    assert not echoes(slave)
    assert not keyboard.read().held
    os.write(master, b"\x1b[A ")
    reading = keyboard.read()
    assert reading.twist[0] == 1.0
    assert reading.intents == (Intent.GRIPPER,)
    keyboard.close()
    keyboard.close()
    assert termios.tcgetattr(slave) == before


@pytest.mark.parametrize("ending", ENDS)
def test_the_terminal_is_given_back_after(ending: str, ends: tuple[int, int]) -> None:
    master, slave = ends
    assert echoes(slave)
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM + ENDS[ending]], stdin=slave, stdout=slave, stderr=subprocess.DEVNULL
    )
    output = b""
    while b"open" not in output:
        output += os.read(master, 1024)
    assert not echoes(slave)
    os.write(master, b"q")
    process.wait(10.0)
    eventually(lambda: echoes(slave))


def test_without_a_terminal_the_sentence_says_what_to_do() -> None:
    run = subprocess.run(
        [sys.executable, "-c", "from minidiffuser_ros.arm.teleop_keyboard import Terminal; Terminal()"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert "ConfigurationError: the keyboard needs a terminal" in run.stderr
    with open(os.devnull) as nothing, pytest.raises(ConfigurationError, match="a terminal of its own"):
        Terminal(nothing.fileno())


def test_a_terminal_that_hangs_up_is_reported(ends: tuple[int, int]) -> None:
    master, slave = ends
    keyboard = Keyboard(Terminal(slave, slave), hold_s=0.35)
    os.close(master)
    with pytest.raises(ConnectionLostError, match="terminal of the keyboard is gone"):
        keyboard.read()
    keyboard.close()


def test_nothing_holds_a_signal_back(ends: tuple[int, int]) -> None:
    """Ctrl-C stays a signal: the keys that interrupt are left to the terminal."""
    _, slave = ends
    before = signal.getsignal(signal.SIGINT)
    terminal = Terminal(slave, slave)
    assert termios.tcgetattr(slave)[3] & termios.ISIG
    assert signal.getsignal(signal.SIGINT) is before
    terminal.close()
