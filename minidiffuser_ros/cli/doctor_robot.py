"""The arm: its driver, the way to it, and whether the two speak one protocol. Nothing here moves it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from minidiffuser_ros.arm.model import FR3
from minidiffuser_ros.cli.doctor_findings import Finding, State
from minidiffuser_ros.contract.errors import ConnectionLostError

if TYPE_CHECKING:
    from minidiffuser_ros.arm.handshake import Handshake

GROUP = "robot"
TIMEOUT_S = 3.0
# A cycle of the arm, within which its state must come here and the command return.
SLOW_MS = 1.0
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
    yield from arm_findings(robot_ip, version or FR3.robot_server_version)


def driver_finding() -> tuple[Finding, int | None]:
    """Is franky there, and which version of the arm's server does it speak (None: not known)."""
    if importlib.util.find_spec("franky") is None:
        return Finding(GROUP, "franky", State.WARN, "not installed: no arm can be driven from here", FR3.driver), None
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


def arm_findings(address: str, version: int, timeout_s: float = TIMEOUT_S) -> Iterator[Finding]:
    """How fast the arm is reached, and whether it speaks this version, the driver's. Shakes hands and hangs up."""
    from minidiffuser_ros.arm.handshake import shake_hands

    try:
        answer = shake_hands(address, version, timeout_s)
    except ConnectionLostError as error:
        advice = "switch the arm on, unlock its joints and activate FCI in Desk; check cable and address (ping)"
        yield Finding(GROUP, "network", State.FAIL, str(error), advice)
        yield Finding(GROUP, "robot server", State.SKIP, "it cannot be reached")
        return
    yield network_finding(address, answer.connect_ms)
    yield server_finding(answer, version)


def network_finding(address: str, connect_ms: float) -> Finding:
    """Judge the time in which a connection opened."""
    text = f"{address} answers in {connect_ms:.2f} ms"
    if connect_ms > SLOW_MS:
        advice = "connect the arm by cable to a network card of its own, without a switch or wireless in between"
        return Finding(GROUP, "network", State.WARN, text, advice)
    return Finding(GROUP, "network", State.OK, text)


def server_finding(answer: Handshake, version: int) -> Finding:
    """Judge what the arm answered to this version."""
    if answer.server_version is None:
        return Finding(
            GROUP, "robot server", State.WARN, "the arm takes connections but does not answer: another client owns it",
            "fine if that is your arm node; otherwise end it: one program at a time can own the arm",
        )  # fmt: skip
    if not answer.accepted or answer.server_version != version:
        return Finding(
            GROUP, "robot server", State.FAIL,
            f"the arm speaks robot server version {answer.server_version}, the driver {version}",
            f"install franky-control's wheel for robot server version {answer.server_version}, or update the arm's "
            "system in Desk",
        )  # fmt: skip
    return Finding(GROUP, "robot server", State.OK, f"version {answer.server_version}, free to connect")
