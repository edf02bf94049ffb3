"""Sizes of a Mini-Diffuser. `mini_diffuser_small` is what two CPU cores train."""

from __future__ import annotations

from dataclasses import dataclass

from minidiffuser_ros.contract.errors import ConfigurationError


@dataclass(frozen=True)
class MiniDiffuserConfig:
    """Finest level first in every tuple. Lengths in metres, `rope_scale` in rad per metre."""

    grid_size: float = 0.008
    encoder_channels: tuple[int, ...] = (32, 64, 96, 128)
    decoder_channels: tuple[int, ...] = (48, 64, 96)
    head_channels: int = 16
    patch_size: int = 128
    width: int = 96
    num_heads: int = 4
    neck_levels: tuple[int, ...] = (3, 2, 1, 0, 0)
    head_levels: tuple[int, ...] = (1, 0)
    mlp_ratio: int = 2
    instruction_dim: int = 768
    dropout: float = 0.0
    rope_scale: float = 100.0
    rope_base: float = 100.0
    rotation_bins: int = 72

    def __post_init__(self) -> None:
        if len(self.decoder_channels) != len(self.encoder_channels) - 1:
            raise ConfigurationError(
                f"{len(self.encoder_channels)} encoder levels need one decoder level less, got {self.decoder_channels}"
            )
        if self.width % self.num_heads or 360 % self.rotation_bins:
            raise ConfigurationError(
                f"num_heads must divide width {self.width} and rotation_bins must divide 360, "
                f"got {self.num_heads} and {self.rotation_bins}"
            )
