"""Whether a fast answer is believed. Three things that cost little are held against what is usual on held-out scenes:

- correction: how far one whole step of the network would move the chosen candidate. A walk that went astray is moved
  by about its error.
- scatter: of the distances of all candidates to their third nearest, the median. Several right answers do not raise it.
- novelty: how far the observation is from the nearest one of training, in the directions and units in which those vary.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from minidiffuser_ros.contract.errors import CheckpointError, ConfigurationError, require_positive
from minidiffuser_ros.diffusion.sampler import SamplerConfig, inference_timesteps
from minidiffuser_ros.model.mini_diffuser import Condition
from minidiffuser_ros.policy.checkpoint import WEIGHTS, read_checkpoint, save_checkpoint
from minidiffuser_ros.policy.policy import Doubt, Policy, Proposal
from minidiffuser_ros.policy.pruned import fingerprint
from minidiffuser_ros.policy.sampling import Walk
from minidiffuser_ros.pruning.pruner import observation_embedding

TRUST = "trust"  # the folder below that of the policy
NEIGHBOUR = 3
DIRECTIONS = 32  # in which the observations of training vary most


@dataclass(frozen=True)
class TrustConfig:
    """What is usual. policy: hash of the weights it was calibrated for; limits: of the three signs, m, m and 1.

    sampler: of the walk that is taken after a doubt. A limit is `margin` times the `quantile` of that many held-out
    observations, `walks` of them all.
    """

    policy: str
    correction: float
    scatter: float
    novelty: float
    sampler: SamplerConfig
    quantile: float
    margin: float
    observations: int

    def __post_init__(self) -> None:
        require_positive(self, ("correction", "scatter", "novelty", "quantile", "margin", "observations"))
        if self.quantile > 1.0:
            raise ConfigurationError(f"quantile must lie in (0, 1], got {self.quantile}")


@dataclass(frozen=True)
class Signs:
    """What there is to doubt one proposal: correction m, scatter m, novelty in spreads of the training observations."""

    correction: float
    scatter: float
    novelty: float


class Novelty:
    """How unlike those of training an observation is: of embeddings [N, E], by their mean and widest directions."""

    def __init__(self, mean: Tensor, axes: Tensor, known: Tensor) -> None:
        self.mean, self.axes, self.known = mean, axes, known

    @classmethod
    def of(cls, embeddings: Tensor) -> Novelty:
        """From the embeddings [N, E] of training; in half precision, as they are stored."""
        mean = embeddings.mean(0)
        _, spreads, directions = torch.linalg.svd(embeddings - mean, full_matrices=False)
        count = min(DIRECTIONS, int((spreads > 1e-3 * spreads[0]).sum()))
        axes = directions[:count].T / (spreads[:count] / len(embeddings) ** 0.5)
        mean, axes = mean.half().float(), axes.half().float()
        return cls(mean, axes, ((embeddings - mean) @ axes).half().float())

    def __call__(self, embedding: Tensor) -> float:
        """Distance of one embedding [1, E] from its nearest known one, each direction in its own spread."""
        own = (embedding - self.mean) @ self.axes
        return float((self.known - own).norm(dim=-1).min() / own.shape[-1] ** 0.5)


class Trust:
    """The calibrated doubt of one policy, on its device. `doubt` is for `Policy.doubt`."""

    def __init__(self, config: TrustConfig, policy: Policy, novelty: Novelty) -> None:
        self.config, self.policy, self.novelty = config, policy, novelty

    def doubt(self, condition: Condition, proposal: Proposal) -> Doubt | None:
        """Why a proposal is doubted, the first reason there is, and the walk to take instead."""
        signs, c = signs_of(self.policy, self.novelty, condition, proposal), self.config
        for name, unit in (("correction", " m"), ("scatter", " m"), ("novelty", "")):
            value, limit = getattr(signs, name), getattr(c, name)
            if not value <= limit:  # a value that is no number is doubted, too
                return Doubt(f"{name} {value:.3g}{unit}, at most {limit:.3g}{unit} is usual", Walk(c.sampler))
        return None

    def save(self, folder: Path) -> None:
        """Write it into the folder of its policy."""
        tables = {"mean": self.novelty.mean, "axes": self.novelty.axes, "known": self.novelty.known}
        save_checkpoint(folder / TRUST, self.config, tables)

    @classmethod
    def load(cls, folder: Path, policy: Policy) -> Trust:
        """What lies in the folder of a policy. Raises CheckpointError where there is none, or of another policy."""
        path = folder / TRUST
        required = {"policy", "correction", "scatter", "novelty", "sampler", "quantile", "margin", "observations"}
        advice = f"calibrate it with `minidiffuser prune {folder}`"
        config, tables = read_checkpoint(path, TrustConfig, required, advice)
        if config.policy != fingerprint(folder):
            raise CheckpointError(f"{path} was calibrated for other weights than those in {folder}: calibrate it again")
        try:
            inference_timesteps(policy.config.schedule.num_train_timesteps, config.sampler.num_inference_steps)
            mean, axes, known = (tables[name].float().to(policy.device) for name in ("mean", "axes", "known"))
            if not (mean.ndim == 1 and axes.shape == (len(mean), known.shape[-1]) and known.ndim == 2 and len(known)):
                raise ConfigurationError(f"mean {list(mean.shape)}, axes {list(axes.shape)}, known {list(known.shape)}")
        except (ConfigurationError, KeyError) as error:
            raise CheckpointError(f"{path / WEIGHTS} does not fit its config: {error}") from None
        return cls(config, policy, Novelty(mean, axes, known))


@torch.inference_mode()
def signs_of(policy: Policy, novelty: Novelty, condition: Condition, proposal: Proposal) -> Signs:
    """The three signs for a proposal about the one observation of `condition`."""
    correction = 0.0  # of rotations that are diffused with the position there is no such step
    if policy.config.model.rotation == "bins":
        chosen = torch.as_tensor(proposal.candidates[proposal.chosen], dtype=torch.float32, device=policy.device)
        correction = float(policy.sampler.corrections(condition, chosen.view(1, 1, 3)))
    gaps = np.linalg.norm(proposal.candidates[:, None] - proposal.candidates[None], axis=-1)
    nearest = np.sort(gaps, axis=1)[:, min(NEIGHBOUR, len(gaps) - 1)]
    return Signs(correction, float(np.median(nearest)), novelty(observation_embedding(condition)))
