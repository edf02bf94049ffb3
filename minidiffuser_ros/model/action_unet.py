"""A U-Net over action sequences that encodes an observation once and denoises any number of sequences against it.

Diffusion Policy's temporal U-Net (Chi et al. 2023, "CNN-based Diffusion Policy"; Janner et al. 2022) with the one
change that Mini-Diffuser v2 names for it (section IV-D1): the condition is broadcast over M samples. Convolutions,
GroupNorm and FiLM work within one sample, so that samples cannot see each other.

Published FiLM of block i: W_i Mish([step, observation]) + b_i. Mish works on each number by itself and a linear map of
a concatenation is a sum, so this equals W_i' Mish(step) + W_i'' Mish(observation) + b_i exactly: the second part is
computed once per observation in `encode`, the first once per distinct step, and a sample costs one addition.

Legend: B conditions, M samples per condition, T horizon, A numbers of an action, D features of an observation,
E width of an embedded step, U distinct steps of a batch, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.model.action_condition import ActionInputs, ObservationEncoder
from minidiffuser_ros.model.action_config import ActionUNetConfig
from minidiffuser_ros.model.layers import NoiseLevels, SinusoidalEmbedding
from minidiffuser_ros.model.neck import BlockExecutor, run_block


@dataclass(frozen=True)
class ActionCondition:
    """Everything that does not depend on the samples.

    features [B, D]: the observation. films: its part of every block's scale and shift, [B, 2 C] each.
    """

    features: Tensor
    films: list[Tensor]


class ActionUNet(nn.Module):
    """The network. `encode` once, `denoise` per step and sample. Actions are in units of [-1, 1]."""

    def __init__(self, config: ActionUNetConfig) -> None:
        super().__init__()
        self.config = config
        self.observation = ObservationEncoder(config)
        width, channels = config.step_width, config.channels
        self.step = nn.Sequential(
            SinusoidalEmbedding(width, 10000.0), nn.Linear(width, 4 * width), nn.Mish(), nn.Linear(4 * width, width)
        )

        def block(last: int, out: int) -> ResidualBlock:
            return ResidualBlock(last, out, self.observation.width, config)

        self.down = nn.ModuleList(
            nn.ModuleList([block(last, out), block(out, out)]) for last, out in pairwise((config.action_dim, *channels))
        )
        self.shrink = nn.ModuleList(nn.Conv1d(c, c, 3, stride=2, padding=1) for c in channels[:-1])
        self.middle = nn.ModuleList(block(channels[-1], channels[-1]) for _ in range(2))
        # As published, the finest level's features are not handed across.
        self.up = nn.ModuleList(
            nn.ModuleList([block(2 * last, out), block(out, out)]) for last, out in pairwise(reversed(channels))
        )
        self.grow = nn.ModuleList(nn.ConvTranspose1d(c, c, 4, stride=2, padding=1) for c in channels[-2::-1])
        self.out = nn.Sequential(
            _convolution(channels[0], channels[0], config), nn.Conv1d(channels[0], config.action_dim, 1)
        )

    def encode(self, inputs: ActionInputs) -> ActionCondition:
        """The condition of B observations, once for all their samples and steps.

        Raises ObservationError for states or images of another shape than the configured.
        """
        features = self.observation(inputs)
        activated = F.mish(features)
        return ActionCondition(features, [block.observation_film(activated) for block in self._blocks()])

    def denoise(
        self, condition: ActionCondition, actions: Tensor, timesteps: Tensor, execute: BlockExecutor = run_block
    ) -> Tensor:
        """What the noise schedule's prediction type asks for, [B, M, T, A].

        actions [B, M, T, A]: noisy sequences; timesteps [B, M]: their diffusion steps. Nothing here runs through an
        executor: what one block adds has other channels than the next one's. Raises ConfigurationError for another
        horizon or number of actions than the configured.
        """
        self._require(condition, actions, timesteps)
        steps = NoiseLevels.of(timesteps, lambda distinct: F.mish(self.step(distinct)))
        films = (
            (steps.of_samples(block.step_film(steps.embeddings)) + shared.unsqueeze(1)).flatten(0, 1).unsqueeze(-1)
            for block, shared in zip(self._blocks(), condition.films, strict=True)
        )
        predicted = self._unet(actions.flatten(0, 1).transpose(1, 2), films)
        return predicted.transpose(1, 2).reshape(actions.shape)

    def contexts_of_steps(self, condition: ActionCondition, steps: Sequence[int]) -> list[Tensor]:
        """Timesteps [B, 1], to be expanded to the samples, of every step of a walk that all samples make together."""
        clouds, device = len(condition.features), condition.features.device
        return [torch.full((clouds, 1), step, device=device) for step in steps]

    def _unet(self, x: Tensor, films: Iterator[Tensor]) -> Tensor:
        """[B M, A, T] -> [B M, A, T]; films in the order of `_blocks`."""
        skipped = []
        for level, blocks in enumerate(self.down):
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, next(films))
            skipped.append(x)
            if level < len(self.shrink):
                x = self.shrink[level](x)
        for block in self.middle:
            x = block(x, next(films))
        for blocks, grow in zip(self.up, self.grow, strict=True):
            x = torch.cat([x, skipped.pop()], dim=1)
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, next(films))
            x = grow(x)
        out: Tensor = self.out(x)
        return out

    def _blocks(self) -> list[ResidualBlock]:
        """Every residual block in the order in which `_unet` runs them."""
        return [
            part
            for parts in (self.down, self.middle, self.up)
            for part in parts.modules()
            if isinstance(part, ResidualBlock)
        ]

    def _require(self, condition: ActionCondition, actions: Tensor, timesteps: Tensor) -> None:
        expected = (len(condition.features), timesteps.shape[-1], self.config.horizon, self.config.action_dim)
        if tuple(actions.shape) != expected or timesteps.shape != actions.shape[:2]:
            raise ConfigurationError(
                f"actions must be [B, M, horizon, action_dim] and timesteps [B, M] with B = {expected[0]}, "
                f"horizon {expected[2]} and action_dim {expected[3]}, "
                f"got {list(actions.shape)} and {list(timesteps.shape)}"
            )


class ResidualBlock(nn.Module):
    """Convolution, FiLM, convolution, and a shortcut around them; x [B M, C, T]."""

    def __init__(self, channels: int, out: int, observation: int, config: ActionUNetConfig) -> None:
        super().__init__()
        self.split = [config.step_width, observation]
        self.first, self.second = _convolution(channels, out, config), _convolution(out, out, config)
        self.film = nn.Linear(sum(self.split), 2 * out)
        self.shortcut = nn.Conv1d(channels, out, 1) if channels != out else nn.Identity()

    def step_film(self, activated: Tensor) -> Tensor:
        """The part [U, 2 C] of scale and shift that Mish(step) [U, E] makes."""
        return F.linear(activated, self.film.weight.split(self.split, dim=1)[0])

    def observation_film(self, activated: Tensor) -> Tensor:
        """The part [B, 2 C] of scale and shift that Mish(observation) [B, D] makes, and their bias."""
        return F.linear(activated, self.film.weight.split(self.split, dim=1)[1], self.film.bias)

    def forward(self, x: Tensor, film: Tensor) -> Tensor:
        """x [B M, C, T], film [B M, 2 C', 1] -> [B M, C', T]."""
        scale, shift = film.chunk(2, dim=1)
        out: Tensor = self.second(self.first(x) * scale + shift) + self.shortcut(x)
        return out


def _convolution(channels: int, out: int, config: ActionUNetConfig) -> nn.Sequential:
    kernel = config.kernel
    return nn.Sequential(
        nn.Conv1d(channels, out, kernel, padding=kernel // 2), nn.GroupNorm(config.groups, out), nn.Mish()
    )
