"""Two-level minibatch: B observations, M noised copies of each one's target (Mini-Diffuser v2, eq. 6-8)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from minidiffuser_ros.diffusion.schedule import NoiseSchedule
from minidiffuser_ros.geometry.rotation import six_from_quat
from minidiffuser_ros.model.config import RotationOutput
from minidiffuser_ros.model.mini_diffuser import Inputs
from minidiffuser_ros.policy.inputs import PositionScale
from minidiffuser_ros.training.config import TrainingConfig
from minidiffuser_ros.training.dataset import Batch, DemonstrationSet

Part = TypeVar("Part", Inputs, Batch, "NoisedTargets")


@dataclass(frozen=True)
class NoisedTargets:
    """Level 2: timesteps [B, M]; noise, noisy and target [B, M, ...].

    Samples [S] are positions in box units, with rotations behind where these are diffused; or sequences [T, A].
    """

    timesteps: Tensor
    noise: Tensor
    noisy: Tensor
    target: Tensor


@dataclass(frozen=True)
class TwoLevelBatch:
    """What one optimiser step learns from.

    observed: level 1, B observations and their expert keyposes. noised: level 2, M noised positions of each, with
    their rotations where those are diffused. head_positions [B, H, 3] m: where rotation and gripper are asked for, a
    little beside the target, where they are classified.
    """

    observed: Batch
    noised: NoisedTargets
    head_positions: Tensor

    def to(self, device: torch.device | str) -> TwoLevelBatch:
        """The same batch on another device; from pinned memory the copy runs beside the computation."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> TwoLevelBatch:
        """The same batch in page-locked memory, from where an accelerator fetches it by itself."""
        return self._map(Tensor.pin_memory)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor under its own name."""
        parts = (self.observed.inputs, self.observed, self.noised, self)
        return {name: value for part in parts for name, value in vars(part).items() if isinstance(value, Tensor)}

    def _map(self, change: Callable[[Tensor], Tensor]) -> TwoLevelBatch:
        inputs = _map_fields(self.observed.inputs, change)
        observed = replace(_map_fields(self.observed, change), inputs=inputs)
        return TwoLevelBatch(observed, _map_fields(self.noised, change), change(self.head_positions))


@dataclass(frozen=True)
class TwoLevelSampler:
    """Batches as a function of the seed and the step's number alone; B, M and the seed stand in the config."""

    data: DemonstrationSet
    schedule: NoiseSchedule
    scale: PositionScale
    config: TrainingConfig
    rotation: RotationOutput = "bins"

    def batch(self, step: int, rows: Sequence[int] | None = None) -> TwoLevelBatch:
        """The batch of a step, or some of its rows: several processes take each its own of the same batch.

        Every row is augmented by a generator of its own, so that no process prepares what another one needs. (A key
        that ends in 0 would be that of the batch itself: numpy fills keys up with zeros.)
        """
        c = self.config
        rows = range(c.batch_size) if rows is None else rows
        rng = np.random.default_rng([c.seed, step])
        chosen = rng.choice(len(self.data), c.batch_size)  # eq. 6
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        rngs = [np.random.default_rng([c.seed, step, 1 + row]) for row in rows]
        observed = self.data.batch([int(chosen[row]) for row in rows], rngs, c.augmentation)
        original = self.scale.normalise(self._diffused(observed))
        shape = tuple(original.shape[1:])
        timesteps, noise = draw_level_two(self.schedule, c.batch_size, c.num_samples, generator, shape)
        beside = torch.randn(c.batch_size, c.head_samples, 3, generator=generator)
        index = torch.tensor(list(rows))
        return TwoLevelBatch(
            observed,
            noised_targets(self.schedule, original, timesteps[index], noise[index]),
            observed.positions.unsqueeze(1) + c.head_noise * beside[index],
        )

    def _diffused(self, observed: Batch) -> Tensor:
        """What is diffused of the expert keyposes: positions [B, 3] in m, or [B, 9] with their rotations behind."""
        if self.rotation == "bins":
            return observed.positions
        six = torch.from_numpy(six_from_quat(observed.quats_wxyz.numpy()))
        return torch.cat([observed.positions, six.to(observed.positions)], dim=-1)


def draw_level_two(
    schedule: NoiseSchedule,
    batch_size: int,
    num_samples: int,
    generator: torch.Generator,
    target_shape: tuple[int, ...] = (3,),
) -> tuple[Tensor, Tensor]:
    """M independent (k, epsilon) for each of B targets (eq. 7): timesteps [B, M], noise [B, M, *target_shape]."""
    shape = (batch_size, num_samples)
    timesteps = torch.randint(schedule.config.num_train_timesteps, shape, generator=generator)
    return timesteps, torch.randn(*shape, *target_shape, generator=generator)


def noised_targets(schedule: NoiseSchedule, original: Tensor, timesteps: Tensor, noise: Tensor) -> NoisedTargets:
    """The forward process (eq. 8) of originals [B, ...] at timesteps [B, M] with noise [B, M, ...]."""
    copies = original.unsqueeze(1).expand_as(noise).flatten(2)  # the schedule noises vectors
    flat = noise.flatten(2)
    target = schedule.target(copies, flat, timesteps).contiguous()
    noisy = schedule.add_noise(copies, flat, timesteps)
    return NoisedTargets(timesteps, noise, noisy.reshape(noise.shape), target.reshape(noise.shape))


def _map_fields(part: Part, change: Callable[[Tensor], Tensor]) -> Part:
    """The dataclass with every tensor changed."""
    changed: dict[str, Any] = {name: change(v) for name, v in vars(part).items() if isinstance(v, Tensor)}
    return replace(part, **changed)
