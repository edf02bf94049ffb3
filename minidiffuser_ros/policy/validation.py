"""Checks on a keypose before it is sent to the arm; the arm checks again, with its own limits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.contract.keypose import QUATERNION_TOLERANCE, Keypose
from minidiffuser_ros.contract.observation import Observation


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
) -> list[str]:
    """One sentence for everything that forbids sending `keypose`, in answer to `observation`, to the arm.

    settled_at_ns: when the arm had come to rest; now_ns: the same clock as the observation's stamp, now.
    """
    position, spec = np.asarray(keypose.position), observation.spec
    values = np.array([*position, *keypose.quat_wxyz, keypose.opening])
    if not np.isfinite(values).all():
        return [f"the keypose is not finite: {values.tolist()}"]
    problems = []
    norm = float(np.linalg.norm(keypose.quat_wxyz))
    if abs(norm - 1.0) > QUATERNION_TOLERANCE:
        problems.append(f"its quaternion has norm {norm:.4f} instead of 1")
    low, high = np.array(spec.workspace_min), np.array(spec.workspace_max)
    if (position < low).any() or (position > high).any():
        problems.append(
            f"its position {position.round(3).tolist()} lies outside the workspace {low.tolist()} to {high.tolist()}"
        )
    jump = float(np.linalg.norm(position - observation.tool_position))
    if jump > settings.max_jump_m:
        problems.append(f"it lies {jump:.2f} m from the tool, more than the {settings.max_jump_m:.2f} m allowed")
    if observation.stamp_ns < settled_at_ns:
        early = (settled_at_ns - observation.stamp_ns) / 1e9
        problems.append(f"its observation was taken {early:.2f} s before the arm had settled")
    age = (now_ns - observation.stamp_ns) / 1e9
    if age > settings.max_observation_age_s:
        problems.append(
            f"its observation is {age:.1f} s old, more than the {settings.max_observation_age_s:.1f} s allowed"
        )
    return problems
