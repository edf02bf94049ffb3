"""What changes with the number of the step: the learning rate, and how fast averaged weights follow."""

from __future__ import annotations

import math
from typing import Protocol


class Cosine(Protocol):
    """The settings of `warmed_cosine`: peak and end of the rate, and steps."""

    @property
    def learning_rate(self) -> float:
        """At the peak."""

    @property
    def warmup_steps(self) -> int:
        """Until the peak."""

    @property
    def steps(self) -> int:
        """Until the end."""

    @property
    def final_fraction(self) -> float:
        """Of the peak, at the end."""


def warmed_cosine(config: Cosine, step: int) -> float:
    """The learning rate of a step: linear warm-up, then a cosine that ends at the last step."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
    return config.learning_rate * (config.final_fraction + (1.0 - config.final_fraction) * cosine)


def average_decay(ema_decay: float, step: int) -> float:
    """How much of the averaged weights is kept after so many steps: little at first, when they are worth little."""
    return min(ema_decay, (1 + step) / (10 + step))
