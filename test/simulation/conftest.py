"""One world for all tests of the simulation, and the tasks, one after the other: to compile a scene takes longest."""

from __future__ import annotations

import pytest

from minidiffuser_ros.simulation.tabletop import Tabletop, shared_world
from minidiffuser_ros.simulation.tasks import TASKS


@pytest.fixture(scope="session")
def world() -> Tabletop:
    return shared_world()


@pytest.fixture(scope="session", params=TASKS)
def task(request: pytest.FixtureRequest) -> str:
    """Every task. For the whole session, so that pytest runs all tests of one task before those of the next."""
    return str(request.param)
