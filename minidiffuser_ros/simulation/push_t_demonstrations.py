"""Demonstrations of Push-T: the planner at work, and at mending what disturbances have done to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

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
    """What is done to the agent so that the planner shows how to mend it.

    From random steps of a run on its targets are moved for a while, unrecorded; the planner then looks at what came of
    it and goes on from there.

    count: of the times in a scene; strength: px, the most that the deviation of the noise may be; persistence: of the
    noise from one step to the next; steps: fewest and most that it lasts; plans: pushes that are shown afterwards.
    """

    count: int = 6
    strength: float = 12.0
    persistence: float = 0.8
    steps: tuple[int, int] = (3, 12)
    plans: int = 2


@dataclass(frozen=True)
class PushTDemonstration:
    """Runs one after the other: states [T, 5] as of `PushT`, actions [T, 2] at each, the first step of every run.

    The first run goes from the scene of the seed to its mark, where it covers `coverage`.
    """

    states: NDArray[np.float32]
    actions: NDArray[np.float32]
    starts: NDArray[np.int64]
    seed: int
    coverage: float

    def save(self, path: Path) -> None:
        """One whole file, or none."""
        values = {name: getattr(self, name) for name in ("states", "actions", "starts", "seed", "coverage")}

        def write(partial: Path) -> None:
            with partial.open("wb") as file:
                np.savez_compressed(file, **values)

        replace_file(path, write)


class _Step(NamedTuple):
    """One of a run: all that moves before it, the state [5] and the target [2]."""

    before: Snapshot
    state: NDArray[np.float64]
    action: NDArray[np.float64]


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
    field.reset(seed)
    if near:
        _move_near(field, random)
    first = _run(field, planner, well_done)
    if field.coverage < well_done:
        return None
    coverage, runs = field.coverage, [first]
    settings = disturbance or DisturbanceSettings(count=0)
    for _ in range(settings.count):
        _disturb(field, first, random, settings)
        if run := _run(field, planner, well_done, settings.plans):
            runs.append(run)
    states, actions = ([getattr(step, name) for run in runs for step in run] for name in ("state", "action"))
    starts = np.cumsum([0, *(len(run) for run in runs[:-1])])
    return PushTDemonstration(np.array(states, np.float32), np.array(actions, np.float32), starts, seed, coverage)


def _run(field: PushT, planner: PushTPlanner, well_done: float, plans: int = MAX_STEPS) -> list[_Step]:
    """What the planner does until the mark is covered after a push, or so many pushes or all steps are made."""
    steps = list[_Step]()
    while field.coverage < well_done and plans and field.steps < MAX_STEPS:
        plans -= 1
        for target in planner.plan(field.snapshot())[: MAX_STEPS - field.steps]:
            steps.append(_Step(field.snapshot(), field.state, target))
            field.step(target)
    return steps


def _disturb(field: PushT, run: list[_Step], random: np.random.Generator, settings: DisturbanceSettings) -> None:
    """Go through some steps of a run again, with the targets moved."""
    first = int(random.integers(len(run)))
    moved = run[first : first + int(random.integers(*settings.steps, endpoint=True))]
    field.restore(run[first].before)
    for step, noise in zip(moved, _noise(len(moved), random, settings), strict=True):
        field.step(np.clip(step.action + noise, 0.0, FIELD))


def _move_near(field: PushT, random: np.random.Generator) -> None:
    """Put the block near its mark, the agent where it is or, if that is taken, into a corner."""
    x, y = random.normal(GOAL_POSE[:2], NEAR_DISTANCE)
    now = field.snapshot()
    free = np.hypot(now.agent[0] - x, now.agent[1] - y) > 150.0
    agent = now.agent if free else (60.0, 60.0)
    angle = random.normal(GOAL_POSE[2], NEAR_ANGLE)
    field.restore(Snapshot(agent, (0.0, 0.0), (x, y), angle, (0.0, 0.0), 0.0, 0))


def _noise(count: int, random: np.random.Generator, settings: DisturbanceSettings) -> NDArray[np.float64]:
    """What to add to targets one after the other [count, 2]."""
    noise, strength, keep = np.empty((count, 2)), random.uniform(0.0, settings.strength), settings.persistence
    now = random.normal(0.0, strength, 2)
    for row in noise:
        row[:] = now
        now = keep * now + np.sqrt(1.0 - keep**2) * random.normal(0.0, strength, 2)
    return noise
