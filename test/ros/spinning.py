"""Real nodes inside a test: a context of their own, a domain of their own, an executor in a thread."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter

from minidiffuser_ros.bridge.lifecycle import ManagedNode
from minidiffuser_ros.bridge.scheduling import share_interpreter

T = TypeVar("T")


def own_domain() -> int:
    """A ROS domain that concurrent test processes do not share."""
    return 1 + os.getpid() % 100


@contextmanager
def ros_context() -> Iterator[Context]:
    """A context in a domain of its own, shut down at the end."""
    # What tests before have left to the collector takes part in the domain until it is collected: with some dozens of
    # those, a process that is started now is not found any more.
    gc.collect()
    context = Context()
    context.init(domain_id=own_domain())
    try:
        yield context
    finally:
        context.try_shutdown()


@contextmanager
def spinning(context: Context, *nodes: Node) -> Iterator[None]:
    """Spin the nodes until the block ends, then tear down and destroy them."""
    share_interpreter()
    executor = MultiThreadedExecutor(4, context=context)
    for node in nodes:
        executor.add_node(node)

    def spin() -> None:
        with suppress(ExternalShutdownException):
            executor.spin()

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    try:
        yield
    finally:
        for node in nodes:
            if isinstance(node, ManagedNode):
                node.end("the test is over", 0)
                node.teardown("the test is over")
        executor.shutdown(timeout_sec=5.0)
        thread.join(5.0)
        for node in nodes:
            node.destroy_node()


def parameters(**values: object) -> list[Parameter]:
    """Parameter overrides; a double underscore in a name stands for the dot."""
    return [Parameter(name.replace("__", "."), value=value) for name, value in values.items()]


def eventually(probe: Callable[[], T], timeout_s: float = 10.0) -> T:
    """The first truthy value of `probe`; fails after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not (value := probe()):
        assert time.monotonic() < deadline, f"nothing within {timeout_s} s"
        time.sleep(0.02)
    return value
