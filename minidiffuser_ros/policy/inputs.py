"""Arrays of the contract to tensors of the network: the same for training and for inference."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from minidiffuser_ros.contract.observation import Observation, ObservationSpec
from minidiffuser_ros.geometry.rotation import six_from_quat
from minidiffuser_ros.model.config import POSITION
from minidiffuser_ros.model.instruction import pad_tokens
from minidiffuser_ros.model.mini_diffuser import Inputs


@dataclass(frozen=True)
class ToolState:
    """Position [3] m and quat_wxyz [4] of the tool, opening in [0, 1]."""

    position: NDArray[np.float64]
    quat_wxyz: NDArray[np.float64]
    opening: float

    @classmethod
    def of(cls, observation: Observation) -> ToolState:
        """The tool of an observation."""
        return cls(observation.tool_position, observation.tool_quat_wxyz, observation.opening)

    def features(self, table_height: float) -> list[float]:
        """How the hand is turned is what the camera cannot see once its points are filtered out: [TOOL_FEATURES]."""
        return [(self.position[2] - table_height) * 4.0, 2.0 * self.opening - 1.0, *six_from_quat(self.quat_wxyz)]


@dataclass(frozen=True)
class View:
    """One observation as the network needs it: points [P, 3] m, colors [P, 3], tool, sentence tokens.

    before: the tool one keypose earlier, None at the first.
    """

    points: NDArray[np.float32]
    colors: NDArray[np.uint8]
    tool: ToolState
    tokens: Tensor
    before: ToolState | None = None


class PositionScale:
    """Workspace box to [-1, 1] along each axis, and back; positions are diffused in these units.

    Numbers behind the position, those of a rotation, have no unit and stay as they are.
    """

    def __init__(self, spec: ObservationSpec) -> None:
        low, high = torch.tensor(spec.workspace_min), torch.tensor(spec.workspace_max)
        self.center, self.half = (low + high) / 2, (high - low) / 2

    def to(self, device: torch.device | str) -> PositionScale:
        """The same on another device."""
        moved = copy.copy(self)
        moved.center, moved.half = self.center.to(device), self.half.to(device)
        return moved

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
    return Inputs(
        torch.from_numpy(np.concatenate([view.points for view in views]).astype(np.float32)),
        torch.from_numpy(np.concatenate([view.colors for view in views]).astype(np.float32)),
        torch.arange(len(views)).repeat_interleave(counts),
        *_tool_tensors([view.tool for view in views], spec),
        instruction,
        mask,
        spec.table_height,
        # Where there was none before, the tool as it is stands in, and the mask hides it.
        *_tool_tensors([view.before or view.tool for view in views], spec),
        torch.tensor([view.before is not None for view in views]),
    )


def _tool_tensors(tools: Sequence[ToolState], spec: ObservationSpec) -> tuple[Tensor, Tensor]:
    """Positions [B, 3] in metres and features [B, TOOL_FEATURES]."""
    positions = torch.tensor(np.array([tool.position for tool in tools]), dtype=torch.float32)
    return positions, torch.tensor([tool.features(spec.table_height) for tool in tools], dtype=torch.float32)
