"""Sequences of actions for one observation: the walk of the sampler, whole or pruned, over a network's steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from minidiffuser_ros.diffusion.sampler import SamplerConfig, inference_timesteps, sample
from minidiffuser_ros.diffusion.schedule import NoiseSchedule
from minidiffuser_ros.model.action_network import ActionNetwork
from minidiffuser_ros.model.action_transformer import ActionTransformer
from minidiffuser_ros.model.neck import BlockExecutor
from minidiffuser_ros.policy.sampling import Walk
from minidiffuser_ros.pruning.units import PrunableUnits, sequence_units


class SequenceSampler:
    """Draws sequences with a network and its schedule, on the network's device. Equal seeds, equal sequences.

    The sampler walks vectors: a sequence [T, A] is one, [T A]. mean, spread: of the normalised actions.
    """

    def __init__(
        self, network: ActionNetwork, schedule: NoiseSchedule, mean: float, spread: float, device: str
    ) -> None:
        self.network, self.schedule, self.device = network, schedule, device
        self.mean, self.spread = mean, spread
        self.shape = (network.config.horizon, network.config.action_dim)

    def units(self, sampler: SamplerConfig) -> PrunableUnits:
        """What can be pruned of a walk. Raises ConfigurationError for a U-Net."""
        return sequence_units(self.network.config, sampler.num_inference_steps)

    def start(self, batch_size: int, num_samples: int, generator: torch.Generator) -> Tensor:
        """Where walks begin [B, M, T A], in the units of diffusion."""
        shape = (batch_size, num_samples, self.shape[0] * self.shape[1])
        return self.schedule.initial_noise(shape, self.mean, self.spread, generator)

    def predict(self, condition: Any, noisy: Tensor, context: Any, execute: BlockExecutor) -> Tensor:
        """What the schedule's prediction type asks for [B, M, T A], from sequences that are all at one step."""
        if isinstance(context, Tensor):
            context = context.expand(noisy.shape[:2])
        predicted: Tensor = self.network.denoise(condition, noisy.unflatten(-1, self.shape), context, execute)
        return predicted.flatten(-2)

    def expert(self, batch: Any) -> Tensor:
        """The expert's sequences [B, T A] in [-1, 1], of a `training.sequence_data.SequenceBatch`."""
        actions: Tensor = batch.actions.to(self.device)
        return actions.flatten(1)

    def sequences(self, condition: Any, num_samples: int, seed: int, walk: Walk) -> Tensor:
        """Sequences [N, T, A] in [-1, 1] for the one observation of `condition`."""
        timesteps = inference_timesteps(self.schedule.config.num_train_timesteps, walk.sampler.num_inference_steps)
        units = self.units(walk.sampler) if isinstance(self.network, ActionTransformer) else None
        steps = zip(self.network.contexts_of_steps(condition, timesteps), walk.steps(units), strict=False)

        def denoiser(noisy: Tensor, timesteps: Tensor) -> Tensor:
            return self.predict(condition, noisy, *next(steps))

        generator = torch.Generator().manual_seed(seed)
        start = self.start(1, num_samples, generator).to(self.device)
        drawn: Tensor = sample(denoiser, self.schedule, walk.sampler, start, generator)[0]
        sequences: Tensor = drawn.unflatten(-1, self.shape)
        return sequences
