"""Arrays of the contract to tensors of the network: the same for training and for inference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from minidiffuser_ros.contract.observation import ObservationSpec
from minidiffuser_ros.geometry.rotation import matrix_from_quat
from minidiffuser_ros.model.config import POSITION
from minidiffuser_ros.model.instruction import pad_tokens
from minidiffuser_ros.model.mini_diffuser import Inputs


@dataclass(frozen=True)
class View:
    """One observation as the network needs it: points [P, 3] m, colors [P, 3], tool pose, opening, sentence tokens."""

    points: NDArray[np.float32]
    colors: NDArray[np.uint8]
    tool_position: NDArray[np.float64]
    tool_quat_wxyz: NDArray[np.float64]
    opening: float
    tokens: Tensor


class PositionScale:
    """Workspace box to [-1, 1] along each axis, and back; positions are diffused in these units.

    Numbers behind the position, those of a rotation, have no unit and stay as they are.
    """

    def __init__(self, spec: ObservationSpec) -> None:
        low, high = torch.tensor(spec.workspace_min), torch.tensor(spec.workspace_max)
        self.center, self.half = (low + high) / 2, (high - low) / 2

    def normalise(self, positions: Tensor) -> Tensor:
        """Positions [..., 3] in metres, or samples [..., S] that begin with one, to box units."""
        scaled = (positions[..., :POSITION] - self.center.to(positions)) / self.half.to(positions)
        return torch.cat([scaled, positions[..., POSITION:]], dim=-1)

    def metric(self, positions: Tensor) -> Tensor:
        """The inverse of `normalise`."""
        scaled = positions[..., :POSITION] * self.half.to(positions) + self.center.to(positions)
        return torch.cat([scaled, positions[..., POSITION:]], dim=-1)


def collate(views: Sequence[View], spec: ObservationSpec) -> Inputs:
    """A batch of views."""
    instruction, mask = pad_tokens([view.tokens for view in views])
    counts = torch.tensor([len(view.points) for view in views])
    # How the hand is turned is what the camera cannot see once its points are filtered out.
    tool = [
        [
            (view.tool_position[2] - spec.table_height) * 4.0,
            2.0 * view.opening - 1.0,
            *matrix_from_quat(view.tool_quat_wxyz)[:, :2].T.flatten(),
        ]
        for view in views
    ]
    return Inputs(
        torch.from_numpy(np.concatenate([view.points for view in views]).astype(np.float32)),
        torch.from_numpy(np.concatenate([view.colors for view in views]).astype(np.float32)),
        torch.arange(len(views)).repeat_interleave(counts),
        torch.tensor(np.array([view.tool_position for view in views]), dtype=torch.float32),
        torch.tensor(tool, dtype=torch.float32),
        instruction,
        mask,
        spec.table_height,
    )
