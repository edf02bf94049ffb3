"""A trained pruner beside a policy: for each observation, the walk with what is reused instead of computed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from minidiffuser_ros.contract.errors import CheckpointError, ConfigurationError
from minidiffuser_ros.diffusion.sampler import SamplerConfig, inference_timesteps
from minidiffuser_ros.model.action_transformer import TransformerCondition
from minidiffuser_ros.model.mini_diffuser import Condition
from minidiffuser_ros.policy.action_sequence import ActionSequencePolicy
from minidiffuser_ros.policy.checkpoint import CONFIG, WEIGHTS, read_checkpoint, save_checkpoint
from minidiffuser_ros.policy.policy import Policy
from minidiffuser_ros.policy.sampling import Walk
from minidiffuser_ros.pruning.pruner import DiffusionPruner, PrunerConfig, observation_embedding

PrunablePolicy = Policy | ActionSequencePolicy
PRUNER = "pruner"  # the folder below that of the policy


@dataclass(frozen=True)
class PrunedConfig:
    """What a pruner was trained for. policy: hash of the weights of that policy; rate: the share it was to reuse."""

    policy: str
    observation_width: int
    rate: float
    shared: bool = True
    sampler: SamplerConfig = field(default_factory=lambda: SamplerConfig("ddpm", 100))
    pruner: PrunerConfig = field(default_factory=PrunerConfig)

    def __post_init__(self) -> None:
        if not 0.0 <= self.rate < 1.0 or self.observation_width < 1:
            raise ConfigurationError(
                f"rate must lie in [0, 1) and observation_width be positive, got {self.rate}, {self.observation_width}"
            )


class PrunedWalks:
    """The pruner of one policy, on its device."""

    def __init__(self, config: PrunedConfig, pruner: DiffusionPruner) -> None:
        self.config, self.pruner = config, pruner.eval()
        with torch.inference_mode():
            self._unit_part = pruner.unit_part()

    @torch.inference_mode()
    def mask(self, condition: Condition | TransformerCondition) -> Tensor:
        """What to reuse [K, U] for the one observation of `condition`, on the CPU."""
        return self.pruner.masks(observation_embedding(condition), self._unit_part)[0].cpu()

    def walk(self, condition: Condition | TransformerCondition) -> Walk:
        """The pruned walk for the one observation of `condition`."""
        return Walk(self.config.sampler, self.mask(condition), self.config.shared)

    def save(self, folder: Path) -> None:
        """Write it into the folder of its policy."""
        save_checkpoint(folder / PRUNER, self.config, self.pruner.state_dict())

    @classmethod
    def load(cls, folder: Path, policy: PrunablePolicy) -> PrunedWalks:
        """The pruner in the folder of a policy. Raises CheckpointError where there is none, or of another policy."""
        path = folder / PRUNER
        config, weights = _read(folder)
        if config.policy != fingerprint(folder):
            raise CheckpointError(f"{path} was trained for other weights than those in {folder}: train it again")
        try:
            inference_timesteps(policy.config.schedule.num_train_timesteps, config.sampler.num_inference_steps)
            pruner = DiffusionPruner(config.pruner, policy.sampler.units(config.sampler), config.observation_width)
            pruner.load_state_dict(weights)
        except (RuntimeError, ConfigurationError) as error:
            raise CheckpointError(f"{path / WEIGHTS} does not fit {CONFIG}: {str(error).splitlines()[0]}") from None
        return cls(config, pruner.to(policy.device))


def pruner_config(folder: Path) -> PrunedConfig:
    """What the pruner in the folder of a policy was trained for. Raises CheckpointError where there is none."""
    return _read(folder)[0]


def _read(folder: Path) -> tuple[PrunedConfig, dict[str, Tensor]]:
    required = {"policy", "observation_width", "rate"}
    return read_checkpoint(folder / PRUNER, PrunedConfig, required, f"train one with `minidiffuser prune {folder}`")


def is_sequence_policy(folder: Path) -> bool:
    """Whether a folder holds a policy over action sequences rather than one over keyposes; False without either."""
    try:
        return "actions" in json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError, RecursionError, TypeError):
        return False


def load_any_policy(folder: Path, device: str = "cpu") -> PrunablePolicy:
    """The policy in a folder, over keyposes or action sequences, told apart by its config.

    Raises CheckpointError for a missing, incomplete or foreign one.
    """
    return (ActionSequencePolicy if is_sequence_policy(folder) else Policy).load(folder, device)


def fingerprint(folder: Path) -> str:
    """Hash of a policy's weights."""
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
