"""Numbers of a set of episodes by task: outcomes, steps, durations, where keyposes lie, gripper, points, sentences."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.contract.errors import EpisodeError
from minidiffuser_ros.contract.workers import over_processes
from minidiffuser_ros.episodes.cache import open_cache
from minidiffuser_ros.episodes.catalog import CACHED, RECORDED, Listed
from minidiffuser_ros.episodes.demonstration import load_demonstration

Spread = tuple[float, float, float]  # lowest, mean, highest

_open_cache = lru_cache(maxsize=16)(open_cache)


@dataclass(frozen=True)
class EpisodeNumbers:
    """What is counted of one episode: targets [T, 8] as in a demonstration; points [T], None where only a cache tells;
    problem: a sentence, where the episode could not be read."""

    episode: Listed
    targets: NDArray[np.float64]
    points: NDArray[np.int64] | None
    sentences: tuple[str, ...]
    problem: str = ""


@dataclass(frozen=True)
class TaskStatistics:
    """One task. outcomes and sentences: how many episodes have each.

    steps an episode, duration_s of an episode and points an observation are (lowest, mean, highest), None where
    nothing tells. keypose_min, keypose_max: corners [3] in m of the box around all keyposes, in the policy frame.
    closed_fraction: of the keyposes, with the gripper closed.
    """

    task: str
    episodes: int
    outcomes: dict[str, int]
    steps: Spread | None
    duration_s: Spread | None
    points: Spread | None
    keypose_min: tuple[float, ...] | None
    keypose_max: tuple[float, ...] | None
    closed_fraction: float | None
    sentences: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def statistics_of(episodes: Sequence[Listed], workers: int = 1) -> tuple[list[TaskStatistics], list[str]]:
    """Statistics by task, sorted by its name, and a sentence for each episode that could not be read."""
    cached = [numbers_of(e) for e in episodes if e.kind == CACHED]
    others = [e for e in episodes if e.kind != CACHED]
    read = [*cached, *over_processes(numbers_of, others, max(1, min(workers, len(others))))]
    by_task: defaultdict[str, list[EpisodeNumbers]] = defaultdict(list)
    for numbers in read:
        if not numbers.problem:
            by_task[numbers.episode.task].append(numbers)
    problems = sorted(numbers.problem for numbers in read if numbers.problem)
    return [_statistics(task, by_task[task]) for task in sorted(by_task)], problems


def numbers_of(episode: Listed) -> EpisodeNumbers:
    """Read what is counted of one episode; no pictures for it."""
    try:
        if episode.kind == RECORDED:
            return EpisodeNumbers(episode, _recorded_targets(episode), None, episode.instructions)
        demonstration = (
            _open_cache(episode.path).demonstration(episode.name)
            if episode.kind == CACHED
            else load_demonstration(episode.path)
        )
        return EpisodeNumbers(episode, demonstration.targets, demonstration.counts, demonstration.instructions)
    except EpisodeError as error:
        return EpisodeNumbers(episode, np.zeros((0, 8)), None, (), str(error))


def _recorded_targets(episode: Listed) -> NDArray[np.float64]:
    """As `demonstration_from_episode` makes them, without the pictures."""
    # Here, as machines that only train have no rosbags.
    from minidiffuser_ros.episodes.bag import EpisodeReader
    from minidiffuser_ros.episodes.keyposes import episode_keyposes

    reader = EpisodeReader(episode.path)
    try:
        keyposes = [found.keypose for found in episode_keyposes(reader.traces(), reader.marks())]
    except EpisodeError as error:
        raise EpisodeError(f"{episode.path}: {error}") from None
    return np.array([[*k.position, *k.quat_wxyz, k.opening] for k in (*keyposes, keyposes[-1])])


def _statistics(task: str, numbers: Sequence[EpisodeNumbers]) -> TaskStatistics:
    targets = np.concatenate([n.targets for n in numbers])
    some = len(targets) > 0
    return TaskStatistics(
        task,
        len(numbers),
        dict(sorted(Counter(n.episode.outcome for n in numbers).items())),
        _spread(len(n.targets) for n in numbers),
        _spread(n.episode.duration_s for n in numbers if n.episode.duration_s is not None),
        _spread(count for n in numbers if n.points is not None for count in n.points.tolist()),
        tuple(targets[:, :3].min(axis=0).tolist()) if some else None,
        tuple(targets[:, :3].max(axis=0).tolist()) if some else None,
        float((targets[:, 7] <= 0.5).mean()) if some else None,
        dict(sorted(Counter(sentence for n in numbers for sentence in n.sentences).items())),
    )


def _spread(values: Iterable[float]) -> Spread | None:
    known = list(values)
    return (float(min(known)), float(np.mean(known)), float(max(known))) if known else None
