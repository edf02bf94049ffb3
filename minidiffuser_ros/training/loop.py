"""The training loop: two-level minibatches, AdamW, warm-up and cosine, EMA, validation, exact resume."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.model.mini_diffuser import MiniDiffuser
from minidiffuser_ros.policy.checkpoint import PolicyConfig, load_checkpoint, save_checkpoint
from minidiffuser_ros.policy.inputs import PositionScale
from minidiffuser_ros.training.bad_batch import NotFiniteError, save_bad_batch
from minidiffuser_ros.training.config import FREE_TO_CHANGE, TrainingConfig
from minidiffuser_ros.training.dataset import DemonstrationSet
from minidiffuser_ros.training.metrics import HeldOutMetrics, Validation
from minidiffuser_ros.training.objective import losses_of
from minidiffuser_ros.training.prefetch import Prefetch
from minidiffuser_ros.training.processes import Processes
from minidiffuser_ros.training.rates import average_decay, warmed_cosine
from minidiffuser_ros.training.state import differences, record_before, restore_training, save_training, write_record
from minidiffuser_ros.training.two_level import TwoLevelBatch, TwoLevelSampler


class Trainer:
    """Owns network, optimiser and EMA; every step is a function of the seed and the step's number."""

    def __init__(
        self, config: TrainingConfig, policy: PolicyConfig, data: DemonstrationSet, processes: Processes | None = None
    ) -> None:
        torch.manual_seed(config.seed)
        self.processes = processes or Processes()
        self.config, self.policy, self.data, self.device = config, policy, data, self.processes.device
        self.network = MiniDiffuser(policy.model).to(self.device)
        self.network.instruction_mean.copy_(data.token_mean())
        self.before: dict[str, float] = {}  # what the trainings took whose weights this one began with
        if config.start is not None:
            self._take_weights(Path(config.start))
        self.average = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), config.learning_rate, (0.9, 0.98), weight_decay=config.weight_decay, fused=True
        )
        self.schedule, self.scale = policy.noise_schedule(), PositionScale(policy.spec)
        self.sampler = TwoLevelSampler(data, self.schedule, self.scale, config, policy.model.rotation)
        self._rows = self.processes.rows(config.batch_size)
        self.step_number = 0
        self.seconds = 0.0
        self.held_out: dict[str, Any] = {}
        self.whole = True  # false while weights, optimiser, average and step number belong to different steps

    def batch(self, step: int) -> TwoLevelBatch:
        """This process's rows of the batch of a step, on the CPU, ready to be fetched by the device."""
        batch = self.sampler.batch(step, self._rows)
        return batch.pinned() if self.device.type == "cuda" else batch

    def step(self, batch: TwoLevelBatch | None = None) -> dict[str, float]:
        """One optimiser step; returns its losses over the whole batch.

        Raises NotFiniteError, with the weights as they were, where a loss or a gradient is not finite.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        losses = self.gradients(self.batch(self.step_number) if batch is None else batch)
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
        if not math.isfinite(sum(losses.values()) + float(norm)):
            raise NotFiniteError(self.step_number, losses, float(norm))
        with uninterrupted():
            self.whole = False
            self.optimizer.step()
            self.step_number += 1
            self._update_average()
            self.whole = True
        return losses

    def gradients(self, batch: TwoLevelBatch) -> dict[str, float]:
        """Fill the gradients of the weighted loss, averaged over all processes; returns the losses, likewise."""
        c = self.config
        # Dropout and the like draw from torch's own generator: it, too, must start from the step's number.
        torch.manual_seed(int(np.random.SeedSequence([c.seed, self.step_number]).generate_state(1, np.uint64)[0] >> 1))
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        losses = losses_of(self.network, self.schedule, self.scale, batch.to(self.device), c.loss, c.bf16)
        weights = {"position": c.position_weight, "rotation": c.rotation_weight, "balance": c.balance_weight}
        total = torch.stack([weights.get(name, 1.0) * value for name, value in losses.items()]).sum()
        total.backward()
        values = torch.stack([value.detach().float() for value in losses.values()])
        self.processes.average([*(p.grad for p in self.network.parameters() if p.grad is not None), values])
        return dict(zip(losses, values.tolist(), strict=True))

    def learning_rate(self) -> float:
        """Of the next step: linear warm-up, then a cosine that ends at the last step."""
        return warmed_cosine(self.config, self.step_number)

    def save(self, folder: Path) -> None:
        """The averaged weights as a policy, and everything needed to go on exactly here."""
        save_checkpoint(folder, self.policy, self.average)
        self.write_record(folder)
        save_training(folder, self, self.average)

    def settings(self) -> dict[str, Any]:
        """What a run must share with the one that it goes on from."""
        config = asdict(self.config)
        return {
            **{name: value for name, value in config.items() if name not in FREE_TO_CHANGE and value is not None},
            "model": asdict(self.policy.model),
            "schedule": asdict(self.policy.schedule),
            **({"rotation_schedule": asdict(rotation)} if (rotation := self.policy.rotation_schedule) else {}),
            "observations": self.policy.spec.to_dict(),
            "demonstrations": self.data.episodes_per_task(),
            "keypose_steps": len(self.data),
        }

    def write_record(self, folder: Path) -> None:
        """How this policy was made."""
        more = {
            "device": self.device.type,
            "processes": self.processes.count,
            "demonstrations": self.data.episodes_per_task(),
            "keypose_steps": len(self.data),
            **({"before": self.before} if self.before else {}),
        }
        write_record(folder, self, asdict(self.config), more)

    def resume(self, folder: Path) -> None:
        """Go on from `save`. Raises CheckpointError where the file does not fit."""
        self.average = restore_training(folder, self, self.device)

    def _take_weights(self, folder: Path) -> None:
        """Begin with those of another policy, its centre of the sentences too: what it learned was learned around it.

        Raises ConfigurationError for one of another network, saying what differs.
        """
        policy, weights = load_checkpoint(folder)
        if unlike := differences(asdict(policy.model), asdict(self.policy.model)):
            raise ConfigurationError(f"{folder} has another network than this training ({'; '.join(unlike)})")
        self.network.load_state_dict(weights)
        self.before = record_before(folder)

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = average_decay(self.config.ema_decay, self.step_number)
        for name, value in self.network.state_dict().items():
            self.average[name].lerp_(value, 1.0 - decay)


@dataclass(frozen=True)
class Watch:
    """For those who look on: on_step(steps done, losses, learning rate), on_validation(steps done, metrics)."""

    on_step: Callable[[int, dict[str, float], float], None] = lambda step, losses, learning_rate: None
    on_validation: Callable[[int, HeldOutMetrics], None] = lambda step, metrics: None


def train(trainer: Trainer, folder: Path, validation: Validation | None = None, watch: Watch | None = None) -> None:
    """Run to the last step; saves every `checkpoint_every` steps, at the end, and when interrupted.

    Validates every `validate_every` steps and at the end. All processes call it; the first one alone writes, and
    alone needs a validation.
    """
    watch = watch or Watch()
    try:
        with Prefetch(trainer.batch, trainer.config.steps - 1) as batches:
            while trainer.step_number < trainer.config.steps:
                started, rate = time.perf_counter(), trainer.learning_rate()
                losses = trainer.step(batches(trainer.step_number))
                trainer.seconds += time.perf_counter() - started
                watch.on_step(trainer.step_number, losses, rate)
                _look_after(trainer, folder, validation, watch)
        if trainer.step_number % trainer.config.validate_every or not trainer.held_out:
            _validate(trainer, validation, watch)
    except NotFiniteError as error:
        if not trainer.processes.writes:
            raise
        whole_batch = trainer.sampler.batch(error.step)
        raise error.kept_in(save_bad_batch(folder, whole_batch, trainer.config.seed, error)) from None
    finally:
        if trainer.whole and trainer.processes.writes and trainer.step_number:
            trainer.save(folder)


def _look_after(trainer: Trainer, folder: Path, validation: Validation | None, watch: Watch) -> None:
    """What is due after a step."""
    if trainer.step_number % trainer.config.validate_every == 0:
        _validate(trainer, validation, watch)
    if trainer.processes.writes and trainer.step_number % trainer.config.checkpoint_every == 0:
        trainer.save(folder)


def _validate(trainer: Trainer, validation: Validation | None, watch: Watch) -> None:
    if validation is not None:
        metrics = validation.measure(trainer.average)
        trainer.held_out = {"at_step": trainer.step_number, **metrics.to_dict()}
        watch.on_validation(trainer.step_number, metrics)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits until the block is done: weights, optimiser, average and step number change together."""
    before = signal.getsignal(signal.SIGINT)
    if before is None or threading.current_thread() is not threading.main_thread():
        yield  # another thread is never interrupted, and a handler that is not Python's cannot be put back
        return
    pending: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: pending.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if pending and callable(before):
            before(*pending[0])
