"""The configuration of a new policy over action sequences, from what it is to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.diffusion.sampler import SamplerConfig
from minidiffuser_ros.diffusion.schedule import PredictionType, ScheduleConfig
from minidiffuser_ros.model.action_config import ActionTransformerConfig, named_sequence_config
from minidiffuser_ros.policy.action_sequence import ActionPolicyConfig, ValueRange
from minidiffuser_ros.training.sequence_data import SequenceEpisode, SequenceSet

CLIP = 1.0  # of what is denoised: normalised actions lie in [-1, 1]


def new_sequence_policy(
    episodes: Sequence[SequenceEpisode], network: str, prediction_type: PredictionType, width: int | None = None
) -> ActionPolicyConfig:
    """A policy of the named network for states and actions like these, with Diffusion Policy's 100 steps of DDPM.

    width: of a transformer, instead of its own. Raises ConfigurationError for an unknown network or setting.
    """
    states, actions = (np.concatenate([getattr(e, name) for e in episodes]) for name in ("states", "actions"))
    model = replace(named_sequence_config(network), state_dim=states.shape[1], action_dim=actions.shape[1], cameras=0)
    if width is not None:
        if not isinstance(model, ActionTransformerConfig):
            raise ConfigurationError(f"a width belongs to a transformer, got {width} with '{network}'")
        model = replace(model, width=width)
    config = ActionPolicyConfig(
        model, ValueRange.of(actions), ValueRange.of(states), ScheduleConfig(prediction_type=prediction_type),
        SamplerConfig("ddpm", 100, CLIP),
    )  # fmt: skip
    mean, spread = SequenceSet(episodes, config).action_moments()
    return replace(config, action_mean=mean, action_spread=spread)


def with_ranges_of(policy: ActionPolicyConfig, before: ActionPolicyConfig) -> ActionPolicyConfig:
    """The same policy, with the scales of states and actions that its training began with."""
    return replace(
        policy, actions=before.actions, states=before.states, action_mean=before.action_mean,
        action_spread=before.action_spread,
    )  # fmt: skip
