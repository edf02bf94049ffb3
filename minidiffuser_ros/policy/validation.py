"""Checks on a keypose before it is sent to the arm; the arm checks again, with its own limits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.contract.keypose import QUATERNION_TOLERANCE, Keypose
from minidiffuser_ros.contract.observation import Observation
from minidiffuser_ros.contract.refusal import Reason, Refusal


@dataclass(frozen=True)
class ValidationSettings:
    """What counts as a sane goal.

    max_jump_m: from the observed tool position. max_observation_age_s: from the last pixel to the check.
    """

    max_jump_m: float = 0.80
    max_observation_age_s: float = 10.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ConfigurationError(f"{name} must be greater than 0, got {value}")


def goal_problems(
    keypose: Keypose, observation: Observation, settings: ValidationSettings, settled_at_ns: int, now_ns: int
) -> list[Refusal]:
    """One sentence, with its code, for everything that forbids sending `keypose`, in answer to `observation`.

    settled_at_ns: when the arm had come to rest; now_ns: the same clock as the observation's stamp, now.
    """
    position, spec = np.asarray(keypose.position), observation.spec
    values = np.array([*position, *keypose.quat_wxyz, keypose.opening])
    if not np.isfinite(values).all():
        return [Refusal(Reason.NOT_FINITE, f"the keypose is not finite: {values.tolist()}")]
    problems = []
    norm = float(np.linalg.norm(keypose.quat_wxyz))
    if abs(norm - 1.0) > QUATERNION_TOLERANCE:
        problems.append(Refusal(Reason.NOT_A_ROTATION, f"its quaternion has norm {norm:.4f} instead of 1"))
    low, high = np.array(spec.workspace_min), np.array(spec.workspace_max)
    if (position < low).any() or (position > high).any():
        box = f"{low.tolist()} to {high.tolist()}"
        sentence = f"its position {position.round(3).tolist()} lies outside the workspace {box}"
        problems.append(Refusal(Reason.OUTSIDE_WORKSPACE, sentence))
    jump = float(np.linalg.norm(position - observation.tool_position))
    if jump > settings.max_jump_m:
        sentence = f"it lies {jump:.2f} m from the tool, more than the {settings.max_jump_m:.2f} m allowed"
        problems.append(Refusal(Reason.TOO_FAR, sentence))
    return problems + _age_problems(observation, settings, settled_at_ns, now_ns)


def _age_problems(
    observation: Observation, settings: ValidationSettings, settled_at_ns: int, now_ns: int
) -> list[Refusal]:
    problems = []
    if observation.stamp_ns < settled_at_ns:
        early = (settled_at_ns - observation.stamp_ns) / 1e9
        sentence = f"its observation was taken {early:.2f} s before the arm had settled"
        problems.append(Refusal(Reason.BEFORE_LAST_MOTION, sentence))
    age = (now_ns - observation.stamp_ns) / 1e9
    if age > settings.max_observation_age_s:
        allowed = f"more than the {settings.max_observation_age_s:.1f} s allowed"
        problems.append(Refusal(Reason.STALE, f"its observation is {age:.1f} s old, {allowed}"))
    return problems
