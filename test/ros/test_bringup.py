"""The bring-up's table against the real nodes: parameters that exist, a graph that comes up and goes down."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ament_index_python.packages import get_package_prefix
from rclpy.context import Context
from rclpy.node import Node
from spinning import eventually, spinning

from minidiffuser_ros.bridge.lifecycle import EXIT_USER_ERROR, ManagedNode
from minidiffuser_ros.bridge.qos import LATCHED
from minidiffuser_ros.bringup_tables import BRINGUPS, NodeEntry
from minidiffuser_ros.contract.installation import PACKAGE
from minidiffuser_ros.msg import ArmStatus, ObserverStatus

pytestmark = pytest.mark.ros

ROOT = Path(__file__).parents[2]
OWN_NODES = [entry for table in BRINGUPS.values() for entry in table.nodes if entry.package == PACKAGE]

# The graph without the policy, which needs a trained checkpoint: everything that a policy talks to.
BODY = """
import sys
from minidiffuser_ros.bringup import plan
from minidiffuser_ros.bringup_runner import process_of, run_processes
values = {"namespace": "left", "sim_address": sys.argv[1], "checkpoint": sys.argv[2]}
sys.exit(run_processes([process_of(n) for n in plan("policy", values) if n.name != "policy"]))
"""


def node_class(entry: NodeEntry) -> type[ManagedNode]:
    module = importlib.import_module(f"{PACKAGE}.nodes.{entry.executable}")
    classes = [c for c in vars(module).values() if isinstance(c, type) and issubclass(c, ManagedNode)]
    return next(c for c in classes if c.__module__ == module.__name__)


@pytest.mark.parametrize("entry", OWN_NODES, ids=lambda e: e.name)
def test_every_parameter_of_the_table_is_one_the_node_declares(
    entry: NodeEntry, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = node_class(entry)(context=context)
    missing = [name for name in entry.parameters if not node.has_parameter(name)]
    node.teardown("the test is over")
    node.destroy_node()
    assert not missing


@pytest.mark.parametrize("entry", OWN_NODES, ids=lambda e: e.name)
def test_every_node_is_installed_as_an_executable(entry: NodeEntry) -> None:
    path = Path(get_package_prefix(PACKAGE)) / "lib" / PACKAGE / entry.executable
    assert os.access(path, os.X_OK)


def test_an_installed_executable_runs_its_node() -> None:
    path = Path(get_package_prefix(PACKAGE)) / "lib" / PACKAGE / "observer"
    result = subprocess.run([path], capture_output=True, text=True, timeout=30)
    assert result.returncode == EXIT_USER_ERROR
    assert "calibration" in result.stderr


@pytest.fixture
def body(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    pid = os.getpid()
    address = f"127.90.{pid // 250 % 250}.{1 + pid % 250}"
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", BODY, address, str(tmp_path)],
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )
        yield process
        process.kill()
        process.wait()


def children_of(pid: int) -> dict[str, int]:
    """Node name → process id of the runner's processes."""
    pids = [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    commands = {p: Path(f"/proc/{p}/cmdline").read_text().split("\0") for p in pids}
    return {command[3]: p for p, command in commands.items() if len(command) > 3}


def is_up(body: subprocess.Popen[str], log: Path, arm: list[ArmStatus], observer: list[ObserverStatus]) -> bool:
    """Whether the arm is idle and the observer sees; fails at once if the bring-up has ended."""
    assert body.poll() is None, log.read_text()
    return bool(arm and arm[-1].state == ArmStatus.IDLE and observer and observer[-1].ready)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.slow
def test_the_body_of_the_graph_comes_up_in_its_namespace_and_ends_with_its_simulator(
    body: subprocess.Popen[str], context: Context, tmp_path: Path
) -> None:
    listener = Node("listener", context=context)
    arm: list[ArmStatus] = []
    observer: list[ObserverStatus] = []
    listener.create_subscription(ArmStatus, "/left/arm/status", arm.append, LATCHED)
    listener.create_subscription(ObserverStatus, "/left/observer/status", observer.append, LATCHED)
    with spinning(context, listener):
        eventually(lambda: is_up(body, tmp_path / "log", arm, observer), 60.0)
        processes = children_of(body.pid)
        assert set(processes) == {"simulator", "arm", "observer"}
        os.kill(processes["simulator"], signal.SIGKILL)
        assert body.wait(30.0) == 1
    assert "simulator ended by signal SIGKILL; stopping the others" in (tmp_path / "log").read_text()
    assert all(gone(pid) for pid in processes.values())


@pytest.mark.slow
def test_ctrl_c_ends_the_body_of_the_graph_in_order(
    body: subprocess.Popen[str], context: Context, tmp_path: Path
) -> None:
    listener = Node("listener", context=context)
    arm: list[ArmStatus] = []
    observer: list[ObserverStatus] = []
    listener.create_subscription(ArmStatus, "/left/arm/status", arm.append, LATCHED)
    listener.create_subscription(ObserverStatus, "/left/observer/status", observer.append, LATCHED)
    with spinning(context, listener):
        eventually(lambda: is_up(body, tmp_path / "log", arm, observer), 60.0)
        processes = children_of(body.pid)
        started = time.monotonic()
        body.send_signal(signal.SIGINT)
        assert body.wait(30.0) == 0
    assert time.monotonic() - started < 15.0
    assert all(gone(pid) for pid in processes.values())
    assert "Traceback" not in (tmp_path / "log").read_text()
