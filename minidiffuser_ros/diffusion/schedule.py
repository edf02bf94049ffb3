"""The forward process q(a_k | a_0) (Mini-Diffuser v2, eq. 2 and 8) and the algebra around it.

| symbol | here |
|---|---|
| K | num_train_timesteps |
| k | timestep, 0-based: k = K - 1 is the noisiest |
| beta_k | betas, of the variance-preserving schedules |
| sqrt(alpha-bar_k), sqrt(1 - alpha-bar_k) | signal, sigma |
| a_0, a_k, epsilon | original, noisy, noise |

Every schedule is two tables, a_k = signal_k a_0 + sigma_k epsilon. Diffusion keeps signal^2 + sigma^2 = 1; flow
matching goes straight, signal + sigma = 1 (Lipman et al. 2023). Samplers need nothing else. Where both are 0 throughout
(`regression`) every start is the same point, and the denoiser is a regression: behaviour cloning, the baseline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from minidiffuser_ros.contract.errors import ConfigurationError

BetaSchedule = Literal["scaled_linear", "squaredcos_cap_v2", "flow_matching", "regression"]
PredictionType = Literal["epsilon", "sample", "v_prediction", "flow_prediction"]
MAX_BETA = 0.999


@dataclass(frozen=True)
class ScheduleConfig:
    """Which noise at which step, and what the denoiser predicts; names follow `diffusers`.

    rescale_betas_zero_snr: end in noise exactly (Lin et al. 2023, algorithm 1). prediction_type: the noise, the
    original, signal * noise - sigma * original, or noise - original, the velocity of flow matching.
    """

    num_train_timesteps: int = 100
    beta_schedule: BetaSchedule = "squaredcos_cap_v2"
    beta_start: float = 1e-4
    beta_end: float = 0.02
    prediction_type: PredictionType = "sample"
    rescale_betas_zero_snr: bool = False

    def __post_init__(self) -> None:
        if self.num_train_timesteps < 2:
            raise ConfigurationError(f"num_train_timesteps must be at least 2, got {self.num_train_timesteps}")
        for value, known in ((self.beta_schedule, BetaSchedule), (self.prediction_type, PredictionType)):
            if value not in get_args(known):
                raise ConfigurationError(f"'{value}' is not one of {', '.join(get_args(known))}")
        if self.beta_schedule == "regression" and self.prediction_type != "sample":
            raise ConfigurationError(
                f"beta_schedule regression goes with prediction_type sample, got '{self.prediction_type}'"
            )
        ends_in_noise = self.rescale_betas_zero_snr or self.beta_schedule == "flow_matching"
        if ends_in_noise and self.prediction_type == "epsilon":
            raise ConfigurationError(
                "where the last step is pure noise, the noise says nothing about the original: "
                "use prediction_type sample, v_prediction or flow_prediction instead of epsilon"
            )


class NoiseSchedule:
    """signal and sigma for every timestep, and conversions between what is predicted and what is needed."""

    def __init__(self, config: ScheduleConfig) -> None:
        self.config = config
        self.signal, self.sigma = (table.float() for table in _tables(config))

    def to(self, device: torch.device | str) -> NoiseSchedule:
        """The same schedule with its tables on another device."""
        moved = NoiseSchedule(self.config)
        moved.signal, moved.sigma = self.signal.to(device), self.sigma.to(device)
        return moved

    def coefficients(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """signal and sigma, each of the shape of `timesteps` with one axis more."""
        return (
            self.signal.to(timesteps.device)[timesteps].unsqueeze(-1),
            self.sigma.to(timesteps.device)[timesteps].unsqueeze(-1),
        )

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
        if self.config.prediction_type == "flow_prediction":
            return noise - original
        signal, sigma = self.coefficients(timesteps)
        return signal * noise - sigma * original

    def original(self, prediction: Tensor, noisy: Tensor, timesteps: Tensor) -> Tensor:
        """The original that a prediction implies, [..., D]."""
        if self.config.prediction_type == "sample":
            return prediction
        signal, sigma = self.coefficients(timesteps)
        if self.config.prediction_type == "epsilon":
            return (noisy - sigma * prediction) / signal
        if self.config.prediction_type == "flow_prediction":
            return (noisy - sigma * prediction) / (signal + sigma)
        return (signal * noisy - sigma * prediction) / (signal**2 + sigma**2)

    def split(self, prediction: Tensor, noisy: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """(original, noise) that a prediction implies, each [..., D]."""
        signal, sigma = self.coefficients(timesteps)
        original = self.original(prediction, noisy, timesteps)
        return original, (noisy - signal * original) / sigma

    def initial_noise(
        self, shape: tuple[int, ...], mean: float | Tensor, spread: float | Tensor, generator: torch.Generator
    ) -> Tensor:
        """Start of the reverse process: the schedule's own terminal marginal for data of this mean and spread.

        Both are those of every number, or [D], one each.
        scaled_linear over 100 steps ends at alpha-bar 0.485, far from pure noise; starting there from N(0, I)
        would feed the denoiser what it never saw.
        """
        signal, sigma = self.coefficients(torch.tensor(self.config.num_train_timesteps - 1))
        noise = torch.randn(shape, generator=generator)
        return signal * mean + noise * ((signal * spread) ** 2 + sigma**2).sqrt()


def _tables(config: ScheduleConfig) -> tuple[Tensor, Tensor]:
    """signal and sigma [K] in float64."""
    steps = config.num_train_timesteps
    if config.beta_schedule == "flow_matching":
        sigma = torch.arange(1, steps + 1, dtype=torch.float64) / steps
        return 1.0 - sigma, sigma
    if config.beta_schedule == "regression":
        return torch.zeros(steps, dtype=torch.float64), torch.zeros(steps, dtype=torch.float64)
    signal = torch.cumprod(1.0 - _betas(config), dim=0).sqrt()
    if config.rescale_betas_zero_snr:
        signal = (signal - signal[-1]) * (signal[0] / (signal[0] - signal[-1]))
    return signal, (1.0 - signal**2).sqrt()


def _betas(config: ScheduleConfig) -> Tensor:
    steps = config.num_train_timesteps
    if config.beta_schedule == "scaled_linear":
        return torch.linspace(config.beta_start**0.5, config.beta_end**0.5, steps, dtype=torch.float64).square()
    time = torch.arange(steps + 1, dtype=torch.float64) / steps
    alpha_bar = torch.cos((time + 0.008) / 1.008 * torch.pi / 2) ** 2
    return (1.0 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=MAX_BETA)
