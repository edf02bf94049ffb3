"""The configuration of a new policy over action sequences, from what it is to learn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.diffusion.sampler import SamplerConfig
from minidiffuser_ros.diffusion.schedule import PredictionType, ScheduleConfig
from minidiffuser_ros.model.action_config import ActionTransformerConfig, ActionUNetConfig, named_sequence_config
from minidiffuser_ros.policy.action_sequence import ActionPolicyConfig, ValueRange
from minidiffuser_ros.training.sequence_data import SequenceEpisode, SequenceSet, named_view

CLIP = 1.0  # of what is denoised: normalised actions lie in [-1, 1]


def new_sequence_policy(
    episodes: Sequence[SequenceEpisode],
    network: str,
    prediction_type: PredictionType,
    features: str = "none",
    **changes: int | tuple[int, ...] | None,
) -> ActionPolicyConfig:
    """A policy of the named network for states and actions like these, with Diffusion Policy's 100 steps of DDPM.

    features: of its task (`named_view`). changes: settings of the network, such as the width of a transformer, instead
    of its own where they are not None. Raises ConfigurationError for an unknown network, features or setting.
    """
    view, first = named_view(features), episodes[0]
    seen = first.states.shape[1] if view is None else view.see(first.states[:1]).shape[1]
    model = replace(
        _changed(named_sequence_config(network), network, changes), state_dim=seen,
        action_dim=first.actions.shape[1], cameras=0,
    )  # fmt: skip
    actions, states = (ValueRange((-1.0,) * n, (1.0,) * n) for n in (model.action_dim, model.state_dim))  # as they are
    config = ActionPolicyConfig(
        model, actions, states, ScheduleConfig(prediction_type=prediction_type), SamplerConfig("ddpm", 100, CLIP),
        features=features,
    )  # fmt: skip
    actions, states = SequenceSet(episodes, config).ranges()
    config = replace(config, actions=actions, states=states)
    mean, spread = SequenceSet(episodes, config).action_moments()
    return replace(config, action_mean=mean, action_spread=spread)


def _changed(
    model: ActionUNetConfig | ActionTransformerConfig, network: str, changes: Mapping[str, object]
) -> ActionUNetConfig | ActionTransformerConfig:
    wanted = {name: value for name, value in changes.items() if value is not None}
    if unknown := sorted(wanted.keys() - {field.name for field in fields(model)}):
        raise ConfigurationError(f"{' and '.join(unknown)} belongs to another network, got it with '{network}'")
    return replace(model, **wanted)  # type: ignore[arg-type]


def with_ranges_of(policy: ActionPolicyConfig, before: ActionPolicyConfig) -> ActionPolicyConfig:
    """The same policy, with the scales of states and actions that its training began with."""
    return replace(
        policy, actions=before.actions, states=before.states, action_mean=before.action_mean,
        action_spread=before.action_spread,
    )  # fmt: skip
