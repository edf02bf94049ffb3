"""What is learned from an episode: the observation before each keypose, and the keypose."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minidiffuser_ros.contract.episode import SUCCESS
from minidiffuser_ros.contract.errors import EpisodeError, ObservationError
from minidiffuser_ros.contract.observation import Observation
from minidiffuser_ros.episodes.bag import EpisodeReader
from minidiffuser_ros.episodes.demonstration import Demonstration, demonstration_of
from minidiffuser_ros.episodes.gripper import gripper_changes
from minidiffuser_ros.episodes.keyposes import (
    DEFAULT_SETTINGS,
    KeyposeSettings,
    episode_keyposes,
    joint_speeds,
    stands,
)
from minidiffuser_ros.episodes.observing import EpisodeObserver
from minidiffuser_ros.episodes.traces import Traces
from minidiffuser_ros.perception.streams import SECOND_NS

STILL_SPEED = 0.03  # rad/s: a camera on the hand sees no blur
SETTLE_S = 1.0  # how long after a keypose the arm may take to stand
SLACK_S, START_SLACK_S = 0.2, (0.5, 1.0, 2.0)  # how far beside a view its pictures may be; at the beginning


@dataclass(frozen=True)
class View:
    """Between which stamps pictures show the scene before a keypose while the arm stands; the newest are best."""

    not_before_ns: int
    not_after_ns: int


def demonstration_from_episode(
    folder: Path | str,
    settings: KeyposeSettings = DEFAULT_SETTINGS,
    outcomes: Collection[str] = (SUCCESS,),
) -> Demonstration:
    """The demonstration in an episode's folder, with its recorded sentence.

    Each step is an observation made while the arm stood between the keypose before (or the beginning) and the next,
    as a policy makes it, and as late as that. The last step repeats the last keypose: a finished policy stays there.
    Raises EpisodeError for an episode that cannot be read, is not labelled as one of `outcomes`, or in which there is
    no keypose or no picture before one.
    """
    reader = EpisodeReader(folder)
    info = reader.info
    if info.outcome not in outcomes:
        raise EpisodeError(
            f"{folder} is labelled '{info.outcome}', learned from are episodes labelled {' or '.join(outcomes)}: "
            "label it, or leave it out"
        )
    traces = reader.traces()
    try:
        keyposes = episode_keyposes(traces, reader.marks(), settings)
    except EpisodeError as error:
        raise EpisodeError(f"{folder}: {error}") from None
    observer = EpisodeObserver(reader)
    views = views_before([k.index for k in keyposes], traces, settings)
    targets = [k.keypose for k in keyposes] + [keyposes[-1].keypose]
    steps = []
    for number, (view, target) in enumerate(zip(views, targets, strict=True), 1):
        try:
            steps.append((_look(observer, view, number == 1), target))
        except ObservationError as error:
            raise EpisodeError(f"{folder}: before keypose {number} of {len(keyposes)} there is {error}") from None
    return demonstration_of(info.task, info.variation, info.seed, (info.instruction,), steps)


def views_before(indices: list[int], traces: Traces, settings: KeyposeSettings = DEFAULT_SETTINGS) -> list[View]:
    """Views [K + 1] before each of the keyposes at samples `indices` [K], and after the last one.

    The arm stands from when it has settled at the keypose before until it departs, or until something is asked of the
    gripper. Where it does not stand within SETTLE_S, as at a keypose marked in passing, it is as slow as it gets then.
    """
    seconds, speed = traces.seconds, joint_speeds(traces, settings.smoothing_s)
    changes = gripper_changes(traces, settings.gripper_window_s, settings.gripper_timeout_s)
    still = np.zeros(len(seconds), dtype=bool)
    for start, end in stands(traces, speed, settings):
        still[start : end + 1] = True
    for change in changes:
        still[change.asked : change.done] = False
    views = []
    for before, after in zip([0, *indices], [*indices, len(seconds) - 1], strict=True):
        settled = int(np.searchsorted(seconds, seconds[before] + SETTLE_S, side="right"))
        waiting = np.flatnonzero(still[before : min(settled, after + 1)])
        if not len(waiting):
            slowest = before + int(speed[before : min(settled, after + 1)].argmin())
            views.append(View(int(traces.times_ns[before]), int(traces.times_ns[slowest])))
            continue
        first = end = before + int(waiting[0])
        while first > 0 and first <= before and still[first - 1]:
            first -= 1
        while end < after and still[end + 1]:
            end += 1
        calm = np.flatnonzero(speed[first : end + 1] < STILL_SPEED)
        end = first + int(calm[-1] if len(calm) else speed[first : end + 1].argmin())
        views.append(View(int(traces.times_ns[first]), int(traces.times_ns[end])))
    return views


def widened(view: View, first: bool) -> Iterator[View]:
    """The view, then a little more where it has no pictures; first: cameras may begin late."""
    for slack_s in (0.0, SLACK_S, *(START_SLACK_S if first else ())):
        before_ns, after_ns = round(min(slack_s, SLACK_S) * SECOND_NS), round(slack_s * SECOND_NS)
        yield View(view.not_before_ns - before_ns, view.not_after_ns + after_ns)


def _look(observer: EpisodeObserver, view: View, first: bool) -> Observation:
    """The newest observation of a view, or of a little more where it has no pictures; cameras may begin late."""
    problem = ObservationError([])
    for wider in widened(view, first):
        try:
            return observer.observe(wider.not_after_ns, wider.not_before_ns)
        except ObservationError as error:
            problem = error
    raise problem
