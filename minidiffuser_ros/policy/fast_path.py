"""A policy as the graph uses it: by the walk that is asked for, and by the whole one where the answer is doubted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from minidiffuser_ros.contract.errors import CheckpointError, ConfigurationError
from minidiffuser_ros.contract.observation import Observation, ObservationSpec
from minidiffuser_ros.diffusion.sampler import SamplerConfig, inference_timesteps
from minidiffuser_ros.model.mini_diffuser import Condition
from minidiffuser_ros.policy.policy import Decision, Policy
from minidiffuser_ros.policy.pruned import PrunedWalks
from minidiffuser_ros.policy.sampling import Walk
from minidiffuser_ros.policy.settings import WalkSettings
from minidiffuser_ros.policy.trust import Trust

T = TypeVar("T")


class FastPath:
    """A policy with its pruner and its calibrated trust, where it has them; where not, the reason.

    Equal observations, seeds and settings give equal decisions; settings may change from one to the next.
    """

    def __init__(
        self,
        policy: Policy,
        pruned: PrunedWalks | CheckpointError,
        trust: Trust | CheckpointError,
    ) -> None:
        self.policy, self._pruned, self._trust = policy, pruned, trust

    @classmethod
    def load(cls, path: Path, device: str = "cpu") -> FastPath:
        """Policy, pruner and trust of a checkpoint folder. Raises CheckpointError where it has no policy."""
        policy = Policy.load(path, device)
        return cls(policy, _or_reason(PrunedWalks.load, path, policy), _or_reason(Trust.load, path, policy))

    @property
    def spec(self) -> ObservationSpec:
        """The observations the policy was trained on."""
        return self.policy.spec

    def require(self, settings: WalkSettings) -> None:
        """Raises ConfigurationError for a walk that this policy does not have, and a fallback without calibration."""
        self._plan(settings)
        if settings.fallback == "on" and isinstance(self._trust, CheckpointError):
            raise ConfigurationError(f"fallback is 'on', but when to doubt is not calibrated: {self._trust}")

    def decide(
        self,
        observation: Observation,
        instruction: str,
        seed: int = 0,
        before: Observation | None = None,
        settings: WalkSettings | None = None,
    ) -> Decision:
        """As `Policy.decide`, by the walk of these settings, the policy's own without. Raises as `require`, too."""
        settings = settings or WalkSettings()
        self.require(settings)
        policy, trust = self.policy, self._trust
        policy.plan = self._plan(settings)
        doubted = settings.fallback == "on" or (settings.fallback == "auto" and settings.sampler == "sag")
        no_doubt = not doubted or isinstance(trust, CheckpointError)
        policy.doubt = (lambda condition, proposal: None) if no_doubt else trust.doubt  # type: ignore[union-attr]
        return policy.decide(observation, instruction, seed, before)

    def _plan(self, settings: WalkSettings) -> Callable[[Condition], Walk]:
        if settings.sampler != "sag":
            walk = Walk(self._sampler(settings))
            return lambda condition: walk
        if isinstance(self._pruned, CheckpointError):
            raise ConfigurationError(f"sampler is 'sag', but there is no pruner for this policy: {self._pruned}")
        own = self._pruned.config.sampler
        if settings.steps not in (0, own.num_inference_steps):
            raise ConfigurationError(
                f"the pruner was trained for {own.num_inference_steps} steps of {own.kind}, got {settings.steps}: "
                f"set steps to 0, or another sampler"
            )
        return self._pruned.walk

    def _sampler(self, settings: WalkSettings) -> SamplerConfig:
        """Of a walk that computes everything."""
        own, trained = self.policy.config.sampler, self.policy.config.schedule.num_train_timesteps
        if settings.sampler not in ("auto", own.kind):
            steps = trained if settings.sampler == "ddpm" else SamplerConfig().num_inference_steps
            own = replace(own, kind=settings.sampler, num_inference_steps=min(steps, trained))  # type: ignore[arg-type]
        if settings.steps:
            own = replace(own, num_inference_steps=settings.steps)
        inference_timesteps(trained, own.num_inference_steps)
        return own


def _or_reason(load: Callable[[Path, Policy], T], path: Path, policy: Policy) -> T | CheckpointError:
    try:
        return load(path, policy)
    except CheckpointError as error:
        return error
