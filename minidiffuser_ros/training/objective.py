"""What is minimised: the loss of what is diffused over all B M samples, and the classifications beside it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from minidiffuser_ros.diffusion.schedule import NoiseSchedule
from minidiffuser_ros.model.config import POSITION
from minidiffuser_ros.model.mini_diffuser import MiniDiffuser
from minidiffuser_ros.policy.inputs import PositionScale
from minidiffuser_ros.policy.sampling import predict, predict_and_grip
from minidiffuser_ros.training.config import Loss
from minidiffuser_ros.training.two_level import TwoLevelBatch


def regression_loss(prediction: Tensor, target: Tensor, loss: Loss) -> Tensor:
    """Eq. 9 of v2, of whatever is diffused: the mean over both [B, M, ...]; squares as printed, or absolute values."""
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
    """Position (eq. 9), rotation, and binary cross-entropy of the gripper.

    The rotation's is eq. 9 as well where it is diffused, as in 3D Diffuser Actor, else the cross-entropy over the axes.
    Each is a mean over the observations, so that the mean over equal parts of a batch is that of the whole. A network
    with experts adds their `balance`, which is a mean over each process's own part only.
    """
    observed, noised = batch.observed, batch.noised
    logits: Tensor | None = None
    with torch.autocast(observed.positions.device.type, torch.bfloat16, enabled=bf16):
        condition = network.encode(observed.inputs)
        known = (network, scale, schedule, condition, noised.noisy, noised.timesteps)
        if network.config.rotation == "diffused":
            prediction, gripper = predict_and_grip(*known)
        else:
            prediction = predict(*known)
            logits, gripper = network.classify(condition, batch.head_positions)
    if logits is None:
        rotation = regression_loss(prediction[..., POSITION:], noised.target[..., POSITION:], loss)
    else:
        bins = observed.bins.unsqueeze(1).expand(logits.shape[:-1])
        rotation = F.cross_entropy(logits.flatten(0, 2), bins.flatten())
    openings = observed.openings.unsqueeze(1).expand_as(gripper)
    losses = {
        "position": regression_loss(prediction[..., :POSITION], noised.target[..., :POSITION], loss),
        "rotation": rotation,
        "gripper": F.binary_cross_entropy_with_logits(gripper, openings),
    }
    if network.config.num_experts:
        losses["balance"] = network.balance_loss(noised.timesteps)
    return losses
