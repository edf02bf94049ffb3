"""What is minimised: the position's loss over all B M samples, and the two classifications beside it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from minidiffuser_ros.diffusion.schedule import NoiseSchedule
from minidiffuser_ros.model.mini_diffuser import MiniDiffuser
from minidiffuser_ros.policy.inputs import PositionScale
from minidiffuser_ros.policy.policy import predict
from minidiffuser_ros.training.config import Loss
from minidiffuser_ros.training.two_level import TwoLevelBatch


def position_loss(prediction: Tensor, target: Tensor, loss: Loss) -> Tensor:
    """Eq. 9 of v2: the mean over B, M and the axes of both [B, M, ...]; squares as printed, or absolute values."""
    difference = prediction - target
    return difference.square().mean() if loss == "l2" else difference.abs().mean()


def losses_of(
    network: MiniDiffuser,
    schedule: NoiseSchedule,
    scale: PositionScale,
    batch: TwoLevelBatch,
    loss: Loss,
    bf16: bool,
) -> dict[str, Tensor]:
    """Position (eq. 9), cross-entropy of the rotation over the axes, binary cross-entropy of the gripper.

    Each is a mean over the observations, so that the mean over equal parts of a batch is that of the whole. A network
    with experts adds their `balance`, which is a mean over each process's own part only.
    """
    observed, noised = batch.observed, batch.noised
    with torch.autocast(observed.positions.device.type, torch.bfloat16, enabled=bf16):
        condition = network.encode(observed.inputs)
        prediction = predict(network, scale, schedule, condition, noised.noisy, noised.timesteps)
        rotation, gripper = network.classify(condition, batch.head_positions)
    bins = observed.bins.unsqueeze(1).expand(rotation.shape[:-1])
    openings = observed.openings.unsqueeze(1).expand_as(gripper)
    losses = {
        "position": position_loss(prediction, noised.target, loss),
        "rotation": F.cross_entropy(rotation.flatten(0, 2), bins.flatten()),
        "gripper": F.binary_cross_entropy_with_logits(gripper, openings),
    }
    if network.config.num_experts:
        losses["balance"] = network.balance_loss(noised.timesteps)
    return losses
