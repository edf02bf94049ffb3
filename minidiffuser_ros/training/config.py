"""Settings of a training run; every default lives here."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Literal, get_args

from minidiffuser_ros.contract.errors import ConfigurationError

Loss = Literal["l1", "l2"]


@dataclass(frozen=True)
class Augmentation:
    """Yaw and shift move cloud, tool and target together; jitter moves each point; up to `dropout` of them go.

    Yaw in degrees, shift and jitter in metres.
    """

    yaw_deg: float = 10.0
    shift: float = 0.03
    jitter: float = 0.001
    dropout: float = 0.1


@dataclass(frozen=True)
class TrainingConfig:
    """B = batch_size conditions, M = num_samples noised targets each.

    loss: of what is diffused (eq. 9); rotation_weight: of that where the rotation is, else of its cross-entropy.
    balance_weight: of the experts' balance, where the network has experts. head_noise in metres. start: the checkpoint
    whose weights a new run begins with, none for random ones. FREE_TO_CHANGE below names what a resumed run may change.
    """

    batch_size: int = 32
    num_samples: int = 64
    warmup_steps: int = 100
    final_fraction: float = 0.02
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    ema_decay: float = 0.995
    head_samples: int = 4
    head_noise: float = 0.01
    loss: Loss = "l1"
    position_weight: float = 20.0
    rotation_weight: float = 1.0
    balance_weight: float = 0.01
    bf16: bool = True
    seed: int = 0
    start: str | None = None
    augmentation: Augmentation = field(default_factory=Augmentation)
    steps: int = 2000
    learning_rate: float = 2e-3
    checkpoint_every: int = 200
    validate_every: int = 500
    validation_steps: int = 128
    threads: int = 1

    def __post_init__(self) -> None:
        counts = (
            "steps", "batch_size", "num_samples", "head_samples", "checkpoint_every", "validate_every",
            "validation_steps", "threads",
        )  # fmt: skip
        for name in counts:
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name, value in asdict(self).items():
            if isinstance(value, float) and not (math.isfinite(value) and value >= 0.0):
                raise ConfigurationError(f"{name} must be a number of at least 0, got {value}")
        if not (self.learning_rate > 0 and self.clip_norm > 0 and self.ema_decay < 1 and self.warmup_steps >= 0):
            raise ConfigurationError(
                "learning_rate and clip_norm must be above 0, ema_decay below 1 and warmup_steps at least 0, "
                f"got {self.learning_rate}, {self.clip_norm}, {self.ema_decay} and {self.warmup_steps}"
            )
        if self.seed < 0:
            raise ConfigurationError(f"seed must be at least 0, got {self.seed}")
        if self.loss not in get_args(Loss):
            raise ConfigurationError(f"loss must be one of {', '.join(get_args(Loss))}, got '{self.loss}'")


# A run may go on with other values of these: they say how far, how fast and how it is watched. With more steps or
# another learning rate the rest of the cosine is another one; with other threads, sums are rounded differently.
# Everything else would make it a different training.
FREE_TO_CHANGE = ("steps", "learning_rate", "checkpoint_every", "validate_every", "validation_steps", "threads")


def with_actor_weights(config: TrainingConfig) -> TrainingConfig:
    """The config with 3D Diffuser Actor's weights, 30 for position and 10 for a rotation that is diffused with it."""
    return replace(config, position_weight=30.0, rotation_weight=10.0)
