"""Mini-Diffuser: encode an observation once, then denoise any number of samples against it.

Legend: B conditions, M samples, T instruction tokens, n points of all clouds packed, C width; S = 3 numbers of a
sample, its position in m, or 9, with the first two columns of its rotation's matrix (`geometry.rotation`) behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.model.backbone import PointUNet, point_features
from minidiffuser_ros.model.config import POSITION, ROTATION, MiniDiffuserConfig, SerializedOrder
from minidiffuser_ros.model.experts import ExpertMlp
from minidiffuser_ros.model.flat import FlatBackbone
from minidiffuser_ros.model.layers import FilmContext, Mlp, NoiseLevels, SinusoidalEmbedding
from minidiffuser_ros.model.neck import (
    REACH,
    BlockContext,
    BlockExecutor,
    ConditionTokens,
    NeckBlock,
    Places,
    ToolTokens,
    run_block,
)
from minidiffuser_ros.model.voxels import build_levels

Contexts = tuple[BlockContext, ...]
"""What steers each block of the neck at one step."""

TOOL_FEATURES = 8  # height above the table, opening, and the x and y axes of the tool


@dataclass(frozen=True)
class Inputs:
    """One batch of observations.

    points [n, 3] m, colors [n, 3] in [0, 255], batch [n] whose cloud; tool_position [B, 3] m; tool_features
    [B, 8]; instruction [B, T, D] token embeddings with instruction_mask [B, T].
    before_position [B, 3] m, before_features [B, 8]: the tool one keypose earlier, where before_mask [B] says that
    there was one; only networks with `history` need them.
    """

    points: Tensor
    colors: Tensor
    batch: Tensor
    tool_position: Tensor
    tool_features: Tensor
    instruction: Tensor
    instruction_mask: Tensor
    table_height: float = 0.0
    before_position: Tensor | None = None
    before_features: Tensor | None = None
    before_mask: Tensor | None = None

    def to(self, device: torch.device | str) -> Inputs:
        """The same batch on another device."""
        return replace(self, **{k: v.to(device) for k, v in vars(self).items() if isinstance(v, Tensor)})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Condition:
    """Everything that does not depend on the samples."""

    neck: list[ConditionTokens]
    heads: list[ConditionTokens]
    summary: Tensor
    tool_position: Tensor


class MiniDiffuser(nn.Module):
    """The network. `encode` once, `denoise` per step and sample, `classify` at the denoised positions.

    Where rotation is diffused with the position, `denoise_and_grip` takes the place of the last two.
    """

    instruction_mean: Tensor

    def __init__(self, config: MiniDiffuserConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.register_buffer("instruction_mean", torch.zeros(config.instruction_dim))
        self.text = nn.Sequential(nn.LayerNorm(config.instruction_dim), nn.Linear(config.instruction_dim, width))
        self.text_pool = nn.Linear(width, 1)
        self.backbone = PointUNet(config) if config.backbone == "unet" else FlatBackbone(config)
        self.tool = _embedding(TOOL_FEATURES, width)
        self.before = _embedding(TOOL_FEATURES, width) if config.history else None
        self.time = SinusoidalEmbedding(width)
        channels = (*config.decoder_channels, *config.encoder_channels[len(config.decoder_channels) :])
        self.neck = nn.ModuleList(NeckBlock(channels[i], config) for i in config.neck_levels)
        self.head_blocks = nn.ModuleList(NeckBlock(channels[i], config, noisy=False) for i in config.head_levels)
        self.sample = _embedding(POSITION + config.sample_size, width)
        classifies = config.rotation == "bins"
        self.head_sample = _embedding(2 * POSITION, width) if classifies else None
        self.displacement = nn.Sequential(nn.LayerNorm(width), Mlp(width, 1, 3))
        self.head_norm = nn.LayerNorm(width)
        self.rotation = nn.Linear(width, 3 * config.rotation_bins if classifies else ROTATION)
        self.gripper = nn.Linear(width, 1)

    def encode(self, inputs: Inputs) -> Condition:
        """The condition stream, once per observation."""
        mask = inputs.instruction_mask
        text = self.text(inputs.instruction - self.instruction_mean)
        scores = self.text_pool(text).squeeze(-1).masked_fill(~mask, float("-inf"))
        pooled = (torch.softmax(scores.float(), dim=-1).to(text.dtype).unsqueeze(-1) * text).sum(1)
        clouds = len(text)
        features = point_features(inputs.points, inputs.colors, inputs.batch, clouds, inputs.table_height)
        orders = self.level_orders()
        if self.config.backbone == "flat":
            levels = build_levels(self.config.grid_size, orders[:1], inputs.batch, inputs.points, clouds) * len(orders)
        else:
            levels = build_levels(self.config.grid_size, orders, inputs.batch, inputs.points, clouds)
        maps = self.backbone(features, levels, text, mask)
        tools = self._tools(inputs)

        def tokens(blocks: nn.ModuleList, indices: tuple[int, ...]) -> list[ConditionTokens]:
            return [
                block.condition(maps[i], levels[i], tools, text, mask)  # type: ignore[operator]
                for block, i in zip(blocks, indices, strict=True)
            ]

        return Condition(
            tokens(self.neck, self.config.neck_levels),
            tokens(self.head_blocks, self.config.head_levels),
            torch.cat([pooled, tools.features[:, 0]], dim=-1),
            inputs.tool_position,
        )

    def _tools(self, inputs: Inputs) -> ToolTokens:
        """The tool as it is and, in a network with history, as it was one keypose earlier."""
        features, position = self.tool(inputs.tool_features).unsqueeze(1), inputs.tool_position.unsqueeze(1)
        present = torch.ones(position.shape[:2], dtype=torch.bool, device=position.device)
        if self.before is None:
            return ToolTokens(features, position, present)
        if inputs.before_position is None or inputs.before_features is None or inputs.before_mask is None:
            raise ConfigurationError("this network looks one keypose back, got inputs without before_position")
        return ToolTokens(
            torch.cat([features, self.before(inputs.before_features).unsqueeze(1)], dim=1),
            torch.cat([position, inputs.before_position.unsqueeze(1)], dim=1),
            torch.cat([present, inputs.before_mask.unsqueeze(1)], dim=1),
        )

    def level_orders(self) -> list[SerializedOrder]:
        """The curve of each level: the configured ones in turn, in training beginning in a new order every pass."""
        orders = self.config.serialized_orders
        if self.training and len(orders) > 1:
            orders = tuple(orders[i] for i in torch.randperm(len(orders), device="cpu").tolist())
        return [orders[i % len(orders)] for i in range(len(self.config.encoder_channels))]

    def denoise(
        self, condition: Condition, noisy: Tensor, timesteps: Tensor | Contexts, execute: BlockExecutor = run_block
    ) -> Tensor:
        """Of noisy samples [B, M, S] the displacement in metres from each position to where it came from [B, M, 3].

        timesteps: [B, M], or what `contexts_of_steps` has prepared of them.
        Where rotation is diffused, what the schedule asks of its six numbers stands behind it: [B, M, 9].
        """
        return self._denoised(self._denoising(condition, noisy, timesteps, execute))

    def denoise_and_grip(
        self, condition: Condition, noisy: Tensor, timesteps: Tensor | Contexts, execute: BlockExecutor = run_block
    ) -> tuple[Tensor, Tensor]:
        """As `denoise`, and from the same tokens the gripper logits [B, M]; where rotation is diffused."""
        z = self._denoising(condition, noisy, timesteps, execute)
        return self._denoised(z), self.gripper(self.head_norm(z)).squeeze(-1).float()

    def contexts(self, condition: Condition, timesteps: Tensor) -> Contexts:
        """What steers each block of the neck, for samples at timesteps [B, M]."""
        film = FilmContext(condition.summary, self.noise_levels(timesteps))
        return tuple(block.context(film) for block in self.neck)  # type: ignore[operator]

    def contexts_of_steps(self, condition: Condition, steps: Sequence[int]) -> list[Contexts]:
        """The same for every step of a walk along which all samples are at one step: all steps at once."""
        clouds, device = len(condition.summary), condition.summary.device
        embeddings = self.time(torch.tensor(steps, device=device))
        noise = NoiseLevels(embeddings, torch.arange(len(steps), device=device).expand(clouds, -1))
        whole = tuple(block.context(FilmContext(condition.summary, noise)) for block in self.neck)  # type: ignore[operator]

        def of_step(index: int, context: BlockContext) -> BlockContext:
            here, level = slice(index, index + 1), None
            if self.config.num_experts:
                level = self.noise_levels(torch.full((clouds, 1), steps[index], device=device))
            return BlockContext(context.attention[:, here], context.mlp[:, here], level)

        return [tuple(of_step(index, context) for context in whole) for index in range(len(steps))]

    def _denoising(
        self, condition: Condition, noisy: Tensor, timesteps: Tensor | Contexts, execute: BlockExecutor
    ) -> Tensor:
        """Tokens [B, M, C] of noisy samples after the neck."""
        contexts = self.contexts(condition, timesteps) if isinstance(timesteps, Tensor) else timesteps
        return self._stream(self.sample, self.neck, condition.neck, condition, noisy, contexts, execute)

    def _denoised(self, z: Tensor) -> Tensor:
        moved: Tensor = self.displacement(z).float() * REACH
        if self.config.rotation == "bins":
            return moved
        return torch.cat([moved, self.rotation(self.head_norm(z)).float()], dim=-1)

    def balance_loss(self, timesteps: Tensor) -> Tensor:
        """How unevenly the experts are used at timesteps [B, M]: 1 when evenly, 0 without experts; weight it by 0.01.

        The experts are chosen by the noise level alone, so nothing else is needed to tell.
        """
        noise = self.noise_levels(timesteps)
        losses = [m.balance_loss(noise) for m in self.neck.modules() if isinstance(m, ExpertMlp)]
        return torch.stack(losses).mean() if losses else timesteps.new_zeros((), dtype=torch.float32)

    def noise_levels(self, timesteps: Tensor) -> NoiseLevels:
        """Timesteps [B, M] embedded; the step that all share is looked up only where it lets experts be fused."""
        levels = NoiseLevels.of(timesteps, self.time)
        wanted = self.config.num_experts and not (self.training or torch.is_grad_enabled())
        if not wanted or len(levels.embeddings) > 1 or timesteps.is_floating_point():
            return levels
        return replace(levels, step=int(timesteps.flatten()[0]))

    def classify(self, condition: Condition, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Rotation logits [B, M, 3, bins] and gripper logits [B, M] of keyposes at positions [B, M, 3] m.

        Raises RuntimeError where there are no such heads, because rotation is diffused.
        """
        if self.head_sample is None:
            raise RuntimeError("a network whose rotation is diffused classifies nothing: use denoise_and_grip")
        film = FilmContext(condition.summary)
        contexts = [block.context(film) for block in self.head_blocks]  # type: ignore[operator]
        z = self._stream(self.head_sample, self.head_blocks, condition.heads, condition, positions, contexts, run_block)
        z = self.head_norm(z)
        rotation = self.rotation(z).unflatten(-1, (3, self.config.rotation_bins))
        return rotation.float(), self.gripper(z).squeeze(-1).float()

    def _stream(
        self,
        embed: nn.Module,
        blocks: nn.ModuleList,
        tokens: list[ConditionTokens],
        condition: Condition,
        samples: Tensor,
        contexts: Sequence[BlockContext],
        execute: BlockExecutor,
    ) -> Tensor:
        positions, rotations = samples[..., :POSITION], samples[..., POSITION:]
        relative = (positions - condition.tool_position.unsqueeze(1)) / REACH
        z = embed(torch.cat([positions / REACH, relative, rotations], dim=-1)).unsqueeze(2)
        positions = positions.unsqueeze(2)
        places = Places(positions, blocks[0].angles(positions))  # type: ignore[operator]
        for index, (block, context, shared) in enumerate(zip(blocks, contexts, tokens, strict=True)):
            z = block(z, places, context, shared, execute, f"{index}")
        out: Tensor = z.squeeze(2)
        return out


def _embedding(numbers: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(numbers, width), nn.GELU(), nn.Linear(width, width))
