"""The batch on which a training broke, kept for whoever looks into it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.contract.files import replace_file
from minidiffuser_ros.training.two_level import TwoLevelBatch

BAD_BATCH = "bad_batch.safetensors"


class NotFiniteError(ConfigurationError):
    """A loss or a gradient is not a number any more; the weights were not touched."""

    def __init__(self, step: int, losses: Mapping[str, float], gradient_norm: float) -> None:
        values = [f"{name} {value:g}" for name, value in losses.items()] + [f"gradient {gradient_norm:g}"]
        super().__init__(f"the loss is not finite at step {step} ({', '.join(values)}): lower learning_rate")
        self.step, self.losses = step, dict(losses)

    def kept_in(self, path: Path) -> ConfigurationError:
        """The same sentence, naming the file that holds the batch."""
        return ConfigurationError(f"{self}, or see what is odd about its batch, kept in {path}")


def save_bad_batch(folder: Path, batch: TwoLevelBatch, seed: int, error: NotFiniteError) -> Path:
    """Write every tensor of the batch, with step, seed, tasks and losses as metadata; returns the path."""
    path = folder / BAD_BATCH
    tensors = {name: tensor.cpu().contiguous() for name, tensor in batch.tensors().items()}
    metadata = {"step": str(error.step), "seed": str(seed), "tasks": ",".join(batch.observed.tasks)}
    metadata |= {name: str(value) for name, value in error.losses.items()}
    replace_file(path, lambda partial: save_file(tensors, partial, metadata))
    return path
