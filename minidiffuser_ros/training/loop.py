"""The training loop: two-level minibatches, AdamW, warm-up and cosine, EMA, atomic checkpoints, exact resume."""

from __future__ import annotations

import json
import math
import os
import pickle
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from minidiffuser_ros.contract.errors import CheckpointError, ConfigurationError
from minidiffuser_ros.diffusion.schedule import NoiseSchedule
from minidiffuser_ros.model.mini_diffuser import MiniDiffuser
from minidiffuser_ros.policy.checkpoint import PolicyConfig, save_checkpoint
from minidiffuser_ros.policy.inputs import PositionScale
from minidiffuser_ros.policy.policy import predict
from minidiffuser_ros.training.dataset import Augmentation, Batch, DemonstrationSet
from minidiffuser_ros.training.two_level import two_level_minibatch


@dataclass(frozen=True)
class TrainingConfig:
    """B = batch_size conditions, M = num_samples noised targets each."""

    steps: int = 2000
    batch_size: int = 32
    num_samples: int = 64
    learning_rate: float = 2e-3
    warmup_steps: int = 100
    final_fraction: float = 0.02
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    ema_decay: float = 0.995
    head_samples: int = 4
    head_noise: float = 0.01
    position_weight: float = 20.0
    bf16: bool = True
    checkpoint_every: int = 200
    threads: int = 2
    seed: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "num_samples", "head_samples", "checkpoint_every", "threads"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} must be at least 1, got {getattr(self, name)}")


class Trainer:
    """Owns network, optimiser and EMA; every step is a function of the seed and the step's number."""

    def __init__(self, config: TrainingConfig, policy: PolicyConfig, data: DemonstrationSet, device: str) -> None:
        torch.manual_seed(config.seed)
        self.config, self.policy, self.data, self.device = config, policy, data, device
        self.network = MiniDiffuser(policy.model).to(device)
        self.network.instruction_mean.copy_(data.token_mean())
        self.average = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=config.weight_decay
        )
        self.schedule = NoiseSchedule(policy.schedule).to(device)
        self.scale = PositionScale(policy.spec)
        self.step_number = 0
        self.seconds = 0.0

    def step(self) -> dict[str, float]:
        """One optimiser step; returns its losses."""
        rng = np.random.default_rng([self.config.seed, self.step_number])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        batch = self.data.batch(
            rng.choice(len(self.data), self.config.batch_size).tolist(), rng, self.config.augmentation
        )
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        self.network.train()
        losses = self.losses(batch, generator)
        total = self.config.position_weight * losses["position"] + losses["rotation"] + losses["gripper"]
        if not torch.isfinite(total):
            raise ConfigurationError(f"the loss became {total.item()} at step {self.step_number}: lower learning_rate")
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
        self.optimizer.step()
        self.step_number += 1
        self._update_average()
        return {name: float(value.detach()) for name, value in losses.items()}

    def losses(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """L1 of eq. 9 over all samples, cross-entropy over the axes, binary cross-entropy of the gripper."""
        target = batch.positions.to(self.device)
        level2 = two_level_minibatch(self.schedule, self.scale.normalise(target), self.config.num_samples, generator)
        jitter = torch.randn(len(target), self.config.head_samples, 3, generator=generator).to(self.device)
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.config.bf16):
            condition = self.network.encode(batch.inputs.to(self.device))
            prediction = predict(self.network, self.scale, self.schedule, condition, level2.noisy, level2.timesteps)
            rotation, gripper = self.network.classify(condition, target.unsqueeze(1) + self.config.head_noise * jitter)
        bins = batch.bins.to(self.device).unsqueeze(1).expand(rotation.shape[:-1])
        openings = batch.openings.to(self.device).unsqueeze(1).expand_as(gripper)
        return {
            "position": (prediction - level2.target).abs().mean(),
            "rotation": F.cross_entropy(rotation.flatten(0, 2), bins.flatten()),
            "gripper": F.binary_cross_entropy_with_logits(gripper, openings),
        }

    def save(self, folder: Path) -> None:
        """The averaged weights as a policy, and everything needed to go on exactly here."""
        save_checkpoint(folder, self.policy, self.average)
        self.write_record(folder)
        partial = folder / "resume.pt.partial"
        torch.save(
            {
                "step": self.step_number,
                "seconds": self.seconds,
                "network": self.network.state_dict(),
                "average": self.average,
                "optimizer": self.optimizer.state_dict(),
            },
            partial,
        )
        os.replace(partial, folder / "resume.pt")

    def write_record(self, folder: Path, **more: Any) -> None:
        """`training.json`: how this policy was made; the model card is written from it."""
        record = {
            "config": asdict(self.config),
            "steps": self.step_number,
            "minutes": round(self.seconds / 60.0, 1),
            "device": self.device,
            "parameters": sum(p.numel() for p in self.network.parameters()),
            "demonstrations": self.data.episodes_per_task(),
            "keypose_steps": len(self.data),
            **more,
        }
        partial = folder / "training.json.partial"
        partial.write_text(json.dumps(record, indent=2) + "\n")
        os.replace(partial, folder / "training.json")

    def resume(self, folder: Path) -> None:
        """Go on from `save`. Raises CheckpointError where the file does not fit."""
        path = folder / "resume.pt"
        try:
            state: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=True)
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.average, self.step_number, self.seconds = state["average"], int(state["step"]), float(state["seconds"])
        except (RuntimeError, KeyError, ValueError, OSError, EOFError, pickle.UnpicklingError) as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(f"{path} does not continue this training ({reason}): use another --out") from None

    def _learning_rate(self) -> float:
        c, step = self.config, self.step_number
        if step < c.warmup_steps:
            return c.learning_rate * (step + 1) / c.warmup_steps
        progress = (step - c.warmup_steps) / max(1, c.steps - c.warmup_steps)
        cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
        return c.learning_rate * (c.final_fraction + (1.0 - c.final_fraction) * cosine)

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.config.ema_decay, (1 + self.step_number) / (10 + self.step_number))
        for name, value in self.network.state_dict().items():
            self.average[name].lerp_(value, 1.0 - decay)


def train(trainer: Trainer, folder: Path, on_step: Callable[[int, dict[str, float]], None]) -> None:
    """Run to the last step; saves every `checkpoint_every` steps, at the end, and when interrupted."""
    try:
        while trainer.step_number < trainer.config.steps:
            started = time.perf_counter()
            losses = trainer.step()
            trainer.seconds += time.perf_counter() - started
            on_step(trainer.step_number, losses)
            if trainer.step_number % trainer.config.checkpoint_every == 0:
                trainer.save(folder)
    finally:
        trainer.save(folder)
