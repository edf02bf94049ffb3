"""What can be pruned: every residual branch of a denoiser at every step of its walk (SAG, sec. 2.2).

Legend of this folder: K denoising steps, U branches of one step, B observations. A mask [K, U] is True where a branch
is not computed but reused (M = 1 of the paper's eq. 12).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.model.action_config import ActionConfig, ActionTransformerConfig
from minidiffuser_ros.model.config import MiniDiffuserConfig


@dataclass(frozen=True)
class PrunableUnits:
    """names: of the branches as a denoiser hands them to its `BlockExecutor`, `BLOCK.KIND`, in the order of a step.

    Raises ConfigurationError where there is nothing to prune, or two branches of one name.
    """

    names: tuple[str, ...]
    steps: int

    def __post_init__(self) -> None:
        if not self.names or len(set(self.names)) != len(self.names) or self.steps < 1:
            raise ConfigurationError(
                f"prunable branches need names of their own and at least one step, got {self.names}, {self.steps} steps"
            )

    @property
    def kinds(self) -> tuple[str, ...]:
        """What each branch is: `attention`, `mlp` …"""
        return tuple(kind_of(name) for name in self.names)

    @property
    def shape(self) -> tuple[int, int]:
        """(K, U) of a mask."""
        return self.steps, len(self.names)

    def require_mask(self, mask: Tensor) -> None:
        """ConfigurationError for what is no mask of these units."""
        if mask.shape != self.shape or mask.dtype != torch.bool:
            raise ConfigurationError(f"a mask must be truth values {self.shape}, got {mask.dtype} {tuple(mask.shape)}")


def kind_of(name: str) -> str:
    """The part of a branch's name that says what it is."""
    return name.rpartition(".")[2]


def neck_units(config: MiniDiffuserConfig, steps: int) -> PrunableUnits:
    """The branches of Mini-Diffuser's neck: {local query, attention, MLP} of every block."""
    kinds = ("local", "attention", "mlp") if config.local_query else ("attention", "mlp")
    return PrunableUnits(tuple(f"{i}.{kind}" for i in range(len(config.neck_levels)) for kind in kinds), steps)


def sequence_units(config: ActionConfig, steps: int) -> PrunableUnits:
    """The branches of a transformer over action sequences: {self-attention, cross-attention, MLP} of every layer.

    Raises ConfigurationError for a U-Net, whose blocks change channels: what one adds, another cannot.
    """
    if not isinstance(config, ActionTransformerConfig):
        raise ConfigurationError(
            "only a transformer over action sequences can be pruned, got a U-Net: train one with "
            "`minidiffuser train-actions --network action_transformer_small`"
        )
    kinds = ("self", "cross", "mlp")
    return PrunableUnits(tuple(f"{i}.{kind}" for i in range(config.num_layers) for kind in kinds), steps)
