"""One world for all tests of the simulation: it takes a second to make, and every test resets it."""

from __future__ import annotations

import pytest

from minidiffuser_ros.simulation.tabletop import Tabletop, shared_world


@pytest.fixture(scope="session")
def world() -> Tabletop:
    return shared_world()
