"""Small layers shared by backbone and neck."""

from __future__ import annotations

import torch
from torch import Tensor, nn

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
        return neighbourhood_product(features, self.weight, level.neighbourhood(self.kernel)) + self.bias


class Mlp(nn.Sequential):
    """Linear, GELU, linear."""

    def __init__(self, width: int, ratio: int, out: int | None = None) -> None:
        super().__init__(nn.Linear(width, ratio * width), nn.GELU(), nn.Linear(ratio * width, out or width))


def dropout(probability: float) -> nn.Module:
    """Dropout, or nothing at all at probability 0."""
    return nn.Dropout(probability) if probability else nn.Identity()


class FilmNorm(nn.Module):
    """LayerNorm whose scale and shift come from each sample's own context (v2 eq. 13)."""

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        modulation = nn.Linear(context, 2 * width)
        nn.init.zeros_(modulation.weight)
        nn.init.zeros_(modulation.bias)
        self.film = nn.Sequential(nn.SiLU(), modulation)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x [B, M, L, C], context [B, M, D]."""
        scale, shift = self.film(context).unsqueeze(2).chunk(2, dim=-1)
        out: Tensor = self.norm(x) * (1.0 + scale) + shift
        return out


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
