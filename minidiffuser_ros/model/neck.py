"""The sample stream: blocks that let each noised sample query the condition and nothing else.

Legend: B conditions, M samples, L tokens a sample, V voxels padded, T instruction tokens, C width, H heads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from minidiffuser_ros.model.config import MiniDiffuserConfig
from minidiffuser_ros.model.experts import ExpertMlp
from minidiffuser_ros.model.layers import FilmContext, FilmNorm, Mlp, NoiseLevels, dropout
from minidiffuser_ros.model.rope import rope_angles, rotate
from minidiffuser_ros.model.sparse_conv import neighbourhood_product
from minidiffuser_ros.model.two_level import (
    GroupedTokens,
    JointTokens,
    SampleTokens,
    SharedTokens,
    joint_attention,
    two_level_attention,
)
from minidiffuser_ros.model.voxels import VoxelLevel

REACH = 0.1  # m: relative positions are given to the network in this unit


@dataclass(frozen=True)
class ConditionTokens:
    """What one neck block attends to, computed once per observation.

    spatial tokens (points, tool) have places, their keys are rotated by these; words (the instruction) have none.
    packed: features [N, C] of the level for the local query. joint: both kinds of tokens, where no gradients are asked
    for.
    """

    spatial: GroupedTokens
    words: GroupedTokens
    packed: Tensor
    level: VoxelLevel
    joint: JointTokens | None = None


@dataclass(frozen=True)
class BlockContext:
    """What steers one block: scale and shift of its attention and of its MLP, [B, M or 1, 2 C], and the noise."""

    attention: Tensor
    mlp: Tensor
    noise: NoiseLevels | None


@dataclass(frozen=True)
class Places:
    """Where the samples are, the same for all blocks: positions [B, M, 1, 3] m, and their rotary angles, if any."""

    positions: Tensor
    angles: tuple[Tensor, Tensor] | None


@dataclass(frozen=True)
class ToolTokens:
    """Where the robot's hand is and was: features [B, K, C], positions [B, K, 3] m, mask [B, K], True = use."""

    features: Tensor
    positions: Tensor
    mask: Tensor


Branch = Callable[[Tensor], Tensor]
"""What a residual branch adds to the stream, of the stream."""

BlockExecutor = Callable[[str, Tensor, Branch], Tensor]
"""(name of a residual branch, stream, branch) -> the stream behind it. The seam where pruning plugs in."""


def run_block(name: str, stream: Tensor, branch: Branch) -> Tensor:
    """The default executor: compute and add."""
    return stream + branch(stream)


class NeckBlock(nn.Module):
    """Local query, FiLM attention with 3-D RoPE to points, tool and instruction, FiLM MLP."""

    def __init__(self, channels: int, config: MiniDiffuserConfig, noisy: bool = True) -> None:
        super().__init__()
        width = config.width
        self.config = config
        self.num_heads = config.num_heads
        head_dim = width // config.num_heads
        self.points, self.tool, self.text = nn.Linear(channels, width), nn.Linear(width, width), nn.Linear(width, width)
        self.qkv = nn.Linear(width, 3 * width)
        self.key_value = nn.Linear(width, 2 * width)
        # Without rotation a shift of all keys alike would vanish in the softmax.
        self.query_norm, self.key_norm = nn.LayerNorm(head_dim), nn.LayerNorm(head_dim, bias=config.rope)
        self.relative = nn.Linear(3 * config.num_heads, width) if config.attended_geometry else None
        self.out = nn.Linear(width, width)
        if config.local_query:
            self.local_weight = nn.Parameter(torch.empty(27, channels, width))
            nn.init.normal_(self.local_weight, std=(27 * channels) ** -0.5)
        self.attention_norm, self.mlp_norm = (FilmNorm(width, 2 * width, width if noisy else 0) for _ in range(2))
        self.mlp = (
            ExpertMlp(width, width, config.mlp_ratio, config.num_experts, config.active_experts)
            if config.num_experts and noisy
            else Mlp(width, config.mlp_ratio)
        )
        self.dropout = dropout(config.dropout)

    def condition(
        self, features: Tensor, level: VoxelLevel, tools: ToolTokens, text: Tensor, text_mask: Tensor
    ) -> ConditionTokens:
        """Keys and values of the shared tokens. features [N, C], text [B, T, C], text_mask [B, T]."""
        spatial = torch.cat([level.pad(self.points(features)), self.tool(tools.features)], dim=1)
        positions = torch.cat([level.pad(level.coord), tools.positions], dim=1)
        key, value = self._heads(self.key_value(spatial).chunk(2, dim=-1))
        key = self.key_norm(key)
        angles = self.angles(positions)
        if angles is not None:
            key = rotate(key, angles)
        word_key, word_value = self._heads(self.key_value(self.text(text)).chunk(2, dim=-1))
        mask = torch.cat([level.mask, tools.mask], dim=1)
        placed = GroupedTokens.of(SharedTokens(key, value, mask), positions)
        words = GroupedTokens.of(SharedTokens(self.key_norm(word_key), word_value, text_mask))
        joint = None if torch.is_grad_enabled() else JointTokens.of(placed, words)
        return ConditionTokens(placed, words, features, level, joint)

    def context(self, film: FilmContext) -> BlockContext:
        """What steers the block, for samples of these observations at these noise levels."""
        return BlockContext(self.attention_norm.modulation(film), self.mlp_norm.modulation(film), film.noise)

    def angles(self, positions: Tensor) -> tuple[Tensor, Tensor] | None:
        """Rotary angles of positions [..., 3] in metres; None in a network without them."""
        config = self.config
        if not config.rope:
            return None
        return rope_angles(positions, config.width // config.num_heads, config.rope_scale, config.rope_base)

    def forward(
        self, z: Tensor, places: Places, context: BlockContext, tokens: ConditionTokens, execute: BlockExecutor,
        name: str,
    ) -> Tensor:  # fmt: skip
        """z [B, M, L, C] -> [B, M, L, C]."""
        drop = self.dropout
        if self.config.local_query:
            z = execute(f"{name}.local", z, lambda _: drop(self._local(places.positions, tokens)))
        z = execute(f"{name}.attention", z, lambda z: drop(self._attend(z, places, context, tokens)))
        return execute(f"{name}.mlp", z, lambda z: drop(self._feed(z, context)))

    def _feed(self, z: Tensor, context: BlockContext) -> Tensor:
        x = self.mlp_norm(z, context.mlp)
        with_noise = isinstance(self.mlp, ExpertMlp)
        out: Tensor = self.mlp(x, context.noise) if with_noise else self.mlp(x)
        return out

    def _local(self, positions: Tensor, tokens: ConditionTokens) -> Tensor:
        """3x3x3 neighbourhood of each sample at this level, one matrix per offset (v1 eq. 15-18)."""
        batch = torch.arange(len(positions), device=positions.device)[:, None, None].expand(positions.shape[:-1])
        pairs = tokens.level.around(batch.flatten(), positions.detach().flatten(0, -2))
        out: Tensor = neighbourhood_product(tokens.packed, self.local_weight, pairs).unflatten(0, batch.shape)
        return out

    def _attend(self, z: Tensor, places: Places, context: BlockContext, tokens: ConditionTokens) -> Tensor:
        qkv = self.qkv(self.attention_norm(z, context.attention)).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = qkv.permute(3, 0, 4, 1, 2, 5).contiguous()
        query, key = self.query_norm(query), self.key_norm(key)
        turned = query if places.angles is None else rotate(query, places.angles, heads=1)
        joint = None if torch.is_grad_enabled() or z.shape[2] > 1 else tokens.joint
        if joint is not None and joint.fits(z.shape[1]):
            out, centre = joint_attention(SampleTokens(turned, query, key, value), joint)
        else:
            key = key if places.angles is None else rotate(key, places.angles, heads=1)
            out, centre = two_level_attention(SampleTokens(turned, query, key, value), tokens.spatial, tokens.words)
        attended: Tensor = self.out(out.flatten(-2))
        if self.relative is None:
            return attended
        # Where the attended points lie relative to the sample: exact geometry, and still translation-invariant.
        relative = (centre[..., :3] - centre[..., 3:] * places.positions.unsqueeze(-2)) / REACH
        seen: Tensor = self.relative(relative.flatten(-2).to(out.dtype))
        return attended + seen

    def _heads(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(t.unflatten(-1, (self.num_heads, -1)) for t in tensors)
