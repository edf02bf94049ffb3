"""Keys and a status line in a terminal, also over ssh."""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import subprocess
import sys
import termios
import time
import tty

from minidiffuser_ros.arm.teleop_input import (
    GUIDING_HELP,
    GUIDING_KEYS,
    HELP,
    INTENT_KEYS,
    HeldKeys,
    KeyDecoder,
    Reading,
)
from minidiffuser_ros.contract.errors import ConfigurationError, ConnectionLostError

READ_BYTES = 1024
# Reads until this process is gone in whatever way, then gives the terminal back.
GUARD = 'read _; stty "$0" < "$1"'


class Terminal:
    """A terminal that hands over each key at once and echoes none; `close` gives it back as it was.

    A small guard process does that, too, should this one be killed. Ctrl-C still interrupts.
    """

    def __init__(self, input_fd: int | None = None, output_fd: int | None = None) -> None:
        """Raises ConfigurationError where there is no terminal."""
        try:
            self._input = sys.stdin.fileno() if input_fd is None else input_fd
            self._output = sys.stdout.fileno() if output_fd is None else output_fd
            self._before = termios.tcgetattr(self._input)
        except (OSError, ValueError, AttributeError, termios.error) as error:
            raise ConfigurationError(
                "the keyboard needs a terminal and standard input is none: run the teleop node in a terminal of its "
                "own, or choose another device"
            ) from error
        self._guard = self._start_guard()
        self._closed = False
        atexit.register(self.close)
        tty.setcbreak(self._input)

    def read(self) -> bytes:
        """What was typed since the last time; returns at once. Raises ConnectionLostError without a terminal."""
        try:
            if not select.select([self._input], [], [], 0.0)[0]:
                return b""
            data = os.read(self._input, READ_BYTES)
        except (OSError, ValueError) as error:
            raise ConnectionLostError(f"the terminal of the keyboard is gone: {error}") from error
        if not data:
            raise ConnectionLostError("the terminal of the keyboard is gone")
        return data

    def show(self, text: str) -> None:
        """Print lines above the status line."""
        self._write("\r\x1b[K" + text)

    def status(self, line: str) -> None:
        """Replace the status line."""
        try:
            width = os.get_terminal_size(self._output).columns
        except OSError:
            width = 0
        self._write("\r\x1b[K" + line[: (width or 100) - 1])

    def close(self) -> None:
        """Give the terminal back; harmless when called twice."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        with contextlib.suppress(termios.error, OSError):
            termios.tcsetattr(self._input, termios.TCSADRAIN, self._before)
        self._write("\r\n")
        if self._guard is not None and self._guard.stdin is not None:
            with contextlib.suppress(OSError):
                self._guard.stdin.close()
            self._guard.wait()

    def _start_guard(self) -> subprocess.Popen[bytes] | None:
        try:
            settings = subprocess.run(["stty", "-g"], stdin=self._input, capture_output=True, check=True, text=True)
            command = ["sh", "-c", GUARD, settings.stdout.strip(), os.ttyname(self._input)]
            # A session of its own: Ctrl-C in the terminal must not end it first.
            return subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
        except (OSError, subprocess.CalledProcessError):
            return None  # no stty: `close` and `atexit` remain

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            os.write(self._output, text.encode())


class Keyboard:
    """A device: keys drive the arm. moves=False: only those that ask for something, for leading the arm by hand."""

    def __init__(self, terminal: Terminal, hold_s: float, moves: bool = True) -> None:
        self.terminal = terminal
        self.help = HELP if moves else GUIDING_HELP
        self._decoder = KeyDecoder()
        self._keys = HeldKeys(hold_s, INTENT_KEYS if moves else GUIDING_KEYS, moves)

    def read(self) -> Reading:
        """See `Device`."""
        now_s = time.monotonic()
        return self._keys.feed(self._decoder.feed(self.terminal.read(), now_s), now_s)

    def close(self) -> None:
        """See `Device`."""
        self.terminal.close()
