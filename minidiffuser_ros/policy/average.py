"""The mean of two policies' weights: what one has learned beyond the other, without losing what that one could.

A policy that is trained on for one task forgets the others. Between its weights and those that it began with lie ones
that can some of both, and from there little more training on all tasks is needed (Wortsman et al. 2022, "Robust
fine-tuning of zero-shot models", equation 1; its share is alpha).
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

from torch import Tensor

from minidiffuser_ros.contract.errors import CheckpointError, ConfigurationError
from minidiffuser_ros.policy.checkpoint import PolicyConfig, load_checkpoint


def average(base: Path, tuned: Path, share: float) -> tuple[PolicyConfig, dict[str, Tensor]]:
    """A policy of both policies' sentences, its weights `share` of the way from those of `base` to those of `tuned`.

    Raises CheckpointError for a folder that holds no policy and for two that differ in more than their sentences,
    ConfigurationError for a share outside [0, 1].
    """
    if not 0.0 <= share <= 1.0:
        raise ConfigurationError(f"the share of {tuned} lies between 0 and 1, got {share:g}")
    config, weights = load_checkpoint(base)
    other, others = load_checkpoint(tuned)
    unlike = [name for name, value in asdict(config).items() if value != asdict(other)[name] and name != "instructions"]
    if unlike:
        raise CheckpointError(
            f"{base} and {tuned} differ in {', '.join(unlike)}: only of policies that one was trained on from the "
            "other can the weights be averaged"
        )
    instructions = tuple(dict.fromkeys((*config.instructions, *other.instructions)))
    mean = {name: value.float().lerp(others[name].float(), share) for name, value in weights.items()}
    return replace(config, instructions=instructions), mean
