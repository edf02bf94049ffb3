"""One demonstration of the simulator, recorded once for all tests of episodes."""

from __future__ import annotations

from pathlib import Path

import pytest
from recorded_episode import record_demonstration

from minidiffuser_ros.contract.keypose import Keypose


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Keypose]]:
    """Folder of an episode and the keyposes that the expert went to in it. Leave the folder as it is."""
    folder = tmp_path_factory.mktemp("episodes") / "20260101-000000-stack_pair"
    return folder, record_demonstration(folder)
