"""The forward process q(a_k | a_0) (Mini-Diffuser v2, eq. 2 and 8) and the algebra around it.

| symbol | here |
|---|---|
| K | num_train_timesteps |
| k | timestep, 0-based: k = K - 1 is the noisiest |
| beta_k | betas |
| alpha-bar_k | alphas_cumprod |
| a_0, a_k, epsilon | original, noisy, noise |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from minidiffuser_ros.contract.errors import ConfigurationError

BetaSchedule = Literal["scaled_linear", "squaredcos_cap_v2"]
PredictionType = Literal["epsilon", "sample", "v_prediction"]
MAX_BETA = 0.999


@dataclass(frozen=True)
class ScheduleConfig:
    """Which noise at which step, and what the denoiser predicts."""

    num_train_timesteps: int = 100
    beta_schedule: BetaSchedule = "squaredcos_cap_v2"
    beta_start: float = 1e-4
    beta_end: float = 0.02
    prediction_type: PredictionType = "sample"

    def __post_init__(self) -> None:
        if self.num_train_timesteps < 2:
            raise ConfigurationError(f"num_train_timesteps must be at least 2, got {self.num_train_timesteps}")
        for value, known in (
            (self.beta_schedule, ("scaled_linear", "squaredcos_cap_v2")),
            (self.prediction_type, ("epsilon", "sample", "v_prediction")),
        ):
            if value not in known:
                raise ConfigurationError(f"'{value}' is not one of {', '.join(known)}")


class NoiseSchedule:
    """alpha-bar for every timestep, and conversions between what is predicted and what is needed."""

    def __init__(self, config: ScheduleConfig) -> None:
        self.config = config
        self.betas = _betas(config)
        self.alphas_cumprod = torch.cumprod(1.0 - self.betas, dim=0)

    def to(self, device: torch.device | str) -> NoiseSchedule:
        """The same schedule with its tables on another device."""
        moved = NoiseSchedule(self.config)
        moved.betas, moved.alphas_cumprod = self.betas.to(device), self.alphas_cumprod.to(device)
        return moved

    def coefficients(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """sqrt(alpha-bar) and sqrt(1 - alpha-bar), each of the shape of `timesteps` with one axis more."""
        alpha_bar = self.alphas_cumprod.to(timesteps.device)[timesteps].unsqueeze(-1)
        return alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt()

    def add_noise(self, original: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """a_k of eq. 8. original, noise: [..., D]; timesteps: [...]."""
        signal, sigma = self.coefficients(timesteps)
        return signal * original + sigma * noise

    def target(self, original: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the denoiser should return for this prediction type, [..., D]."""
        if self.config.prediction_type == "sample":
            return original.expand_as(noise)
        if self.config.prediction_type == "epsilon":
            return noise
        signal, sigma = self.coefficients(timesteps)
        return signal * noise - sigma * original

    def split(self, prediction: Tensor, noisy: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """(original, noise) that a prediction implies, each [..., D]."""
        signal, sigma = self.coefficients(timesteps)
        if self.config.prediction_type == "sample":
            original = prediction
        elif self.config.prediction_type == "epsilon":
            original = (noisy - sigma * prediction) / signal
        else:
            original = signal * noisy - sigma * prediction
        return original, (noisy - signal * original) / sigma

    def initial_noise(self, shape: tuple[int, ...], mean: float, spread: float, generator: torch.Generator) -> Tensor:
        """Start of the reverse process: the schedule's own terminal marginal for data of this mean and spread.

        scaled_linear over 100 steps ends at alpha-bar 0.485, far from pure noise; starting there from N(0, I)
        would feed the denoiser what it never saw.
        """
        signal, sigma = self.coefficients(torch.tensor(self.config.num_train_timesteps - 1))
        noise = torch.randn(shape, generator=generator)
        return signal * mean + noise * ((signal * spread) ** 2 + sigma**2).sqrt()


def _betas(config: ScheduleConfig) -> Tensor:
    steps = config.num_train_timesteps
    if config.beta_schedule == "scaled_linear":
        return torch.linspace(config.beta_start**0.5, config.beta_end**0.5, steps, dtype=torch.float64).square().float()
    time = torch.arange(steps + 1, dtype=torch.float64) / steps
    alpha_bar = torch.cos((time + 0.008) / 1.008 * torch.pi / 2) ** 2
    return (1.0 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=MAX_BETA).float()
