"""Starts the processes of a bring-up where `launch` is not installed; no ROS in here, only processes.

Promises: each line of output carries the name of its process; all end when one does, or on Ctrl-C; every process is
asked politely first (SIGINT, then SIGTERM, then SIGKILL, to its whole process group); nothing outlives the runner, even
one that is killed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from minidiffuser_ros.bringup import PlannedNode, node_environment
from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.contract.installation import PACKAGE

PR_SET_PDEATHSIG = 1
POLL_PERIOD_S = 0.05
# A node gives up on its own stop after nine seconds.
INTERRUPT_TIMEOUT_S = 10.0
TERMINATE_TIMEOUT_S = 3.0


@dataclass(frozen=True)
class ProcessSpec:
    """One process to start."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Running:
    spec: ProcessSpec
    process: subprocess.Popen[str]
    reader: threading.Thread


class ProcessGroup:
    """Processes that live and die together. Use as a context manager, from the main thread."""

    def __init__(self, specs: Sequence[ProcessSpec], write: Callable[[str], object] | None = None) -> None:
        self._specs = tuple(specs)
        self._write = write or _write_stdout
        self._running: list[_Running] = []

    def __enter__(self) -> ProcessGroup:
        try:
            for spec in self._specs:
                self._start(spec)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def ended(self) -> tuple[str, int] | None:
        """Name and exit code of the first process that is no longer running, None while all are."""
        for running in self._running:
            code = running.process.poll()
            if code is not None:
                return running.spec.name, code
        return None

    def stop(self) -> None:
        """End every process, last started first, and wait until nothing of them is left. May be called twice."""
        for running in reversed(self._running):
            if running.process.poll() is None:
                _signal_group(running.process, signal.SIGINT)
                _wait(running.process, INTERRUPT_TIMEOUT_S)
        for running in self._running:
            if running.process.poll() is None:
                self._write(f"[{running.spec.name}] does not end; terminating it")
                _signal_group(running.process, signal.SIGTERM)
        deadline = time.monotonic() + TERMINATE_TIMEOUT_S
        for running in self._running:
            _wait(running.process, deadline - time.monotonic())
            # To the whole group, also when its leader has ended: helpers it started must not stay behind.
            _signal_group(running.process, signal.SIGKILL)
            running.process.wait()
            running.reader.join(1.0)
        self._running.clear()

    def _start(self, spec: ProcessSpec) -> None:
        try:
            process = subprocess.Popen(
                spec.command,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **spec.environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,  # a terminal's Ctrl-C reaches only the runner, which then stops in order
                preexec_fn=_die_with_parent(),
            )
        except OSError as error:
            raise ConfigurationError(f"cannot start {spec.name} ({spec.command[0]}): {error.strerror}") from error
        reader = threading.Thread(target=self._copy_output, args=(spec.name, process.stdout), daemon=True)
        reader.start()
        self._running.append(_Running(spec, process, reader))

    def _copy_output(self, name: str, stream: Any) -> None:
        with stream:
            for line in stream:
                self._write(f"[{name}] {line.rstrip()}")


def run_processes(specs: Sequence[ProcessSpec], write: Callable[[str], object] | None = None) -> int:
    """Run until Ctrl-C or SIGTERM (returns 0) or until one of the processes ends (returns 1, naming it)."""
    say = write or _write_stdout
    stop = threading.Event()

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        stop.set()

    previous = {n: signal.signal(n, ask_to_stop) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        with ProcessGroup(specs, write) as group:
            while not stop.is_set():
                dead = group.ended()
                if dead is not None:
                    name, code = dead
                    say(f"{name} ended {_ending(code)}; stopping the others")
                    return 1
                time.sleep(POLL_PERIOD_S)
            say("stopping")
        return 0
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def process_of(node: PlannedNode) -> ProcessSpec:
    """The command that starts a planned node. Raises ConfigurationError if its package is not installed."""
    if node.package == PACKAGE:
        command = [sys.executable, "-m", f"{PACKAGE}.nodes", node.executable]
    else:
        command = [str(_installed_executable(node.package, node.executable))]
    command += ["--ros-args", "--log-level", node.log_level, "-r", f"__node:={node.name}"]
    if node.namespace:
        command += ["-r", f"__ns:=/{node.namespace}"]
    for source, target in node.remaps:
        command += ["-r", f"{source}:={target}"]
    for path in node.files:
        command += ["--params-file", path]
    for name, value in node.parameters.items():
        command += ["-p", f"{name}:={_parameter_text(value)}"]
    return ProcessSpec(node.name, tuple(command), node_environment())


def _parameter_text(value: Any) -> str:
    """A parameter's value as YAML that keeps its type: text is quoted, so that a serial number stays text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, list):
        return "[" + ", ".join(map(_parameter_text, value)) + "]"
    return str(value)


def _installed_executable(package: str, executable: str) -> Path:
    for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep):
        path = Path(prefix) / "lib" / package / executable
        if prefix and path.is_file():
            return path
    raise ConfigurationError(f"{executable} of {package} is not installed; install the package and source its setup")


def _die_with_parent() -> Callable[[], None]:
    libc, parent = ctypes.CDLL(None, use_errno=True), os.getpid()

    def prepare() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return prepare


def _signal_group(process: subprocess.Popen[str], number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _wait(process: subprocess.Popen[str], timeout_s: float) -> None:
    try:
        process.wait(max(timeout_s, 0.0))
    except subprocess.TimeoutExpired:
        return


def _ending(code: int) -> str:
    return f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"


def _write_stdout(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
