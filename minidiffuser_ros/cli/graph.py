"""What the subcommands that talk to the graph share: is ROS there, which domain is free, what to do about Ctrl-C."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType, TracebackType

from minidiffuser_ros.contract.errors import ConfigurationError

# Above, the ports of a domain run into those that Linux gives to clients.
NUM_DOMAINS = 100
PARTICIPANTS_PROBED = 16


def ros_is_there() -> bool:
    """Whether rclpy and this package's messages can be imported."""
    return all(importlib.util.find_spec(name) is not None for name in ("rclpy", "minidiffuser_ros.msg"))


def require_ros() -> None:
    """Raises ConfigurationError where ROS 2 or this package's messages cannot be imported."""
    if not ros_is_there():
        raise ConfigurationError("ROS 2 or this package's messages are not on the path; run: source env.sh")


def free_domain() -> int:
    """A ROS domain in which nothing runs on this machine. Raises ConfigurationError where all are taken."""
    for offset in range(NUM_DOMAINS):
        domain = 1 + (os.getpid() + offset) % NUM_DOMAINS
        # DDS: participant n of a domain listens on UDP port 7400 + 250 domain + 10 + 2 n.
        if all(_is_free(7400 + 250 * domain + 10 + 2 * n) for n in range(PARTICIPANTS_PROBED)):
            return domain
    raise ConfigurationError(f"the ROS domains 1 to {NUM_DOMAINS} are all in use on this machine; end a graph first")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


class StopRequest:
    """While entered, the first Ctrl-C or SIGTERM asks for a stop; the second Ctrl-C raises KeyboardInterrupt."""

    def __init__(self, announce: Callable[[], None] = lambda: print("\nstopping …", flush=True)) -> None:
        self._asked = threading.Event()
        self._announce = announce
        self._previous: dict[int, object] = {}

    def asked(self) -> bool:
        """Whether a stop was asked for."""
        return self._asked.is_set()

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._asked.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._asked.set()
        self._announce()
