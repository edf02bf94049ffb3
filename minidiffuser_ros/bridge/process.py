"""The main function of every node: one process, one node, a clean end."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from types import FrameType

import rclpy
from rclpy.executors import MultiThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from minidiffuser_ros.bridge.lifecycle import EXIT_CRASH, EXIT_USER_ERROR, ManagedNode
from minidiffuser_ros.bridge.scheduling import share_interpreter
from minidiffuser_ros.contract.errors import MinidiffuserError
from minidiffuser_ros.contract.installation import transport_profiles

THREADS = 4
# Under the ten seconds after which launch kills a process that was asked to end.
TEARDOWN_TIMEOUT_S = 9.0
SPIN_PERIOD_S = 0.2
# A terminal and a process manager may both pass on one Ctrl-C; only a later one is a second.
IMPATIENT_AFTER_S = 1.0


def run_node(factory: Callable[[], ManagedNode], argv: Sequence[str] | None = None) -> int:
    """Run the node that `factory` makes until Ctrl-C, SIGTERM or its own `end`; returns the exit code.

    0 after a clean stop, 2 when the user has something to fix, 1 after a crash. The executor keeps spinning during the
    teardown, so that the last status and the results of cancelled goals still go out. A second Ctrl-C ends at once.
    """
    share_interpreter()
    os.environ.update(transport_profiles())
    # rclpy's own handlers would invalidate the context before the arm has been stopped.
    rclpy.init(args=list(argv) if argv is not None else None, signal_handler_options=SignalHandlerOptions.NO)
    signals = _StopSignals()
    try:
        node = factory()
    except MinidiffuserError as error:
        print(f"cannot start: {error}", file=sys.stderr)
        rclpy.try_shutdown()
        return EXIT_USER_ERROR
    executor = MultiThreadedExecutor(THREADS)
    executor.add_node(node)
    closing = threading.Event()
    spinner = threading.Thread(target=_spin, args=(executor, node, closing), name="executor", daemon=True)
    spinner.start()
    while not node.ended.is_set():
        if signals.reason:
            node.end(signals.reason, 0)
        time.sleep(0.05)

    threading.Thread(target=_give_up_later, args=(node.get_name(),), daemon=True).start()
    if node.exit_code:
        node.get_logger().error(f"ending: {node.stop_reason}")
    node.teardown(node.stop_reason)
    closing.set()
    executor.wake()
    spinner.join()
    _join_callbacks(executor)
    executor.shutdown()
    node.destroy_node()
    rclpy.try_shutdown()
    return node.exit_code


class _StopSignals:
    """Why the process was asked to end. The handler takes no lock: it may interrupt a thread that holds it."""

    def __init__(self) -> None:
        self.reason = ""
        self._since = 0.0
        signal.signal(signal.SIGINT, self._handle)
        signal.signal(signal.SIGTERM, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.reason:
            self.reason = "Ctrl-C" if number == signal.SIGINT else "asked to terminate"
            self._since = time.monotonic()
        elif number == signal.SIGINT and time.monotonic() - self._since > IMPATIENT_AFTER_S:
            os._exit(128 + signal.SIGINT)


def _spin(executor: MultiThreadedExecutor, node: ManagedNode, closing: threading.Event) -> None:
    # Not `spin`: it ends through the executor's shutdown, which takes things away that the loop still uses.
    try:
        while not closing.is_set() and rclpy.ok():
            executor.spin_once(timeout_sec=SPIN_PERIOD_S)
        node.end("ROS was shut down", 0)
    except Exception:  # an error in a callback: nobody else would hear of it
        node.get_logger().fatal(f"a callback failed:\n{traceback.format_exc()}")
        node.end("a callback failed", EXIT_CRASH)


def _join_callbacks(executor: MultiThreadedExecutor) -> None:
    """Wait for the callbacks that still run: rclpy does not, and would destroy the node under them."""
    pool = getattr(executor, "_executor", None)
    if pool is not None:
        pool.shutdown(wait=True)


def _give_up_later(name: str) -> None:
    time.sleep(TEARDOWN_TIMEOUT_S)
    print(f"{name} did not stop within {TEARDOWN_TIMEOUT_S:.0f} s; giving up", file=sys.stderr)
    os._exit(EXIT_CRASH)
