"""Processes of a bring-up live and die together; shown with real small processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from minidiffuser_ros import bringup_runner
from minidiffuser_ros.bringup_runner import ProcessGroup, ProcessSpec
from minidiffuser_ros.contract.errors import ConfigurationError

ROOT = Path(__file__).parents[1]

SLEEPER = "import time\nprint('up', flush=True)\ntime.sleep(60)"
STUBBORN = "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(60)"
# Ends at once, leaving a child of its own behind.
WITH_CHILD = (
    "import subprocess, sys\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    "print(f'child {child.pid}', flush=True)\n"
    "import time; time.sleep(60)"
)
RUNNER = """
import sys
from minidiffuser_ros.bringup_runner import ProcessSpec, run_processes
specs = [ProcessSpec(n, (sys.executable, "-c", code)) for n, code in zip("abc", sys.argv[1:])]
sys.exit(run_processes(specs))
"""


def python(name: str, code: str) -> ProcessSpec:
    return ProcessSpec(name, (sys.executable, "-c", code))


def eventually(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # An ended process whose parent has not looked yet is gone for our purpose.
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


def start_runner(*codes: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RUNNER, *codes], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def read_until(runner: subprocess.Popen[str], *parts: str) -> list[str]:
    """Lines of the runner until each part was seen."""
    assert runner.stdout is not None
    lines: list[str] = []
    while not all(any(part in line for line in lines) for part in parts):
        line = runner.stdout.readline()
        assert line, f"ended without {parts}: {lines}"
        lines.append(line.rstrip())
    return lines


def children_of(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def test_lines_carry_the_name_of_their_process() -> None:
    lines: list[str] = []
    with ProcessGroup([python("a", SLEEPER), python("b", SLEEPER)], lines.append):
        eventually(lambda: {"[a] up", "[b] up"} <= set(lines))


def test_when_one_dies_the_others_are_stopped_and_the_exit_code_tells() -> None:
    runner = start_runner(SLEEPER, "import sys; sys.exit(3)")
    output, _ = runner.communicate(timeout=20)
    assert runner.returncode == 1
    assert "b ended with exit code 3; stopping the others" in output


def test_a_death_by_signal_is_named() -> None:
    runner = start_runner("import os; os.abort()", SLEEPER)
    output, _ = runner.communicate(timeout=20)
    assert runner.returncode == 1
    assert "a ended by signal SIGABRT" in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_everything_and_is_a_success(number: signal.Signals) -> None:
    runner = start_runner(SLEEPER, SLEEPER)
    read_until(runner, "[a] up", "[b] up")
    pids = children_of(runner.pid)
    assert len(pids) == 2
    runner.send_signal(number)
    assert runner.wait(20) == 0
    assert not any(alive(pid) for pid in pids)


def test_nothing_outlives_a_runner_that_was_killed() -> None:
    runner = start_runner(SLEEPER, STUBBORN)
    read_until(runner, "[a] up", "[b] up")
    pids = children_of(runner.pid)
    runner.kill()
    runner.wait()
    eventually(lambda: not any(alive(pid) for pid in pids))


def test_a_process_that_ignores_ctrl_c_is_terminated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bringup_runner, "INTERRUPT_TIMEOUT_S", 0.2)
    lines: list[str] = []
    with ProcessGroup([python("stubborn", STUBBORN)], lines.append) as group:
        eventually(lambda: "[stubborn] up" in lines)
        pid = group._running[0].process.pid
    assert not alive(pid)
    assert any("does not end" in line for line in lines)


def test_children_of_the_processes_are_ended_too() -> None:
    lines: list[str] = []
    with ProcessGroup([python("parent", WITH_CHILD)], lines.append):
        eventually(lambda: any("child" in line for line in lines))
        child = int(lines[0].split()[-1])
        assert alive(child)
    eventually(lambda: not alive(child))


def test_a_program_that_does_not_exist_is_named_and_what_was_started_is_stopped() -> None:
    group = ProcessGroup([python("a", SLEEPER), ProcessSpec("b", ("/nowhere/program",))], lambda line: None)
    with pytest.raises(ConfigurationError, match="/nowhere/program"):
        group.__enter__()
    assert group.ended() is None
    assert not group._running
