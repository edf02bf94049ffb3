"""Several processes learn what one does; the real torchrun with two of them on the CPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from small import CONFIG, small_data, small_trainer
from together import gradients

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.training.loop import Watch, train
from minidiffuser_ros.training.processes import Processes, join_processes

FOLDER = Path(__file__).parent


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that two processes wrote into."""
    pytest.importorskip("lightning_fabric")
    folder = tmp_path_factory.mktemp("two")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    result = subprocess.run(
        [*launcher, "together.py", str(folder)], cwd=FOLDER, capture_output=True, text=True, timeout=100
    )
    assert result.returncode == 0, result.stderr
    return folder


def written(folder: Path, name: str) -> list[dict[str, Any]]:
    return [torch.load(folder / f"{name}_{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.slow
def test_two_processes_of_half_a_batch_have_the_gradients_of_one_with_the_whole(two: Path) -> None:
    alone = gradients(Processes())
    for both in written(two, "first"):
        assert both["count"] == 2
        assert set(both["gradients"]) == set(alone)
        for name, value in alone.items():
            torch.testing.assert_close(both["gradients"][name], value, atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.slow
def test_two_processes_stay_the_same_and_follow_the_losses_of_one(two: Path, tmp_path: Path) -> None:
    # Losses and not weights: where a gradient is zero but for rounding, Adam makes whole steps of the rounding.
    curve: list[list[float]] = []
    watch = Watch(on_step=lambda step, losses, learning_rate: curve.append(list(losses.values())))
    train(small_trainer(small_data()), tmp_path, watch=watch)
    first, second = written(two, "end")
    assert all(torch.equal(value, second["weights"][name]) for name, value in first["weights"].items())
    assert torch.equal(first["curve"], second["curve"])
    torch.testing.assert_close(first["curve"], torch.tensor(curve), atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_two_processes_go_on_bit_for_bit_where_they_stopped(two: Path) -> None:
    assert all(end["same"] for end in written(two, "end"))


@pytest.mark.slow
def test_only_the_first_process_writes(two: Path) -> None:
    assert {path.name for path in two.iterdir() if path.is_dir()} == {"whole_0", "parts", "again_0"}


def test_a_batch_that_does_not_split_evenly_is_refused() -> None:
    three = Processes()
    three.count = 3
    with pytest.raises(ConfigurationError, match="batch_size 4 does not split into equal parts for 3 processes"):
        three.rows(CONFIG.batch_size)


def test_without_fabric_one_process_trains_and_several_are_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join_processes("cpu").count == 1
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigurationError, match="Lightning Fabric: pip install"):
        join_processes("cpu")
