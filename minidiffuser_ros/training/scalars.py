"""Curves for TensorBoard, where it is installed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from minidiffuser_ros.training.metrics import HeldOutMetrics

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FOLDER = "log"
HINT = "no curves are written: pip install 'minidiffuser_ros[training]' brings TensorBoard"


class Scalars:
    """Writes event files under OUT/log; without TensorBoard it does nothing and `available` is false."""

    def __init__(self, folder: Path, first_step: int) -> None:
        self._writer: SummaryWriter | None = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        # What an earlier run wrote after the state that this one goes on from is drawn no more.
        self._writer = SummaryWriter(str(folder / FOLDER), purge_step=first_step)

    @property
    def available(self) -> bool:
        """Whether anything is written."""
        return self._writer is not None

    def losses(self, step: int, losses: Mapping[str, float], learning_rate: float) -> None:
        """The losses of one step, unweighted, and its learning rate."""
        self._write(step, {f"loss/{name}": value for name, value in losses.items()})
        self._write(step, {"learning_rate": learning_rate})

    def held_out(self, step: int, metrics: HeldOutMetrics) -> None:
        """The shares of a validation, overall and per task."""
        for name, part in {"overall": metrics.overall, **metrics.tasks}.items():
            self._write(step, {f"held_out/{name}/{key}": value for key, value in asdict(part).items()})

    def close(self) -> None:
        """Write what is buffered."""
        if self._writer is not None:
            self._writer.close()

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
