"""Training of a policy over action sequences: two-level minibatches, AdamW, warm-up and cosine, EMA, exact resume."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from minidiffuser_ros.contract.errors import ConfigurationError, require_positive
from minidiffuser_ros.diffusion.schedule import NoiseSchedule
from minidiffuser_ros.model.action_network import action_network
from minidiffuser_ros.policy.action_sequence import ActionPolicyConfig, ActionSequencePolicy
from minidiffuser_ros.training.action_sequences import action_sequence_loss
from minidiffuser_ros.training.bad_batch import NotFiniteError
from minidiffuser_ros.training.config import Loss
from minidiffuser_ros.training.loop import uninterrupted
from minidiffuser_ros.training.rates import average_decay, warmed_cosine
from minidiffuser_ros.training.sequence_data import SequenceSet
from minidiffuser_ros.training.state import STATE, refusal, restore_training, save_training, write_record

HELD_OUT_BATCH = 256


@dataclass(frozen=True)
class ActionTrainingConfig:
    """B = batch_size observations, M = num_samples noised sequences of each.

    A run may go on with other values of the settings in FREE_TO_CHANGE; with more steps the rest of the cosine is
    another one. held_out: examples that the held-out loss looks at.
    """

    steps: int = 10_000
    batch_size: int = 64
    num_samples: int = 1
    learning_rate: float = 1e-3
    warmup_steps: int = 200
    final_fraction: float = 0.02
    weight_decay: float = 1e-3
    clip_norm: float = 1.0
    ema_decay: float = 0.998
    loss: Loss = "l2"
    seed: int = 0
    checkpoint_every: int = 500
    validate_every: int = 500
    held_out: int = 512

    def __post_init__(self) -> None:
        require_positive(
            self, ("steps", "batch_size", "num_samples", "learning_rate", "clip_norm", "checkpoint_every", "held_out")
        )
        if not 0.0 <= self.ema_decay < 1.0 or self.validate_every < 1 or min(self.warmup_steps, self.seed) < 0:
            raise ConfigurationError(
                "ema_decay must lie in [0, 1), validate_every be at least 1, warmup_steps and seed at least 0, "
                f"got {self.ema_decay}, {self.validate_every}, {self.warmup_steps} and {self.seed}"
            )


FREE_TO_CHANGE = ("steps", "learning_rate", "checkpoint_every", "validate_every", "held_out")


class ActionTrainer:
    """Owns network, optimiser and average; every step is a function of the seed and the step's number."""

    def __init__(
        self, config: ActionTrainingConfig, policy: ActionPolicyConfig, data: SequenceSet, device: str = "cpu"
    ) -> None:
        torch.manual_seed(config.seed)
        self.config, self.policy, self.data, self.device = config, policy, data, device
        self.network = action_network(policy.model).to(device)
        self.average = copy.deepcopy(self.network).requires_grad_(False).eval()
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), config.learning_rate, (0.9, 0.95), weight_decay=config.weight_decay, fused=True
        )
        self.schedule = NoiseSchedule(policy.schedule).to(device)
        self.step_number = 0
        self.seconds = 0.0
        self.held_out: dict[str, Any] = {}
        self.whole = True  # false while weights, optimiser, average and step number belong to different steps

    def step(self) -> float:
        """One optimiser step; returns its loss. Raises NotFiniteError, with the weights as they were."""
        c, started = self.config, time.perf_counter()
        rng = np.random.default_rng([c.seed, self.step_number])
        rows = rng.integers(len(self.data), size=c.batch_size)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        torch.manual_seed(int(rng.integers(2**62)))  # dropout draws from torch's own
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._loss(self.network.train(), rows, generator)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), c.clip_norm)
        value = float(loss.detach())
        if not math.isfinite(value + float(norm)):
            raise NotFiniteError(self.step_number, {"loss": value}, float(norm))
        with uninterrupted():
            self.whole = False
            self.optimizer.step()
            self.step_number += 1
            self._update_average()
            self.seconds += time.perf_counter() - started
            self.whole = True
        return value

    @torch.no_grad()
    def held_out_loss(self, data: SequenceSet) -> float:
        """Of the averaged weights; the same examples and the same noise at every call."""
        rows = np.random.default_rng(0).permutation(len(data))[: self.config.held_out]
        generator = torch.Generator().manual_seed(0)
        total = 0.0
        for begin in range(0, len(rows), HELD_OUT_BATCH):
            part = rows[begin : begin + HELD_OUT_BATCH]
            total += len(part) * float(self._loss(self.average, part, generator, data))
        return total / len(rows)

    def learning_rate(self) -> float:
        """Of the next step: linear warm-up, then a cosine that ends at the last step."""
        return warmed_cosine(self.config, self.step_number)

    def settings(self) -> dict[str, Any]:
        """What a run must share with the one that it goes on from."""
        fixed = {name: value for name, value in asdict(self.config).items() if name not in FREE_TO_CHANGE}
        return {**fixed, "policy": asdict(self.policy)}

    def save(self, folder: Path) -> None:
        """The averaged weights as a policy, a record of how they came to be, and what is needed to go on."""
        ActionSequencePolicy(self.policy, self.average, self.device).save(folder)
        write_record(folder, self, asdict(self.config), {"examples": len(self.data)})
        save_training(folder, self, self.average.state_dict())

    def resume(self, folder: Path) -> None:
        """Go on from `save`. Raises CheckpointError where the file does not fit."""
        average = restore_training(folder, self, torch.device(self.device))
        try:
            self.average.load_state_dict(average)
        except RuntimeError as error:
            raise refusal(folder / STATE, error) from None

    def _loss(
        self, network: Any, rows: np.ndarray, generator: torch.Generator, data: SequenceSet | None = None
    ) -> Tensor:
        batch = (data or self.data).batch(rows)
        return action_sequence_loss(
            network, self.schedule, batch.inputs.to(self.device), batch.actions.to(self.device),
            self.config.num_samples, generator, self.config.loss,
        )  # fmt: skip

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = average_decay(self.config.ema_decay, self.step_number)
        torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1.0 - decay)


def train_actions(
    trainer: ActionTrainer,
    folder: Path,
    held_out: SequenceSet,
    on_step: Callable[[float], None] = lambda loss: None,
    on_held_out: Callable[[float], None] = lambda loss: None,
) -> None:
    """Run to the last step; saves every `checkpoint_every` steps, at the end, and when interrupted."""
    c = trainer.config
    try:
        while trainer.step_number < c.steps:
            on_step(trainer.step())
            if trainer.step_number % c.validate_every == 0 or trainer.step_number == c.steps:
                loss = trainer.held_out_loss(held_out)
                trainer.held_out = {"at_step": trainer.step_number, "loss": loss}
                on_held_out(loss)
            if trainer.step_number % c.checkpoint_every == 0:
                trainer.save(folder)
    finally:
        if trainer.whole and trainer.step_number:
            trainer.save(folder)
