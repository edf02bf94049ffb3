"""Demonstrations by the scripted expert: what the cameras saw before each keypose, and the keypose.

A part of the episodes is executed with small errors, so that the policy also learns what to do from where it
will really be: the target stays the expert's, the arm arrives a little beside it (DART, Laskey et al. 2017).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from minidiffuser_ros.contract.errors import MotionError, ObservationError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.episodes.demonstration import Demonstration, demonstration_of
from minidiffuser_ros.geometry.rotation import quat_from_yaw, quat_multiply

if TYPE_CHECKING:
    # Handed in ready-made: what learns from files needs no simulator.
    from minidiffuser_ros.simulation.tabletop import Tabletop


@dataclass(frozen=True)
class Disturbance:
    """How far the executed keyposes lie beside the expert's: standard deviations in metres and radians."""

    probability: float = 0.5
    position: float = 0.006
    yaw: float = 0.05


def demonstrate(world: Tabletop, task: str, seed: int, disturbance: Disturbance) -> Demonstration | None:
    """One demonstration, or None where the expert did not succeed from this seed, or could not reach or see.

    The last step repeats the last keypose: a finished policy stays where it is.
    """
    world.reset(task, seed)
    rng = np.random.default_rng([seed, 1])
    disturbed = rng.random() < disturbance.probability
    steps = []
    try:
        for keypose in world.expert():
            steps.append((world.observe(), keypose))
            world.execute(_beside(keypose, rng, disturbance) if disturbed else keypose)
        steps.append((world.observe(), keypose))
    except (MotionError, ObservationError):
        return None
    if not world.success():
        return None
    return demonstration_of(task, world.task.variation, seed, world.task.instructions(), steps)


def _beside(keypose: Keypose, rng: np.random.Generator, disturbance: Disturbance) -> Keypose:
    turn = quat_from_yaw(float(rng.normal(0.0, disturbance.yaw)))
    offset = rng.normal(0.0, disturbance.position, 3)
    return Keypose(keypose.position + offset, quat_multiply(turn, keypose.quat_wxyz), keypose.opening)
