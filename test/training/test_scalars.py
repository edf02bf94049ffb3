"""Curves: written where TensorBoard is installed, and never in the way where it is not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from minidiffuser_ros.training.metrics import HeldOutMetrics, KeyposeMetrics
from minidiffuser_ros.training.scalars import Scalars

METRICS = KeyposeMetrics(0.1, 0.2, 0.3, 0.4, 8)


def write(folder: Path, steps: range) -> Scalars:
    scalars = Scalars(folder, steps.start)
    for step in steps:
        scalars.losses(step, {"position": float(step)}, 1e-3)
    scalars.held_out(steps[-1], HeldOutMetrics(METRICS, {"lump": METRICS}))
    scalars.close()
    return scalars


def test_a_resumed_run_replaces_what_the_stopped_one_wrote_after_its_state(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    write(tmp_path, range(1, 7))
    write(tmp_path, range(4, 9))
    events = EventAccumulator(str(tmp_path / "log"))
    events.Reload()
    curve = [(event.step, event.value) for event in events.Scalars("loss/position")]
    assert curve == [(step, float(step)) for step in range(1, 9)]
    assert events.Scalars("held_out/lump/rotation_within_5deg")[-1].value == pytest.approx(0.3)
    assert events.Scalars("held_out/overall/within_1cm")[-1].step == 8


def test_without_tensorboard_nothing_is_written_and_that_can_be_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    assert not write(tmp_path, range(1, 3)).available
    assert not (tmp_path / "log").exists()
