"""The reverse process: DDIM and DDPM over any denoiser callable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    coefficients = reverse_coefficients(schedule, config.kind, timesteps)
    of_original, of_noisy, of_fresh = (part.to(noisy.device) for part in coefficients)
    reverse = list(zip(of_original.unbind(), of_noisy.unbind(), strict=True))
    fresh = _fresh_noise(config, noisy, of_fresh, generator)
    for index, step in enumerate(steps):
        original = schedule.original(denoiser(noisy, step), noisy, step)
        original = original.clamp(-config.clip_sample, config.clip_sample)
        if index + 1 == len(timesteps):
            return original
        a, b = reverse[index]
        noisy = a * original + b * noisy
        if fresh is not None:
            noisy = noisy + fresh[index]
    raise AssertionError("unreachable: the last step returns")


def _fresh_noise(
    config: SamplerConfig, noisy: Tensor, scale: Tensor, generator: torch.Generator | None
) -> Tensor | None:
    """What ancestral sampling adds after each step but the last, drawn on the host in their order, and sent at once."""
    if config.kind != "ddpm" or config.num_inference_steps == 1:
        return None
    drawn = [torch.randn(noisy.shape, generator=generator) for _ in range(config.num_inference_steps - 1)]
    return torch.stack(drawn).to(noisy.device) * scale.view(len(drawn), *[1] * (noisy.ndim - 1), -1)


def reverse_coefficients(
    schedule: NoiseSchedule, kind: SamplerKind, timesteps: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """A walk through these timesteps as numbers: a step is x = a original + b x + c fresh noise.

    Each [S - 1, 1], or [S - 1, D] where every number has a schedule of its own. They depend on nothing that is sampled,
    and a step of a pruned walk is short: computed within it they took a tenth of its time.
    """
    tables = [table.double().view(len(table), -1) for table in (schedule.signal, schedule.sigma)]
    signal, sigma = (table[list(timesteps[:-1])] for table in tables)
    next_signal, next_sigma = (table[list(timesteps[1:])] for table in tables)
    if kind == "ddim":
        direction, variance = next_sigma, torch.zeros_like(sigma)
    else:
        added = sigma**2 - (signal / next_signal * next_sigma) ** 2  # variance of q(a_now | a_following)
        variance = added * (next_sigma / sigma) ** 2
        direction = (next_sigma**2 - variance).clamp(min=0.0).sqrt()
    of_noisy = direction / sigma
    return (next_signal - of_noisy * signal).float(), of_noisy.float(), variance.sqrt().float()
