"""The diffusion pruner: from an observation, which branches of which steps to prune; one pass for all of them.

SAG, sec. 2.2: sinusoidal embeddings of step and branch, concatenated, go through a transformer encoder; with the
observation's embedding beside each, an MLP of three layers says compute or reuse. What does not depend on the
observation is computed once. Legend: `units.py`; N = K U units, D width, E width of the observation's embedding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minidiffuser_ros.contract.errors import ConfigurationError, require_positive
from minidiffuser_ros.model.action_transformer import TransformerCondition
from minidiffuser_ros.model.layers import SinusoidalEmbedding
from minidiffuser_ros.model.mini_diffuser import Condition
from minidiffuser_ros.pruning.units import PrunableUnits

COMPUTE, REUSE = 0, 1


@dataclass(frozen=True)
class PrunerConfig:
    """Sizes. width: of the embedding of a unit, half for its step and half for its branch; hidden: of the MLP.

    initial_margin: by which "compute" is ahead of "reuse" before training.
    """

    width: int = 32
    hidden: int = 32
    num_heads: int = 4
    num_layers: int = 1
    initial_margin: float = 1.0

    def __post_init__(self) -> None:
        require_positive(self, ("width", "hidden", "num_heads", "num_layers"))
        if self.width % 4 or self.width % self.num_heads:
            raise ConfigurationError(
                f"width must be divisible by 4 and by num_heads, got {self.width} with {self.num_heads} heads"
            )


class DiffusionPruner(nn.Module):
    """G_psi of the paper. observation_width: of `observation_embedding`."""

    def __init__(self, config: PrunerConfig, units: PrunableUnits, observation_width: int) -> None:
        super().__init__()
        self.config, self.units = config, units
        self.embed = SinusoidalEmbedding(config.width // 2)
        layer = nn.TransformerEncoderLayer(
            config.width, config.num_heads, 2 * config.width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, config.num_layers, enable_nested_tensor=False)
        # First layer of the MLP, on both parts of its input by themselves: their sum is the layer on both together.
        self.by_observation = nn.Sequential(
            nn.LayerNorm(observation_width), nn.Linear(observation_width, config.hidden)
        )
        self.by_unit = nn.Linear(config.width, config.hidden, bias=False)
        self.head = nn.Sequential(
            nn.GELU(), nn.Linear(config.hidden, config.hidden), nn.GELU(), nn.Linear(config.hidden, 2)
        )
        # Begin by computing everything: from a walk that goes astray no gradient tells the way back.
        self.head[-1].bias.data = torch.tensor([config.initial_margin, 0.0])

    def unit_part(self) -> Tensor:
        """What does not depend on the observation [N, H]: keep it while the weights stay."""
        steps, branches = self.units.shape
        device = self.by_unit.weight.device
        step, branch = torch.meshgrid(
            torch.arange(steps, device=device), torch.arange(branches, device=device), indexing="ij"
        )
        tokens = torch.cat([self.embed(step.flatten()), self.embed(branch.flatten())], dim=-1)
        out: Tensor = self.by_unit(self.encoder(tokens.unsqueeze(0)).squeeze(0))
        return out

    def forward(self, observation: Tensor, unit_part: Tensor | None = None) -> Tensor:
        """Logits [B, K, U, 2] of compute and reuse, for observations [B, E]."""
        units = self.unit_part() if unit_part is None else unit_part
        hidden = self.by_observation(observation).unsqueeze(1) + units
        logits: Tensor = self.head(hidden).unflatten(1, self.units.shape)
        return logits

    def masks(self, observation: Tensor, unit_part: Tensor | None = None) -> Tensor:
        """Decisions [B, K, U], True = reuse."""
        decisions: Tensor = self(observation, unit_part).argmax(-1) == REUSE
        return decisions


def straight_through(logits: Tensor) -> Tensor:
    """Gates [...] of logits [..., 2]: exactly 0 or 1, 1 = reuse, with the gradient of the softmax."""
    soft = F.softmax(logits, dim=-1)[..., REUSE]
    hard = (logits.argmax(-1) == REUSE).to(soft.dtype)
    gates: Tensor = hard + (soft - soft.detach())  # in this order: whole numbers stay whole
    return gates


def observation_embedding(condition: Condition | TransformerCondition) -> Tensor:
    """What the policy's own encoder says of each observation [B, E].

    Of a keypose: sentence, tool, mean of the coarsest map. Of action sequences: the token of each observation step.
    """
    if isinstance(condition, TransformerCondition):
        return condition.embedding.float()
    tokens = condition.neck[0]
    present = tokens.level.mask.unsqueeze(-1).to(tokens.packed.dtype)
    mean = (tokens.level.pad(tokens.packed) * present).sum(1) / present.sum(1)
    return torch.cat([condition.summary, mean], dim=-1).float()


def observation_width(width: int, channels: int) -> int:
    """E for a network of this width whose first neck block reads a map of so many channels."""
    return 2 * width + channels
