"""Demonstrations by the scripted expert: what the cameras saw before each keypose, and the keypose.

A part of the episodes is executed with small errors, so that the policy also learns what to do from where it
will really be: the target stays the expert's, the arm arrives a little beside it (DART, Laskey et al. 2017).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from minidiffuser_ros.contract.errors import MotionError, ObservationError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.contract.observation import Observation
from minidiffuser_ros.episodes.demonstration import Demonstration, demonstration_of
from minidiffuser_ros.episodes.recording import Recorder
from minidiffuser_ros.geometry.rotation import quat_from_yaw, quat_multiply

if TYPE_CHECKING:
    # Handed in ready-made: what learns from files needs no simulator.
    from minidiffuser_ros.simulation.shifts import Shift
    from minidiffuser_ros.simulation.tabletop import Tabletop


@dataclass(frozen=True)
class Disturbance:
    """How far the executed keyposes lie beside the expert's: standard deviations in metres and radians.

    probability: of a demonstration to be disturbed at all.
    """

    probability: float = 0.5
    position: float = 0.006
    yaw: float = 0.05

    def half(self) -> Disturbance:
        """The same, half as far."""
        return replace(self, position=0.5 * self.position, yaw=0.5 * self.yaw)


def demonstrate(
    world: Tabletop,
    task: str,
    seed: int,
    disturbance: Disturbance,
    shift: Shift,
    recorder: Recorder | None = None,
) -> Demonstration | None:
    """One demonstration, or None where the expert did not succeed from this seed, or could not reach or see.

    Where a disturbed one fails, as it may where millimetres count, the expert shows it again with half the errors,
    then with a quarter, at last without any: a fit that is only ever shown without errors is not learned for an arm
    that makes them.
    """
    rng = np.random.default_rng([seed, 1])
    milder = [disturbance, disturbance.half(), disturbance.half().half()]
    attempts: list[Disturbance | None] = [*(milder if rng.random() < disturbance.probability else []), None]
    for attempt in attempts:
        world.reset(task, seed, shift=shift)
        try:
            steps = _perform(world, rng, attempt, recorder)
        except (MotionError, ObservationError):
            continue
        if world.success():
            return demonstration_of(task, world.task.variation, seed, world.task.instructions(), steps)
    return None


def _perform(
    world: Tabletop, rng: np.random.Generator, disturbance: Disturbance | None, recorder: Recorder | None
) -> list[tuple[Observation, Keypose]]:
    """What was seen before each keypose. The last step repeats the last keypose: a finished policy stays there."""
    if recorder is not None:
        recorder.clear()
    steps = []
    for keypose in world.expert():
        steps.append((_look(world, recorder), keypose))
        world.execute(keypose if disturbance is None else _beside(keypose, rng, disturbance))
        if recorder is not None:
            recorder.follow(world.arm.trajectory)
    steps.append((_look(world, recorder), keypose))
    return steps


def _look(world: Tabletop, recorder: Recorder | None) -> Observation:
    views = world.views()
    if recorder is not None:
        recorder.see(views)
    return world.observe(views)


def _beside(keypose: Keypose, rng: np.random.Generator, disturbance: Disturbance) -> Keypose:
    turn = quat_from_yaw(float(rng.normal(0.0, disturbance.yaw)))
    offset = rng.normal(0.0, disturbance.position, 3)
    return Keypose(keypose.position + offset, quat_multiply(turn, keypose.quat_wxyz), keypose.opening)
