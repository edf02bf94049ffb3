"""Calibration of a policy's trust: what is usual on held-out demonstrations, and which observations training had."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from minidiffuser_ros.contract.errors import ConfigurationError, require_positive
from minidiffuser_ros.diffusion.sampler import SamplerConfig
from minidiffuser_ros.policy.policy import Policy
from minidiffuser_ros.policy.trust import Novelty, Trust, TrustConfig, signs_of
from minidiffuser_ros.pruning.pruner import observation_embedding
from minidiffuser_ros.training.dataset import DemonstrationSet

SMALLEST = 1e-6  # limit of a sign that is nothing on all held-out observations
BATCH = 16


@dataclass(frozen=True)
class CalibrationConfig:
    """How a limit comes about: margin times the quantile of held-out observations; known: of training, to be kept."""

    quantile: float = 0.99
    margin: float = 1.5
    observations: int = 128
    known: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        require_positive(self, ("quantile", "margin", "observations", "known"))
        if self.quantile > 1.0:
            raise ConfigurationError(f"quantile must lie in (0, 1], got {self.quantile}")


@torch.inference_mode()
def calibrate(
    config: CalibrationConfig,
    policy: Policy,
    training: DemonstrationSet,
    validation: DemonstrationSet,
    policy_fingerprint: str,
    fallback: SamplerConfig,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Trust:
    """The trust in what `policy.plan` leads to.

    fallback: of the walk that is taken after a doubt. progress: passes on what is gone through, and may show it.
    """
    generator = torch.Generator().manual_seed(config.seed)
    known = _drawn(training, config.known, generator)
    starts = range(0, len(known), BATCH)
    novelty = Novelty.of(torch.cat([_embeddings(policy, training, known[i : i + BATCH]) for i in progress(starts)]))
    signs = []
    for index in progress(_drawn(validation, config.observations, generator)):
        condition = policy.network.encode(validation.batch([index]).inputs.to(policy.device))
        proposal = policy.propose(condition, policy.plan(condition), index)
        signs.append(asdict(signs_of(policy, novelty, condition, proposal)))
    limits = {
        name: max(SMALLEST, config.margin * float(np.quantile([sign[name] for sign in signs], config.quantile)))
        for name in signs[0]
    }
    settings = TrustConfig(
        policy=policy_fingerprint, sampler=fallback, quantile=config.quantile, margin=config.margin,
        observations=len(signs), **limits,
    )  # fmt: skip
    return Trust(settings, policy, novelty)


def _drawn(data: DemonstrationSet, count: int, generator: torch.Generator) -> list[int]:
    drawn: list[int] = torch.randperm(len(data), generator=generator)[:count].tolist()
    return drawn


def _embeddings(policy: Policy, data: DemonstrationSet, indices: Sequence[int]) -> Tensor:
    return observation_embedding(policy.network.encode(data.batch(indices).inputs.to(policy.device)))
