"""Demonstrations of Push-T: the planner at work, disturbed now and then so that it shows how to mend things."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.contract.files import replace_file
from minidiffuser_ros.simulation.push_t import FIELD, GOAL_POSE, MAX_STEPS, PushT, Snapshot
from minidiffuser_ros.simulation.push_t_planner import PushTPlanner

FIRST_TEST_SEED = 100_000  # of scenes that policies are tested on; nothing learns from those
FIRST_SEED = 200_000  # of scenes that are demonstrated
NEAR_DISTANCE, NEAR_ANGLE = 18.0, 0.3  # px and rad that a block near its mark is off, standard deviations


@dataclass(frozen=True)
class DisturbanceSettings:
    """What is done to the agent behind the planner's back: its targets are moved, and not so in the recording.

    share: of the pushes that are disturbed; strength: px, the most that the deviation of a push's noise may be;
    persistence: of the noise from one step to the next.
    """

    share: float = 0.6
    strength: float = 8.0
    persistence: float = 0.8


@dataclass(frozen=True)
class PushTDemonstration:
    """states [T, 5] as of `PushT`, actions [T, 2] that were meant at each; coverage at the end."""

    states: NDArray[np.float32]
    actions: NDArray[np.float32]
    seed: int
    coverage: float

    def save(self, path: Path) -> None:
        """One whole file, or none."""
        values = {"states": self.states, "actions": self.actions, "seed": self.seed, "coverage": self.coverage}

        def write(partial: Path) -> None:
            with partial.open("wb") as file:
                np.savez_compressed(file, **values)  # type: ignore[arg-type]

        replace_file(path, write)


def file_of(folder: Path, seed: int) -> Path:
    """Where the demonstration of a scene lies."""
    return folder / f"episode_{seed - FIRST_SEED:05d}.npz"


def demonstrate(
    field: PushT,
    planner: PushTPlanner,
    seed: int,
    disturbance: DisturbanceSettings | None = None,
    near: bool = False,
    well_done: float = 0.965,
) -> PushTDemonstration | None:
    """Push until the mark is covered to `well_done` after a push. None where that takes more than MAX_STEPS.

    The task is done from 0.95 on; who learns from what stops there misses it half of the time. near: the block begins
    close to its mark, where a policy spends most of its time and an expert little.
    """
    random = np.random.default_rng([seed, 71])
    state = field.reset(seed)
    if near:
        state = _move_near(field, random)
    states, actions = [], []
    while field.coverage < well_done:
        targets = planner.plan(field.snapshot())
        noise = _noise(len(targets), random, disturbance)
        for target, moved in zip(targets, np.clip(targets + noise, 0.0, FIELD), strict=True):
            states.append(state)
            actions.append(target)
            state = field.step(moved)
            if field.steps == MAX_STEPS:
                return None
    return PushTDemonstration(np.array(states, np.float32), np.array(actions, np.float32), seed, field.coverage)


def _move_near(field: PushT, random: np.random.Generator) -> NDArray[np.float64]:
    """Put the block near its mark, the agent where it is or, if that is taken, into a corner. Returns the state."""
    x, y = random.normal(GOAL_POSE[:2], NEAR_DISTANCE)
    now = field.snapshot()
    free = np.hypot(now.agent[0] - x, now.agent[1] - y) > 150.0
    agent = now.agent if free else (60.0, 60.0)
    angle = random.normal(GOAL_POSE[2], NEAR_ANGLE)
    field.restore(Snapshot(agent, (0.0, 0.0), (x, y), angle, (0.0, 0.0), 0.0, 0))
    return field.state


def _noise(count: int, random: np.random.Generator, settings: DisturbanceSettings | None) -> NDArray[np.float64]:
    """What to add to the targets of one push [count, 2]."""
    noise = np.zeros((count, 2))
    if settings is None or random.random() > settings.share:
        return noise
    strength = random.uniform(0.0, settings.strength)
    now, keep = random.normal(0.0, strength, 2), settings.persistence
    for row in noise:
        row[:] = now
        now = keep * now + np.sqrt(1.0 - keep**2) * random.normal(0.0, strength, 2)
    return noise
