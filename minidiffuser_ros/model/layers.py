"""Small layers that the networks share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minidiffuser_ros.model.sparse_conv import neighbourhood_product
from minidiffuser_ros.model.voxels import VoxelLevel


class SubmanifoldConv(nn.Module):
    """Convolution of an odd kernel over occupied voxels: [N, C] -> [N, D]."""

    def __init__(self, channels: int, out_channels: int, kernel: int = 3) -> None:
        super().__init__()
        self.kernel = kernel
        self.weight = nn.Parameter(torch.empty(kernel**3, channels, out_channels))
        # On a surface about a kernel's square of its cells is occupied.
        nn.init.normal_(self.weight, std=(kernel**2 * channels) ** -0.5)
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, features: Tensor, level: VoxelLevel) -> Tensor:
        """Convolve packed features."""
        out: Tensor = neighbourhood_product(features, self.weight, level.neighbourhood(self.kernel)) + self.bias
        return out


class Mlp(nn.Sequential):
    """Linear, GELU, linear."""

    def __init__(self, width: int, ratio: int, out: int | None = None) -> None:
        super().__init__(nn.Linear(width, ratio * width), nn.GELU(), nn.Linear(ratio * width, out or width))


def dropout(probability: float) -> nn.Module:
    """Dropout, or nothing at all at probability 0."""
    return nn.Dropout(probability) if probability else nn.Identity()


@dataclass(frozen=True)
class NoiseLevels:
    """How noisy each sample is: sinusoidal embeddings [U, D] of the distinct levels, index [B, M] of each sample's own.

    However many samples there are, there are no more levels than diffusion steps: what depends on the level alone is
    computed once a level. step: the diffusion step, where all samples are known to be at the same one.
    """

    embeddings: Tensor
    index: Tensor
    step: int | None = None

    @classmethod
    def of(cls, timesteps: Tensor, embed: Callable[[Tensor], Tensor]) -> NoiseLevels:
        """Of timesteps [B, M], each distinct one embedded once."""
        distinct, index = timesteps.unique(return_inverse=True)
        return cls(embed(distinct), index)

    def of_samples(self, per_level: Tensor) -> Tensor:
        """Values [U, C] of the levels as those of the samples [B, M, C]."""
        out: Tensor = per_level.index_select(0, self.index.flatten()).unflatten(0, self.index.shape)
        return out


@dataclass(frozen=True)
class FilmContext:
    """What scale and shift are made of: what is to be known of each observation [B, D], and the noise, if any."""

    observation: Tensor
    noise: NoiseLevels | None = None


class FilmNorm(nn.Module):
    """LayerNorm whose scale and shift come from each sample's own context (v2 eq. 13): SiLU, then a linear layer.

    Both act on observation and noise side by side, so that their shares are computed once an observation and once a
    level, and only added for each sample. `noise` is the width of the noise embedding, 0 where there is no noise.
    """

    def __init__(self, width: int, observation: int, noise: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.by_observation = nn.Linear(observation, 2 * width)
        self.by_noise = nn.Linear(noise, 2 * width, bias=False) if noise else None
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def modulation(self, context: FilmContext) -> Tensor:
        """1 + scale and shift side by side, [B, M, 2 C]; [B, 1, 2 C] where no noise tells the samples apart."""
        scale, shift = self.by_observation(F.silu(context.observation)).unsqueeze(1).chunk(2, dim=-1)
        modulation = torch.cat([1.0 + scale, shift], dim=-1)
        if self.by_noise is not None and context.noise is not None:
            modulation = modulation + context.noise.of_samples(self.by_noise(F.silu(context.noise.embeddings)))
        return modulation

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """x [B, M, L, C] -> [B, M, L, C], by the `modulation` of its context."""
        factor, shift = modulation.unsqueeze(2).chunk(2, dim=-1)
        return torch.addcmul(shift, self.norm(x), factor)


class SinusoidalEmbedding(nn.Module):
    """Sines and cosines of a scalar [...] -> [..., width]."""

    frequencies: Tensor

    def __init__(self, width: int, max_period: float = 1000.0) -> None:
        super().__init__()
        frequencies = max_period ** (-torch.arange(width // 2) / (width // 2))
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, value: Tensor) -> Tensor:
        """Embed."""
        angles = value.float().unsqueeze(-1) * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=-1)
