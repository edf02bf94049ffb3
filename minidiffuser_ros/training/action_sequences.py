"""What a network over action sequences minimises: Mini-Diffuser's level two over Diffusion Policy's loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from minidiffuser_ros.diffusion.schedule import NoiseSchedule
from minidiffuser_ros.model.action_condition import ActionInputs
from minidiffuser_ros.model.action_network import ActionNetwork
from minidiffuser_ros.training.config import Loss
from minidiffuser_ros.training.objective import regression_loss
from minidiffuser_ros.training.two_level import NoisedTargets, draw_level_two, noised_targets


def action_sequence_loss(
    network: ActionNetwork,
    schedule: NoiseSchedule,
    inputs: ActionInputs,
    actions: Tensor,
    num_samples: int,
    generator: torch.Generator,
    loss: Loss = "l2",
) -> Tensor:
    """The loss of B observations and their recorded sequences [B, T, A] in [-1, 1], each noised M = num_samples times.

    Level two is drawn from `generator`, a generator of the CPU, so that every device sees the same noise.
    """
    timesteps, noise = draw_level_two(schedule, len(actions), num_samples, generator, tuple(actions.shape[1:]))
    noised = noised_targets(schedule, actions, timesteps.to(actions.device), noise.to(actions))
    return noised_sequence_loss(network, inputs, noised, loss)


def noised_sequence_loss(network: ActionNetwork, inputs: ActionInputs, noised: NoisedTargets, loss: Loss) -> Tensor:
    """Mini-Diffuser v2, eq. 9: the mean over B observations, each encoded once, and M noised sequences of each."""
    condition: Any = network.encode(inputs)
    prediction = network.denoise(condition, noised.noisy, noised.timesteps)
    return regression_loss(prediction, noised.target, loss)
