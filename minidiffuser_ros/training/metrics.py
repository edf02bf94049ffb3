"""How far predicted keyposes lie from the held-out experts'."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from minidiffuser_ros.policy.policy import Policy
from minidiffuser_ros.training.dataset import Augmentation, DemonstrationSet


@dataclass(frozen=True)
class KeyposeErrors:
    """Shares of held-out steps, over all candidates; rotation as the share of steps with all three bins right."""

    within_1cm: float
    within_2cm: float
    bins_right: float
    gripper_right: float
    steps: int

    def __str__(self) -> str:
        return (
            f"held out ({self.steps} steps): position < 1 cm {self.within_1cm:.1%}, < 2 cm {self.within_2cm:.1%}; "
            f"rotation bins {self.bins_right:.1%}; gripper {self.gripper_right:.1%}"
        )


@torch.inference_mode()
def keypose_errors(checkpoint: Path, held_out: DemonstrationSet, limit: int = 256) -> KeyposeErrors:
    """Sample candidates for up to `limit` held-out steps, evenly spread, and compare with the expert's keypose."""
    policy = Policy.load(checkpoint)
    distances, right, grips = [], [], []
    for index in np.linspace(0, len(held_out) - 1, min(limit, len(held_out))).astype(int):
        batch = held_out.batch([int(index)], None, Augmentation())
        condition = policy.network.encode(batch.inputs)
        positions = policy.sample_positions(condition, seed=int(index))
        rotation, gripper = policy.network.classify(condition, batch.positions.unsqueeze(1))
        distances.append((positions[0] - batch.positions).norm(dim=-1))
        right.append(bool((rotation[0, 0].argmax(-1) == batch.bins[0]).all()))
        grips.append(bool((gripper[0, 0] > 0) == (batch.openings[0] > 0.5)))
    distance = torch.cat(distances)
    return KeyposeErrors(
        float((distance < 0.01).float().mean()),
        float((distance < 0.02).float().mean()),
        float(np.mean(right)),
        float(np.mean(grips)),
        len(right),
    )
