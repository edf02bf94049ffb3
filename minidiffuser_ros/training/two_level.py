"""Two-level minibatch: M noised copies of each of B targets, and the loss over all B M of them (v2 eq. 6-9)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from minidiffuser_ros.diffusion.schedule import NoiseSchedule


@dataclass(frozen=True)
class TwoLevelBatch:
    """timesteps [B, M]; noise, noisy and target [B, M, 3] in box units."""

    timesteps: Tensor
    noise: Tensor
    noisy: Tensor
    target: Tensor


def two_level_minibatch(
    schedule: NoiseSchedule, original: Tensor, num_samples: int, generator: torch.Generator
) -> TwoLevelBatch:
    """Draw M independent (k, epsilon) for each original [B, 3] (eq. 7) and apply the forward process (eq. 8)."""
    shape = (len(original), num_samples)
    timesteps = torch.randint(schedule.config.num_train_timesteps, shape, generator=generator).to(original.device)
    noise = torch.randn(*shape, 3, generator=generator).to(original.device)
    copies = original.unsqueeze(1).expand_as(noise)
    return TwoLevelBatch(
        timesteps, noise, schedule.add_noise(copies, noise, timesteps), schedule.target(copies, noise, timesteps)
    )
