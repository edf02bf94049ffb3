"""One step of the reverse process as the papers write it, against which the sampler's own is held."""

from __future__ import annotations

import torch
from torch import Tensor

from minidiffuser_ros.diffusion.sampler import SamplerKind
from minidiffuser_ros.diffusion.schedule import NoiseSchedule


def reverse_step(
    schedule: NoiseSchedule,
    kind: SamplerKind,
    original: Tensor,
    noisy: Tensor,
    now: int,
    following: int,
    generator: torch.Generator | None = None,
) -> Tensor:
    """From `noisy` at timestep `now`, believed to come from `original`, to `following` (DDIM, eq. 12 and 16)."""
    signal, sigma = schedule.signal[now], schedule.sigma[now]
    next_signal, next_sigma = schedule.signal[following], schedule.sigma[following]
    noise = (noisy - signal * original) / sigma
    if kind == "ddim":
        return next_signal * original + next_sigma * noise
    added = sigma**2 - (signal / next_signal * next_sigma) ** 2
    variance = added * (next_sigma / sigma) ** 2
    fresh = torch.randn(noisy.shape, generator=generator)
    return next_signal * original + (next_sigma**2 - variance).clamp(min=0.0).sqrt() * noise + variance.sqrt() * fresh
