"""The condition stream without a U-Net: all points at one resolution, attending to one another everywhere.

Legend: B clouds, N voxels packed, V voxels padded, T instruction tokens, C channels, H heads, D head width.
3D Diffuser Actor's layers with the non-invasive attention of Mini-Diffuser (v2, sec. IV-C): there the points and the
sample pass the same layers; here the points go first, and each neck block attends to what its layer made of them.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from minidiffuser_ros.model.attention import plain_attention
from minidiffuser_ros.model.backbone import POINT_FEATURES
from minidiffuser_ros.model.config import MiniDiffuserConfig
from minidiffuser_ros.model.layers import Mlp, SubmanifoldConv, dropout
from minidiffuser_ros.model.rope import rope_angles, rotate
from minidiffuser_ros.model.voxels import VoxelLevel, mean_pool


class FlatBlock(nn.Module):
    """Attention among all points of a cloud and to its instruction, MLP; all residual, pre-norm."""

    def __init__(self, channels: int, num_heads: int, config: MiniDiffuserConfig) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.config = config
        self.attention_norm, self.text_norm, self.mlp_norm = (nn.LayerNorm(channels) for _ in range(3))
        self.qkv, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.text_query, self.text_out = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.text_key_value = nn.Linear(config.width, 2 * channels)
        self.mlp = Mlp(channels, config.mlp_ratio)
        self.dropout = dropout(config.dropout)

    def forward(self, x: Tensor, level: VoxelLevel, text: Tensor, text_mask: Tensor) -> Tensor:
        """x [N, C], text [B, T, D], text_mask [B, T] -> [N, C]."""
        query, key, value = self._heads(self.qkv(level.pad(self.attention_norm(x))).chunk(3, dim=-1))
        if self.config.rope:
            width = query.shape[-1]
            angles = rope_angles(level.pad(level.coord), width, self.config.rope_scale, self.config.rope_base)
            query, key = rotate(query, angles), rotate(key, angles)
        x = x + self.dropout(level.unpad(self.out(_attend(query, key, value, level.mask))))
        query, key, value = self._heads(
            (self.text_query(level.pad(self.text_norm(x))), *self.text_key_value(text).chunk(2, dim=-1))
        )
        x = x + self.dropout(level.unpad(self.text_out(_attend(query, key, value, text_mask))))
        out: Tensor = x + self.dropout(self.mlp(self.mlp_norm(x)))
        return out

    def _heads(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Each [B, S, C] as [B, S, H, D]."""
        return tuple(t.unflatten(-1, (self.num_heads, -1)) for t in tensors)


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """[B, Q, H, D] to [B, S, H, D] under mask [B, S] -> [B, Q, H D]."""
    q, k, v = (t.transpose(1, 2) for t in (query, key, value))
    return plain_attention(q, k, v, mask).transpose(1, 2).flatten(2)


class FlatBackbone(nn.Module):
    """One voxel grid, one block for each of `encoder_channels`; returns packed features after every block."""

    def __init__(self, config: MiniDiffuserConfig) -> None:
        super().__init__()
        channels = config.encoder_channels[0]
        heads = config.encoder_heads or (max(1, channels // config.head_channels),) * len(config.encoder_channels)
        self.stem = SubmanifoldConv(POINT_FEATURES, channels, config.stem_kernel)
        self.stem_norm = nn.LayerNorm(channels)
        self.blocks = nn.ModuleList(FlatBlock(channels, h, config) for h in heads)

    def forward(self, features: Tensor, levels: list[VoxelLevel], text: Tensor, text_mask: Tensor) -> list[Tensor]:
        """features [n, 7] of the raw points; returns one [N, C] per block. `levels` is the same level for each."""
        x = F.gelu(self.stem_norm(self.stem(mean_pool(features, levels[0]), levels[0])))
        out: list[Tensor] = []
        for block, level in zip(self.blocks, levels, strict=True):
            x = block(x, level, text, text_mask)
            out.append(x)
        return out
