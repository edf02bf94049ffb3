"""The condition stream: a point U-Net that sees the observation once, whatever the number of samples.

Legend: B clouds, N voxels packed, V voxels padded, T instruction tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minidiffuser_ros.model.attention import plain_attention
from minidiffuser_ros.model.config import MiniDiffuserConfig
from minidiffuser_ros.model.layers import Mlp, SubmanifoldConv, dropout
from minidiffuser_ros.model.voxels import VoxelLevel, max_pool, mean_pool

POINT_FEATURES = 7  # xyz minus the cloud's centroid, rgb in [-1, 1], height above the table


class PointBlock(nn.Module):
    """Conditional position encoding, self-attention, attention to the instruction, MLP; all residual, pre-norm."""

    def __init__(self, channels: int, num_heads: int, config: MiniDiffuserConfig) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.patch_size = config.patch_size
        self.position = SubmanifoldConv(channels, channels)
        self.position_linear = nn.Linear(channels, channels) if config.position_linear else nn.Identity()
        self.position_norm = nn.LayerNorm(channels)
        self.attention_norm, self.text_norm, self.mlp_norm = (nn.LayerNorm(channels) for _ in range(3))
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.text_query, self.text_out = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.text_key_value = nn.Linear(config.width, 2 * channels)
        self.mlp = Mlp(channels, config.mlp_ratio)
        head = channels // num_heads
        self.query_norm = nn.LayerNorm(head) if config.patch_qk_norm else nn.Identity()
        # A shift of all keys alike would vanish in the softmax.
        self.key_norm = nn.LayerNorm(head, bias=False) if config.patch_qk_norm else nn.Identity()
        self.early_mlp = (
            nn.Sequential(nn.LayerNorm(channels), Mlp(channels, config.mlp_ratio)) if config.mlp_before_text else None
        )
        self.dropout = dropout(config.dropout)

    def forward(self, x: Tensor, level: VoxelLevel, text: Tensor, text_mask: Tensor) -> Tensor:
        """x [N, C], text [B, T, D], text_mask [B, T] -> [N, C]."""
        x = x + self.position_norm(self.position_linear(self.position(x, level)))
        padded = level.pad(self.qkv(self.attention_norm(x)))
        patches, mask = self._patches(padded, level.mask)
        query, key, value = self._heads(patches.chunk(3, dim=-1))
        attended = plain_attention(self.query_norm(query), self.key_norm(key), value, mask)
        attended = attended.transpose(1, 2).flatten(2).unflatten(0, (len(padded), -1)).flatten(1, 2)
        x = x + self.dropout(self.out(level.unpad(attended[:, : padded.shape[1]])))
        if self.early_mlp is not None:
            x = x + self.dropout(self.early_mlp(x))
        query, key, value = self._heads(
            (level.pad(self.text_query(self.text_norm(x))), *self.text_key_value(text).chunk(2, dim=-1))
        )
        attended = plain_attention(query, key, value, text_mask).transpose(1, 2).flatten(2)
        x = x + self.dropout(self.text_out(level.unpad(attended)))
        out: Tensor = x + self.dropout(self.mlp(self.mlp_norm(x)))
        return out

    def _patches(self, padded: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Cut the serialized clouds [B, V, C] into patches [B p, S, C] with their mask [B p, S].

        The cuts never depend on the fullest cloud of the batch, so that a cloud is encoded alike in any company: in
        training, alone on the robot, and in any share of a batch. A patch without any voxel keeps one allowed key:
        softmax over nothing would be NaN.
        """
        size = min(self.patch_size, padded.shape[1])
        count = -(-padded.shape[1] // size)
        missing = count * size - padded.shape[1]
        patches = F.pad(padded, (0, 0, 0, missing)).unflatten(1, (count, size)).flatten(0, 1)
        allowed = F.pad(mask, (0, missing)).unflatten(1, (count, size)).flatten(0, 1).clone()
        allowed[:, 0] |= ~allowed.any(dim=1)
        return patches, allowed

    def _heads(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Each [B, S, C] as [B, H, S, C / H]."""
        return tuple(t.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for t in tensors)


class PointUNet(nn.Module):
    """Encoder, pooling with kept indices, decoder; returns packed features of every level, finest first."""

    def __init__(self, config: MiniDiffuserConfig) -> None:
        super().__init__()
        encoder, decoder = config.encoder_channels, config.decoder_channels
        self.stem = SubmanifoldConv(POINT_FEATURES, encoder[0], config.stem_kernel)
        self.stem_norm = nn.LayerNorm(encoder[0])
        self.encoder = nn.ModuleList(_blocks(encoder, config.encoder_heads, config))
        self.down = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(encoder))
        coarser = (*decoder[1:], encoder[-1])
        self.up = nn.ModuleList(nn.Linear(a, b) for a, b in zip(coarser, decoder, strict=True))
        self.skip = nn.ModuleList(nn.Linear(a, b) for a, b in zip(encoder, decoder, strict=False))
        self.decoder = nn.ModuleList(_blocks(decoder, config.decoder_heads, config))

    def forward(self, features: Tensor, levels: list[VoxelLevel], text: Tensor, text_mask: Tensor) -> list[Tensor]:
        """features [n, 7] of the raw points; returns one [N_i, C_i] per level."""
        x = F.gelu(self.stem_norm(self.stem(mean_pool(features, levels[0]), levels[0])))
        skips: list[Tensor] = []
        for i, block in enumerate(self.encoder):
            if i:
                x = max_pool(self.down[i - 1](x), levels[i])
            x = block(x, levels[i], text, text_mask)
            skips.append(x)
        out = [x]
        for i in reversed(range(len(self.decoder))):
            x = self.up[i](x)[levels[i + 1].parent] + self.skip[i](skips[i])
            x = self.decoder[i](x, levels[i], text, text_mask)
            out.insert(0, x)
        return out


def _blocks(channels: Sequence[int], heads: Sequence[int], config: MiniDiffuserConfig) -> list[PointBlock]:
    heads = heads or [max(1, c // config.head_channels) for c in channels]
    return [PointBlock(c, h, config) for c, h in zip(channels, heads, strict=True)]


def point_features(points: Tensor, colors: Tensor, batch: Tensor, num_clouds: int, table_height: float) -> Tensor:
    """[n, 7] from points [n, 3] in metres and colors [n, 3] in [0, 255]."""
    count = torch.bincount(batch, minlength=num_clouds).clamp(min=1).unsqueeze(1)
    centroid = points.new_zeros(num_clouds, 3).index_add_(0, batch, points) / count
    return torch.cat(
        [(points - centroid[batch]) * 4.0, colors.float() / 127.5 - 1.0, (points[:, 2:3] - table_height) * 10.0], dim=-1
    )
