"""A training in a process of its own, for a test that kills it."""

from __future__ import annotations

from pathlib import Path

import torch
from small import CONFIG, small_data, small_trainer

from minidiffuser_ros.training.loop import Watch, train
from minidiffuser_ros.training.state import STATE

CURVE = "curve.txt"
LONG = type(CONFIG)(
    steps=30,
    batch_size=4,
    num_samples=8,
    warmup_steps=5,
    threads=1,
    bf16=False,
    checkpoint_every=2,
    validate_every=1000,
)


def run(folder: Path) -> None:
    """Train from wherever the folder stands to the end; every step's losses go to the curve at once."""
    torch.set_num_threads(LONG.threads)
    trainer = small_trainer(small_data(), LONG)
    if (folder / STATE).exists():
        trainer.resume(folder)
    with (folder / CURVE).open("a", buffering=1) as curve:

        def write(step: int, losses: dict[str, float], learning_rate: float) -> None:
            curve.write(f"{step} {' '.join(value.hex() for value in (*losses.values(), learning_rate))}\n")

        train(trainer, folder, watch=Watch(on_step=write))
