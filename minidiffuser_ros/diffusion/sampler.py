"""The reverse process: DDIM and DDPM over any denoiser callable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.diffusion.schedule import NoiseSchedule

SamplerKind = Literal["ddim", "ddpm"]
Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(noisy [..., D], timesteps [...]) -> prediction [..., D]."""


@dataclass(frozen=True)
class SamplerConfig:
    """How the reverse process walks: `ddim` deterministic with few steps, `ddpm` ancestral."""

    kind: SamplerKind = "ddim"
    num_inference_steps: int = 10
    clip_sample: float = 1.2

    def __post_init__(self) -> None:
        if self.kind not in get_args(SamplerKind):
            raise ConfigurationError(f"sampler '{self.kind}' is not one of {', '.join(get_args(SamplerKind))}")
        if self.num_inference_steps < 1:
            raise ConfigurationError(f"num_inference_steps must be at least 1, got {self.num_inference_steps}")


def inference_timesteps(num_train_timesteps: int, num_inference_steps: int) -> list[int]:
    """Evenly from K - 1, the noisiest, down to 0 (`linspace` spacing in diffusers' words).

    Ending at 0 matters with few steps: from a last step of some noise left, what is told is the mean over nearby
    originals, not one of them.
    """
    if num_inference_steps > num_train_timesteps:
        raise ConfigurationError(f"{num_inference_steps} inference steps exceed the {num_train_timesteps} trained ones")
    stride = (num_train_timesteps - 1) / max(1, num_inference_steps - 1)
    return [round(num_train_timesteps - 1 - i * stride) for i in range(num_inference_steps)]


def sample(
    denoiser: Denoiser,
    schedule: NoiseSchedule,
    config: SamplerConfig,
    noisy: Tensor,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Denoise `noisy` [..., D], drawn from `schedule.initial_noise`, to originals of the same shape.

    One loop serves all: ancestral sampling is DDIM with eta = 1 (DDIM, eq. 12 and 16), and with the straight tables
    of flow matching a DDIM step is an Euler step along the velocity. Everything that comes from the host is sent before
    the first step, and nothing is asked back, so that an accelerator never waits within the walk.
    """
    timesteps = inference_timesteps(schedule.config.num_train_timesteps, config.num_inference_steps)
    steps = torch.tensor(timesteps, device=noisy.device).view(-1, *[1] * (noisy.ndim - 1)).expand(-1, *noisy.shape[:-1])
    fresh = _fresh_noise(config, noisy, generator)
    for index, (now, following) in enumerate(zip(timesteps, [*timesteps[1:], None], strict=True)):
        original, _ = schedule.split(denoiser(noisy, steps[index]), noisy, steps[index])
        original = original.clamp(-config.clip_sample, config.clip_sample)
        if following is None:
            return original
        added = None if fresh is None else fresh[index]
        noisy = reverse_step(schedule, config.kind, original, noisy, now, following, fresh=added)
    raise AssertionError("unreachable: the last step returns")


def _fresh_noise(config: SamplerConfig, noisy: Tensor, generator: torch.Generator | None) -> Tensor | None:
    """What ancestral sampling adds after each step but the last, drawn on the host in their order, and sent at once."""
    if config.kind != "ddpm" or config.num_inference_steps == 1:
        return None
    drawn = [torch.randn(noisy.shape, generator=generator) for _ in range(config.num_inference_steps - 1)]
    return torch.stack(drawn).to(noisy.device)


def reverse_step(
    schedule: NoiseSchedule,
    kind: SamplerKind,
    original: Tensor,
    noisy: Tensor,
    now: int,
    following: int,
    generator: torch.Generator | None = None,
    fresh: Tensor | None = None,
) -> Tensor:
    """From `noisy` at timestep `now`, believed to come from `original`, to the less noisy timestep `following`.

    fresh: noise of its shape that `ddpm` adds; drawn from the generator where none is given.
    """
    signal, sigma = schedule.signal[now], schedule.sigma[now]
    next_signal, next_sigma = schedule.signal[following], schedule.sigma[following]
    noise = (noisy - signal * original) / sigma
    if kind == "ddim":
        return next_signal * original + next_sigma * noise
    added = sigma**2 - (signal / next_signal * next_sigma) ** 2  # variance of q(a_now | a_following)
    variance = added * (next_sigma / sigma) ** 2
    if fresh is None:
        fresh = torch.randn(noisy.shape, generator=generator).to(noisy.device)
    return next_signal * original + (next_sigma**2 - variance).clamp(min=0.0).sqrt() * noise + variance.sqrt() * fresh
