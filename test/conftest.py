"""For all tests: threads, and which tests can run here. Nothing in this file starts or imports ROS."""

from __future__ import annotations

import importlib.util
import os
import sys

import pytest

# Before numpy and torch are imported: with more threads than cores, small work takes a hundred times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

HAS_ROS = importlib.util.find_spec("rclpy") is not None and importlib.util.find_spec("minidiffuser_ros.msg") is not None

# On a machine without ROS 2 the core is tested all the same.
collect_ignore_glob = [] if HAS_ROS else ["ros/*", "bridge/*"]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Commands that run inside a test set torch's threads, and would leave them to every test after it."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def pytest_report_header() -> str:
    """Say at the top what is left out."""
    return "ROS 2: found" if HAS_ROS else "ROS 2: not found; test/ros and test/bridge are left out (source env.sh?)"
