"""Training of a pruner: the policy frozen, its whole walk unrolled, some of its own demonstrations (SAG, sec. 2.2-2.3).

Seeding: every step of the optimiser draws its observations, and the noise that each walk starts from and meets on its
way, from a generator of the run's seed and the step's number. One walk an observation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from minidiffuser_ros.contract.errors import ConfigurationError, require_positive
from minidiffuser_ros.diffusion.sampler import SamplerConfig
from minidiffuser_ros.policy.pruned import PrunablePolicy, PrunedConfig, PrunedWalks
from minidiffuser_ros.policy.sampling import PrunableSampler, walk_together
from minidiffuser_ros.pruning.losses import fidelity_loss, sparsity_loss
from minidiffuser_ros.pruning.pruner import (
    DiffusionPruner,
    PrunerConfig,
    observation_embedding,
    straight_through,
)
from minidiffuser_ros.pruning.reuse import gated_steps
from minidiffuser_ros.pruning.schedules import late_computed
from minidiffuser_ros.training.state import STATE, load_state, refusal, save_record, save_state

Teacher = Literal["expert", "policy"]
LATENESS = (1.0, 1.4, 2.0, 3.0, math.inf)
PROBED = 64  # observations, always the same and from the same noise, over which pruners are compared


@dataclass(frozen=True)
class PruningConfig:
    """rate: share of units to be reused (rho); beta: weight of that against acting as the expert does (eq. 8).

    fraction: of the training data that is looked at. shared: one buffer for all branches of a kind; per_branch: the
    rate holds for every branch by itself. Both defaults are the paper's, their opposites its ablations. sampler: of the
    walk that is pruned. teacher: whose action a pruned walk is held against, the expert's (eq. 9) or that of the
    policy's own whole walk from the same noise. warm_start_steps: of imitating a schedule that does not look, before;
    0 begins by computing everything. The schedule is the one of LATENESS whose walk ends closest to the whole one.
    probe_every: steps after which the pruner is held against the best one so far.
    """

    rate: float = 0.91
    beta: float = 1.0
    steps: int = 300
    batch_size: int = 32
    learning_rate: float = 3e-4
    warmup_steps: int = 4
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    warm_start_steps: int = 200
    probe_every: int = 10
    fraction: float = 0.05
    shared: bool = True
    per_branch: bool = False
    teacher: Teacher = "expert"
    seed: int = 0
    sampler: SamplerConfig = field(default_factory=lambda: SamplerConfig("ddpm", 100))
    pruner: PrunerConfig = field(default_factory=PrunerConfig)

    def __post_init__(self) -> None:
        require_positive(self, ("steps", "batch_size", "learning_rate", "fraction", "clip_norm", "probe_every"))
        if not 0.0 <= self.rate < 1.0:
            raise ConfigurationError(f"rate must lie in [0, 1), got {self.rate}")
        if self.teacher not in get_args(Teacher):
            raise ConfigurationError(f"teacher must be one of {', '.join(get_args(Teacher))}, got '{self.teacher}'")


class Demonstrations(Protocol):
    """Examples by number; a batch has `inputs` for the policy's network, and what `PrunableSampler.expert` reads."""

    def __len__(self) -> int:
        """How many."""

    def batch(self, indices: Sequence[int]) -> Any:
        """Some of them together."""


class PrunerTrainer:
    """Owns the pruner and its optimiser; the policy is only looked at.

    The gradient through decisions is a guess (`straight_through`), and steps along it can end worse than they began:
    what is kept is the best pruner on the way, by the loss of training over the same observations and noise.

    data: what a policy of its kind is trained on. state: a folder of `save_state` to go on from, instead of beginning
    from a schedule.
    """

    def __init__(
        self, config: PruningConfig, policy: PrunablePolicy, data: Demonstrations, state: Path | None = None
    ) -> None:
        torch.manual_seed(config.seed)
        self.config, self.policy = config, policy
        self.sampler: PrunableSampler = policy.sampler
        units = policy.sampler.units(config.sampler)
        generator = torch.Generator().manual_seed(config.seed)
        count = min(len(data), max(config.batch_size, round(config.fraction * len(data))))
        self.indices = torch.randperm(len(data), generator=generator)[:count].tolist()
        self.data = data
        for parameter in policy.network.parameters():
            parameter.requires_grad_(False)
        parts = [self.indices[i : i + config.batch_size] for i in range(0, count, config.batch_size)]
        self._embeddings = torch.cat([observation_embedding(self._encoded(data.batch(part))) for part in parts])
        self._width = self._embeddings.shape[1]
        self.pruner = DiffusionPruner(config.pruner, units, self._width).to(policy.device)
        self.optimizer = torch.optim.AdamW(
            self.pruner.parameters(), config.learning_rate, weight_decay=config.weight_decay
        )
        self.step_number = 0
        self.best: dict[str, Tensor] = {}
        self.best_loss = math.inf
        if state is not None:
            self.resume(state)
        else:
            if config.warm_start_steps:
                self._imitate(self.start_schedule())
            self._probe()

    @torch.no_grad()
    def start_schedule(self) -> Tensor:
        """The mask [K, U] that training begins from, of those that do not look at the observation."""
        units, c = self.pruner.units, self.config
        condition = self._encoded(self.data.batch(self.indices[: c.batch_size]))
        gates = torch.zeros(len(self.indices[: c.batch_size]), *units.shape, device=self.policy.device)

        def walked(gates: Tensor) -> Tensor:
            return self.walk(condition, gates, torch.Generator().manual_seed(c.seed))

        whole = walked(gates).squeeze(1)
        masks = [late_computed(units, c.rate, lateness).to(gates) for lateness in LATENESS]
        errors = [float(fidelity_loss(walked(mask.expand_as(gates)), whole)) for mask in masks]
        return masks[errors.index(min(errors))].bool()

    def _imitate(self, mask: Tensor) -> None:
        """Begin from a schedule that does not look: from a walk that goes astray no gradient tells the way back."""
        c = self.config
        optimizer = torch.optim.Adam(self.pruner.parameters(), 3e-3)
        target = mask.long().expand(c.batch_size, *mask.shape)
        for step in range(c.warm_start_steps):
            generator = torch.Generator().manual_seed((c.seed << 32) + step)
            chosen = torch.randint(len(self.indices), (c.batch_size,), generator=generator).tolist()
            logits = self.pruner(self._embeddings[chosen])
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(logits.flatten(0, 2), target.flatten()).backward()
            optimizer.step()

    @torch.no_grad()
    def _encoded(self, batch: Any) -> Any:
        return self.policy.network.encode(batch.inputs.to(self.policy.device))

    def step(self) -> dict[str, float]:
        """One step of the optimiser; returns fidelity, sparsity, and the share that is reused."""
        c = self.config
        generator = torch.Generator().manual_seed((c.seed << 32) + self.step_number)
        chosen = torch.randint(len(self.indices), (c.batch_size,), generator=generator).tolist()
        losses, gates = self._losses([self.indices[i] for i in chosen], generator)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self.optimizer.zero_grad(set_to_none=True)
        (losses["fidelity"] + c.beta * losses["sparsity"]).backward()
        torch.nn.utils.clip_grad_norm_(self.pruner.parameters(), c.clip_norm)
        self.optimizer.step()
        self.step_number += 1
        if self.step_number % c.probe_every == 0 or self.step_number == c.steps:
            self._probe()
        return {**{name: float(loss.detach()) for name, loss in losses.items()}, "pruned": float(gates.detach().mean())}

    @torch.no_grad()
    def _probe(self) -> None:
        """Keep the pruner as it is now if it is the best so far."""
        generator = torch.Generator().manual_seed(self.config.seed)
        losses, _ = self._losses(self.indices[:PROBED], generator)
        loss = float(losses["fidelity"] + self.config.beta * losses["sparsity"])
        if loss < self.best_loss:
            self.best_loss = loss
            self.best = {name: value.detach().clone() for name, value in self.pruner.state_dict().items()}

    def _losses(self, indices: Sequence[int], generator: torch.Generator) -> tuple[dict[str, Tensor], Tensor]:
        """Both losses, and the gates [B, K, U], of some samples."""
        batch = self.data.batch(indices)
        condition = self._encoded(batch)
        gates = straight_through(self.pruner(observation_embedding(condition)))
        noise = generator.get_state()
        actions = self.walk(condition, gates, generator)
        losses = {
            "fidelity": fidelity_loss(actions, self._taught(batch, condition, gates, generator.set_state(noise))),
            "sparsity": sparsity_loss(gates, self.config.rate, self.config.per_branch),
        }
        return losses, gates

    @torch.no_grad()
    def _taught(self, batch: Any, condition: Any, gates: Tensor, generator: torch.Generator) -> Tensor:
        """What pruned walks should end at [B, ...]; generator: as it was before them."""
        if self.config.teacher == "expert":
            return self.sampler.expert(batch)
        whole: Tensor = self.walk(condition, torch.zeros_like(gates), generator)
        return whole.squeeze(1)

    def walk(self, condition: Any, gates: Tensor, generator: torch.Generator) -> Tensor:
        """Samples [B, 1, S], in the units of diffusion, that the policy ends at under the gates [B, K, U]."""
        executors = gated_steps(self.pruner.units, gates, self.config.shared)
        return walk_together(self.sampler, self.config.sampler, condition, executors, len(gates), generator)

    def learning_rate(self) -> float:
        """Of the next step: linear warm-up, then a cosine to zero."""
        c, step = self.config, self.step_number
        warm = min(1.0, (step + 1) / max(1, c.warmup_steps))
        return c.learning_rate * warm * 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / c.steps)))

    def settings(self) -> dict[str, Any]:
        """What a run must share with the one that it goes on from."""
        return {**asdict(self.config), "samples": len(self.indices), "policy": asdict(self.policy.config.model)}

    def save_state(self, folder: Path) -> None:
        """Everything needed to go on exactly here."""
        state = {
            "step": self.step_number,
            "pruner": self.pruner.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": self.best,
            "best_loss": self.best_loss,
        }
        save_state(folder, self.settings(), state)

    def write_record(self, folder: Path) -> None:
        """`training.json`: how this pruner was made; the card of its policy quotes it."""
        config = asdict(self.config)
        save_record(folder, {"config": config, "steps": self.step_number, "samples": len(self.indices)})

    def resume(self, folder: Path) -> None:
        """Go on from `save_state`. Raises CheckpointError where the file does not fit."""
        state = load_state(folder, self.settings(), torch.device(self.policy.device))
        try:
            self.pruner.load_state_dict(state["pruner"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step_number = int(state["step"])
            self.best, self.best_loss = dict(state["best"]), float(state["best_loss"])
        except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise refusal(folder / STATE, error) from None

    def trained(self, policy_fingerprint: str) -> PrunedWalks:
        """The best pruner so far, for use beside its policy."""
        c = self.config
        config = PrunedConfig(policy_fingerprint, self._width, c.rate, c.shared, c.sampler, c.pruner)
        pruner = DiffusionPruner(c.pruner, self.pruner.units, self._width).to(self.policy.device)
        pruner.load_state_dict(self.best)
        return PrunedWalks(config, pruner)
