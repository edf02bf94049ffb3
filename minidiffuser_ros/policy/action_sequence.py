"""The policy over action sequences: a window of observations in, N sequences of actions in the user's units out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from minidiffuser_ros.contract.errors import CheckpointError, ConfigurationError, ObservationError
from minidiffuser_ros.diffusion.sampler import SamplerConfig, inference_timesteps
from minidiffuser_ros.diffusion.schedule import NoiseSchedule, ScheduleConfig
from minidiffuser_ros.model.action_condition import ActionInputs
from minidiffuser_ros.model.action_config import ActionUNetConfig
from minidiffuser_ros.model.action_network import ActionNetwork, ActionNetworkConfig, action_network
from minidiffuser_ros.model.action_transformer import TransformerCondition
from minidiffuser_ros.model.action_unet import ActionCondition
from minidiffuser_ros.policy.checkpoint import read_checkpoint, save_checkpoint
from minidiffuser_ros.policy.sampling import Walk
from minidiffuser_ros.policy.sequence_sampling import SequenceSampler


@dataclass(frozen=True)
class ValueRange:
    """Lowest and highest value of every number of a state or an action, in the user's units.

    A number that never changes becomes 0, and comes back as it was whatever is made of that 0.
    """

    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        ordered = len(self.low) == len(self.high) and all(a <= b for a, b in zip(self.low, self.high, strict=True))
        if not ordered or not all(math.isfinite(value) for value in (*self.low, *self.high)):
            raise ConfigurationError(
                f"low and high must be as many finite numbers, none of low above high, got {self.low} and {self.high}"
            )

    @classmethod
    def of(cls, values: ArrayLike) -> ValueRange:
        """The range of recorded values [..., D]."""
        flat = np.asarray(values, dtype=np.float64)
        flat = flat.reshape(-1, flat.shape[-1])
        return cls(tuple(map(float, flat.min(0))), tuple(map(float, flat.max(0))))

    def normalise(self, values: Tensor) -> Tensor:
        """User's units [..., D] to [-1, 1]."""
        center, half = self._center_and_half(values)
        return (values - center) / torch.where(half > 0, half, 1.0)

    def denormalise(self, values: Tensor) -> Tensor:
        """[-1, 1] to the user's units [..., D]."""
        center, half = self._center_and_half(values)
        return values * half + center

    def _center_and_half(self, like: Tensor) -> tuple[Tensor, Tensor]:
        low, high = (torch.tensor(end, dtype=torch.float64) for end in (self.low, self.high))
        return ((low + high) / 2).to(like), ((high - low) / 2).to(like)


@dataclass(frozen=True)
class ActionPolicyConfig:
    """Everything that rebuilds a policy over action sequences but its weights.

    The noise is Diffusion Policy's; the network predicts the sequence instead of the noise, and ten steps of DDIM stand
    for a hundred of DDPM (docs/method.md has what that costs or brings). action_mean and action_spread: of the
    normalised actions, which say where sampling starts under schedules that do not end in pure noise. action_steps: how
    many of a sequence are performed before the next look. features: what the policy sees of its task's states and the
    frame of its actions, by the name that `training.sequence_data.named_view` knows.
    """

    model: ActionNetworkConfig = field(default_factory=ActionUNetConfig)
    actions: ValueRange = field(default_factory=lambda: ValueRange((-1.0, -1.0), (1.0, 1.0)))
    states: ValueRange = field(default_factory=lambda: ValueRange((-1.0, -1.0), (1.0, 1.0)))
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    sampler: SamplerConfig = field(default_factory=lambda: SamplerConfig(clip_sample=1.0))
    action_mean: float = 0.0
    action_spread: float = 0.5
    action_steps: int = 8
    features: str = "none"

    def __post_init__(self) -> None:
        for name, values, size in (
            ("actions", self.actions, self.model.action_dim),
            ("states", self.states, self.model.state_dim),
        ):
            if len(values.low) != size:
                raise ConfigurationError(f"the range of {name} must have {size} numbers, got {len(values.low)}")
        if self.action_spread <= 0 or self.action_steps < 1:
            raise ConfigurationError(
                f"action_spread must be above 0 and action_steps at least 1, "
                f"got {self.action_spread} and {self.action_steps}"
            )
        inference_timesteps(self.schedule.num_train_timesteps, self.sampler.num_inference_steps)


@dataclass(frozen=True)
class ActionObservation:
    """The last `obs_steps` of what is seen, oldest first.

    states [O, S] in the user's units; images [V, O, 3, H, W] RGB of every camera, uint8 or floats in [0, 1]. None for
    what the policy does not take.
    """

    states: NDArray[np.floating] | None = None
    images: NDArray[np.uint8] | NDArray[np.floating] | None = None


class ActionSequencePolicy:
    """A trained `ActionNetwork` with its ranges, schedule and sampler, on one device.

    To train one: `minidiffuser train-actions`, or `training.action_sequences.action_sequence_loss` on its `network`,
    with `config.states` and `config.actions` normalising what was recorded.
    plan: how the sampler goes for an observation; replace it by that of a pruner (`PrunedWalks.walk`) or by your own.
    """

    def __init__(self, config: ActionPolicyConfig, network: ActionNetwork, device: str = "cpu") -> None:
        self.config = config
        self.device = device
        self.network = network.to(device)
        self.schedule = NoiseSchedule(config.schedule).to(device)
        self.sampler = SequenceSampler(network, self.schedule, config.action_mean, config.action_spread, device)
        self.plan: Callable[[ActionCondition | TransformerCondition], Walk] = lambda condition: Walk(config.sampler)

    @classmethod
    def load(cls, path: str | Path, device: str = "cpu") -> ActionSequencePolicy:
        """From a folder of `save`. Raises CheckpointError for a missing, incomplete or foreign one."""
        required = {"model", "actions", "states", "schedule", "sampler"}
        config, weights = read_checkpoint(
            Path(path), ActionPolicyConfig, required, "ActionSequencePolicy.save writes one"
        )
        try:
            network = action_network(config.model)
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise CheckpointError(
                f"the weights in {path} do not fit its config: {str(error).splitlines()[0]}"
            ) from None
        return cls(config, network, device)

    def save(self, path: str | Path) -> None:
        """Write `model.safetensors`, in half precision, and `config.json` into a folder."""
        save_checkpoint(Path(path), self.config, self.network.state_dict())

    @torch.inference_mode()
    def sample(self, observation: ActionObservation, num_samples: int = 1, seed: int = 0) -> NDArray[np.float64]:
        """Sequences of actions [N, T, A] in the user's units, drawn independently for one observation.

        The observation is encoded once for all N and every step. Equal observation and seed give equal sequences.
        Raises ObservationError for an observation of another shape than the configured or with values not finite.
        """
        condition = self.encode(observation)
        return self.draw(condition, self.plan(condition), num_samples, seed)

    def act(self, observation: ActionObservation, seed: int = 0) -> NDArray[np.float64]:
        """The actions [action_steps, A] to perform before the next look, from one drawn sequence.

        A sequence begins at the oldest observed step, as it was trained: what lies before now is left out.
        """
        return self.first_actions(self.sample(observation, 1, seed)[0])

    def first_actions(self, sequence: NDArray[np.float64]) -> NDArray[np.float64]:
        """What of a drawn sequence [T, A] `act` performs."""
        return sequence[self.config.model.obs_steps - 1 :][: self.config.action_steps]

    @torch.inference_mode()
    def encode(self, observation: ActionObservation) -> ActionCondition | TransformerCondition:
        """What `plan` and the sampler see of one observation. Raises as `sample` does."""
        self.network.eval()
        return self.network.encode(self._inputs(observation).to(self.device))

    @torch.inference_mode()
    def draw(
        self, condition: ActionCondition | TransformerCondition, walk: Walk, num_samples: int, seed: int
    ) -> NDArray[np.float64]:
        """Sequences [N, T, A] in the user's units for an encoded observation, by any walk."""
        drawn = self.sampler.sequences(condition, num_samples, seed, walk)
        sequences: NDArray[np.float64] = self.config.actions.denormalise(drawn.double().cpu()).numpy()
        return sequences

    def _inputs(self, observation: ActionObservation) -> ActionInputs:
        parts = {"states": observation.states, "images": observation.images}
        found = {name: torch.from_numpy(np.ascontiguousarray(v))[None] for name, v in parts.items() if v is not None}
        if wrong := [name for name, v in found.items() if not v.isfinite().all()]:
            raise ObservationError([f"{name} hold values that are not finite" for name in wrong])
        inputs = ActionInputs(found.get("states"), found.get("images"))
        self.network.observation.require(inputs)
        if inputs.states is None:
            return inputs
        return ActionInputs(self.config.states.normalise(inputs.states.double()).float(), inputs.images)
