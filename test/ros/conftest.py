"""For the tests of the live graph: a ROS domain that no other test run on this machine shares."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from rclpy.context import Context
from spinning import own_domain, ros_context

# For the processes that tests start; contexts in this process get it from `ros_context`.
os.environ["ROS_DOMAIN_ID"] = str(own_domain())
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")


@pytest.fixture
def context() -> Iterator[Context]:
    """A context of its own for each test."""
    with ros_context() as context:
        yield context
