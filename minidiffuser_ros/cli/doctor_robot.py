"""The arm: its driver, the way to it, and whether the two speak one protocol. Nothing here moves it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator

from minidiffuser_ros.cli.doctor_findings import Finding, State
from minidiffuser_ros.contract.errors import ConnectionLostError

GROUP = "robot"
PROBES = 5
TIMEOUT_S = 3.0
# Cycles of the arm take 1 ms; libfranka's documentation wants way there and back below a third of that.
SLOW_MS, TOO_SLOW_MS = 1.0, 20.0
# What an FR3 speaks from system 5.9 on, in case the driver does not tell what it does.
SERVER_VERSION = 10
# Importing the driver takes most of it.
DRIVER_TIMEOUT_S = 15.0
CONNECT = """
import sys, franky
franky.Robot(sys.argv[1], realtime_config=franky.RealtimeConfig.Ignore)
"""


def robot_findings(robot_ip: str) -> Iterator[Finding]:
    """robot_ip: empty where only the driver is to be looked at."""
    driver, version = driver_finding()
    yield driver
    if not robot_ip:
        for check in ("network", "robot server"):
            yield Finding(GROUP, check, State.SKIP, "no arm named (--robot-ip)")
        return
    server = server_finding(robot_ip, version or SERVER_VERSION)
    # An arm that is owned takes few more connections, so that one has to do.
    yield network_finding(robot_ip, PROBES if server.state is State.OK else 1)
    yield server


def driver_finding() -> tuple[Finding, int | None]:
    """Is franky there, and which version of the arm's server does it speak (None: not known)."""
    if importlib.util.find_spec("franky") is None:
        advice = "pip install franky-control"
        return Finding(GROUP, "franky", State.WARN, "not installed: no arm can be driven from here", advice), None
    name = f"franky-control {importlib.metadata.version('franky-control')}"
    try:
        version = driver_version()
    except ConnectionLostError as error:
        return Finding(
            GROUP, "franky", State.WARN, f"{name} does not start: {error}", "python -c 'import franky'"
        ), None
    return Finding(GROUP, "franky", State.OK, f"{name}, speaks robot server version {version}"), version


def driver_version() -> int:
    """What the installed driver offers to an arm that this machine plays for it. Raises ConnectionLostError."""
    from minidiffuser_ros.arm.handshake import version_offered

    # Of the loopback network's addresses one that no simulated arm has taken.
    address = f"127.77.{os.getpid() // 250 % 250}.{1 + os.getpid() % 250}"
    clients: list[subprocess.Popen[bytes]] = []

    def connect() -> None:
        command = [sys.executable, "-c", CONNECT, address]
        clients.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    try:
        return version_offered(connect, address, DRIVER_TIMEOUT_S)
    finally:
        for client in clients:
            client.kill()
            client.wait()


def network_finding(address: str, probes: int) -> Finding:
    """How long it takes to reach the arm."""
    from minidiffuser_ros.arm.handshake import connect_time_ms

    try:
        times = sorted(connect_time_ms(address, TIMEOUT_S) for _ in range(probes))
    except ConnectionLostError as error:
        advice = "switch the arm on, unlock its joints and activate FCI in Desk; check cable and address (ping)"
        return Finding(GROUP, "network", State.FAIL, str(error), advice)
    return judged_times(address, times)


def judged_times(address: str, times_ms: list[float]) -> Finding:
    """The finding for sorted times of connections in ms."""
    text = f"{address} answers in {times_ms[len(times_ms) // 2]:.2f} ms, at worst {times_ms[-1]:.2f} ms"
    if times_ms[len(times_ms) // 2] > SLOW_MS or times_ms[-1] > TOO_SLOW_MS:
        advice = "connect the arm by cable to a network card of its own, without a switch or wireless in between"
        return Finding(GROUP, "network", State.WARN, text, advice)
    return Finding(GROUP, "network", State.OK, text)


def server_finding(address: str, version: int, timeout_s: float = TIMEOUT_S) -> Finding:
    """Does the arm speak this version, the driver's. Shakes hands and hangs up."""
    from minidiffuser_ros.arm.handshake import OwnedElsewhereError, shake_hands

    try:
        answer = shake_hands(address, version, timeout_s)
    except OwnedElsewhereError as error:
        advice = "fine if that is your arm node; otherwise end it: one program at a time can own the arm"
        return Finding(GROUP, "robot server", State.WARN, str(error), advice)
    except ConnectionLostError as error:
        return Finding(GROUP, "robot server", State.FAIL, str(error), "see the line above")
    if not answer.accepted or answer.server_version != version:
        return Finding(
            GROUP, "robot server", State.FAIL,
            f"the arm speaks robot server version {answer.server_version}, the driver {version}",
            f"install the franky wheel for version {answer.server_version} (docs of franky-control list them by "
            "robot server version) or update the arm's system in Desk",
        )  # fmt: skip
    return Finding(GROUP, "robot server", State.OK, f"version {answer.server_version}, free to connect")
