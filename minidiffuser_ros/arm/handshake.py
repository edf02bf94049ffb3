"""Which protocol a Franka arm speaks: the first two messages of libfranka's connection, and nothing after them.

Commands nothing and changes no setting of the arm; needs no driver, so that it can tell which one to install.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from minidiffuser_ros.contract.errors import ConnectionLostError

COMMAND_PORT = 1337
# libfranka's research interface, little-endian and packed: command, number and size of a message with its header; then
# of a request to connect the version and a UDP port, of the answer its status and the version of the robot's server.
HEADER, REQUEST, ANSWER = struct.Struct("<III"), struct.Struct("<HH"), struct.Struct("<HH")
CONNECT, PADDING = 0, bytes(4)
ACCEPTED, INCOMPATIBLE = 0, 1
MAX_ANSWER = 4096


@dataclass(frozen=True)
class Handshake:
    """What an arm answered, and the time in ms in which its connection opened: one way there and one back.

    server_version: that the arm's server speaks, None where it does not answer as it talks to another client.
    accepted: whether it took the version that was offered.
    """

    connect_ms: float
    server_version: int | None = None
    accepted: bool = False


def shake_hands(address: str, version: int, timeout_s: float, port: int = COMMAND_PORT) -> Handshake:
    """Offer `version` and hang up: one connection, for an arm has no room for many.

    Raises ConnectionLostError where nobody listens, or somebody does who is no arm.
    """
    try:
        start = time.perf_counter()
        with (
            socket.create_connection((address, port), timeout_s) as stream,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as states,
        ):
            connect_ms = (time.perf_counter() - start) * 1e3
            states.bind(("", 0))
            request = REQUEST.pack(version, states.getsockname()[1])
            stream.sendall(HEADER.pack(CONNECT, 0, HEADER.size + len(request)) + request)
            try:
                status, server_version = _answer(stream, time.monotonic() + timeout_s)
            except TimeoutError:
                return Handshake(connect_ms)
    except ValueError:
        raise ConnectionLostError(f"what listens at {address}:{port} is no Franka arm: check the address") from None
    except OSError as error:
        raise ConnectionLostError(
            f"nothing answers at {address}:{port} ({error}): is the arm switched on, FCI activated and the address "
            "right?"
        ) from error
    return Handshake(connect_ms, server_version, status == ACCEPTED)


def _answer(stream: socket.socket, deadline: float) -> tuple[int, int]:
    """Status and version. Raises ValueError for what no arm sends."""
    command, _, size = HEADER.unpack(_receive(stream, HEADER.size, deadline))
    if command != CONNECT or not HEADER.size + ANSWER.size <= size <= MAX_ANSWER:
        raise ValueError(f"no answer to a connection: command {command}, {size} bytes")
    status, version = ANSWER.unpack(_receive(stream, ANSWER.size, deadline))
    return status, version


def version_offered(connect: Callable[[], object], address: str, timeout_s: float, port: int = COMMAND_PORT) -> int:
    """The version that a driver offers to an arm: `connect` makes it begin to connect to this loopback address.

    The driver is told that its version does not fit. Raises ConnectionLostError where it does not come in time.
    """
    try:
        with socket.create_server((address, port)) as server:
            server.settimeout(timeout_s)
            connect()
            stream, _ = server.accept()
            with stream:
                deadline = time.monotonic() + timeout_s
                command, number, _ = HEADER.unpack(_receive(stream, HEADER.size, deadline))
                version, _ = REQUEST.unpack(_receive(stream, REQUEST.size, deadline))
                answer = ANSWER.pack(INCOMPATIBLE, 0) + PADDING
                stream.sendall(HEADER.pack(command, number, HEADER.size + len(answer)) + answer)
    except OSError as error:
        raise ConnectionLostError(f"the driver did not connect to {address}:{port}: {error}") from error
    return int(version)


def _receive(stream: socket.socket, size: int, deadline: float) -> bytes:
    data = b""
    while len(data) < size:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        stream.settimeout(left)
        chunk = stream.recv(size - len(data))
        if not chunk:
            raise ConnectionResetError("it hung up")
        data += chunk
    return data
