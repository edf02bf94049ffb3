"""The reverse process: DDIM and DDPM over any denoiser callable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.diffusion.schedule import NoiseSchedule

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(noisy [..., D], timesteps [...]) -> prediction [..., D]."""


@dataclass(frozen=True)
class SamplerConfig:
    """How the reverse process walks: `ddim` deterministic with few steps, `ddpm` ancestral."""

    kind: Literal["ddim", "ddpm"] = "ddim"
    num_inference_steps: int = 10
    clip_sample: float = 1.2

    def __post_init__(self) -> None:
        if self.kind not in ("ddim", "ddpm"):
            raise ConfigurationError(f"sampler '{self.kind}' is not one of ddim, ddpm")
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

    One loop serves both kinds: ancestral sampling is DDIM with eta = 1 (DDIM, eq. 12 and 16).
    """
    timesteps = inference_timesteps(schedule.config.num_train_timesteps, config.num_inference_steps)
    alphas = schedule.alphas_cumprod
    for now, following in zip(timesteps, [*timesteps[1:], None], strict=True):
        step = torch.full(noisy.shape[:-1], now, dtype=torch.long, device=noisy.device)
        original, _ = schedule.split(denoiser(noisy, step), noisy, step)
        original = original.clamp(-config.clip_sample, config.clip_sample)
        if following is None:
            return original
        signal, sigma = schedule.coefficients(step)
        noise = (noisy - signal * original) / sigma
        alpha_now, alpha_next = alphas[now], alphas[following]
        variance = torch.zeros(())
        if config.kind == "ddpm":
            variance = (1 - alpha_next) / (1 - alpha_now) * (1 - alpha_now / alpha_next)
        noisy = alpha_next.sqrt() * original + (1 - alpha_next - variance).clamp(min=0.0).sqrt() * noise
        if config.kind == "ddpm":
            noisy = noisy + variance.sqrt() * torch.randn(noisy.shape, generator=generator).to(noisy.device)
    raise AssertionError("unreachable: the last step returns")
