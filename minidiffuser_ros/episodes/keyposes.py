"""Keyposes of an episode: where the gripper changes, where the arm stops, and where it ends.

The rule of the PerAct family (Shridhar et al. 2022; James & Davison 2022: Q-attention) in seconds instead of frames of
RLBench. What the operator marked takes its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minidiffuser_ros.contract.errors import ConfigurationError, EpisodeError, require_positive
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.episodes.gripper import GripperChange, asked_opening, gripper_changes
from minidiffuser_ros.episodes.traces import Mark, Traces
from minidiffuser_ros.geometry.rotation import angle_between_deg
from minidiffuser_ros.perception.streams import SECOND_NS

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

# Two poses closer than this are one: an arm that holds still does not do it better.
SAME_PLACE = (0.01, 5.0)  # m, degrees
MARK_TOLERANCE_S = 0.5
MAX_KEYPOSES = 500


def _seconds(default: float, description: str) -> Any:
    return field(default=default, metadata={"description": description, "unit": "s", "range": (0.01, 60.0)})


@dataclass(frozen=True)
class KeyposeSettings:
    """When the arm counts as stopped, and what belongs together; nothing depends on how often it was recorded."""

    stop_speed: float = field(
        default=0.1,
        metadata={
            "description": "every joint slower than this: the arm stands",
            "unit": "rad/s",
            "range": (0.001, 1.0),
        },
    )
    stand_s: float = _seconds(0.25, "a shorter stop is none")
    cooldown_s: float = _seconds(0.2, "a shorter motion between two stops makes them one")
    gripper_window_s: float = _seconds(0.2, "the gripper must stay as it is this long around a stop, and to be at rest")
    gripper_timeout_s: float = _seconds(2.0, "longer no change of the gripper takes")
    merge_s: float = _seconds(0.2, "two keyposes closer than this are one: the later, or the one of the gripper")
    smoothing_s: float = _seconds(0.1, "over which speeds are averaged")

    def __post_init__(self) -> None:
        require_positive(self, vars(self))
        if not self.stop_speed <= 1.0:
            raise ConfigurationError(f"an arm at {self.stop_speed} rad/s does not stand: stop_speed is at most 1 rad/s")


DEFAULT_SETTINGS = KeyposeSettings()


@dataclass(frozen=True)
class EpisodeKeypose:
    """A keypose of an episode, the sample of the traces it belongs to, and whether the operator marked it."""

    index: int
    keypose: Keypose
    marked: bool


def episode_keyposes(
    traces: Traces, marks: Sequence[Mark] = (), settings: KeyposeSettings = DEFAULT_SETTINGS
) -> list[EpisodeKeypose]:
    """The marked keyposes, or else those that are discovered; each with the opening that was asked of the gripper.

    Raises EpisodeError where nothing happens, or a mark is no pose or lies outside of the episode.
    """
    changes = gripper_changes(traces, settings.gripper_window_s, settings.gripper_timeout_s)
    asked = asked_opening(traces, changes)
    if not marks:
        indices = discover_keyposes(traces, settings)
        _bound(len(indices))
        return [
            EpisodeKeypose(int(i), _keypose(traces.tool[i, :3], traces.tool[i, 3:], asked[i]), False) for i in indices
        ]
    _bound(len(marks))
    found = []
    for mark in marks:
        index = int(np.abs(traces.times_ns - mark.stamp_ns).argmin())
        if abs(int(traces.times_ns[index]) - mark.stamp_ns) > MARK_TOLERANCE_S * SECOND_NS:
            raise EpisodeError(f"mark {mark.number} lies outside of what was recorded: undo it or record again")
        found.append(EpisodeKeypose(index, _keypose(mark.position, mark.quat_wxyz, asked[index]), True))
    return found


def discover_keyposes(traces: Traces, settings: KeyposeSettings = DEFAULT_SETTINGS) -> Indices:
    """Samples [K] of the keyposes, ascending.

    - where the gripper has come to rest after it was asked to open or close;
    - where the arm stops, once for each stop however long, as still as it gets and as late as that; not where it
      stands at the beginning, and not where the gripper changes during the stop, which tells the same pose;
    - the last sample. An arm that has not left the keypose before makes no second one of it.
    Raises EpisodeError where neither arm nor gripper moves.
    """
    speed, last = joint_speeds(traces, settings.smoothing_s), len(traces.times_ns) - 1
    changes = gripper_changes(traces, settings.gripper_window_s, settings.gripper_timeout_s)
    if not changes and all(_same_place(traces, 0, index) for index in range(0, last + 1, max(1, last // 200))):
        raise EpisodeError("neither arm nor gripper moves in it: there is no keypose to learn, discard it")
    found = {change.done: True for change in changes}
    for start, end in stands(traces, speed, settings):
        if start > 0 and not _gripper_changes_within(traces, changes, start, end, settings.gripper_window_s):
            found.setdefault(_stillest(speed, start, end), False)
    kept = _merged(traces, sorted(found.items()), settings.merge_s)
    if kept and kept[-1] != last and _unchanged(traces, changes, kept[-1], last):
        kept[-1] = last
    elif not kept or kept[-1] != last:
        near = bool(kept) and traces.seconds[last] - traces.seconds[kept[-1]] < settings.merge_s
        kept = [*(kept[:-1] if near and not found[kept[-1]] else kept), last]
    return np.array(kept, np.int64)


def joint_speeds(traces: Traces, smoothing_s: float) -> Array:
    """[N] rad/s: the fastest joint's speed, averaged over `smoothing_s`; from positions where velocities lack."""
    seconds, half = traces.seconds, 0.5 * smoothing_s
    given = traces.velocities
    # Some drivers fill in zeros.
    if given is not None and given.any():
        smooth, _ = _means(seconds, given, seconds - half, seconds + half)
        return np.asarray(np.abs(smooth).max(axis=1))
    before, before_s = _means(seconds, traces.joints, seconds - smoothing_s, seconds)
    after, after_s = _means(seconds, traces.joints, seconds, seconds + smoothing_s)
    return np.asarray((np.abs(after - before) / np.maximum(after_s - before_s, 1e-6)[:, None]).max(axis=1))


def stands(traces: Traces, speed: Array, settings: KeyposeSettings) -> list[tuple[int, int]]:
    """First and last sample of every stop.

    An arm that is led slowly is always slower than `stop_speed`: where it gets elsewhere during a stop, only a third
    of that speed counts as standing in it.
    """
    found = []
    for start, end in _stops(traces.seconds, speed < settings.stop_speed, settings):
        if all(_same_place(traces, index, end, 2.0) for index in range(start, end, max(1, (end - start) // 50))):
            found.append((start, end))
            continue
        slower = np.zeros_like(speed, dtype=bool)
        slower[start : end + 1] = speed[start : end + 1] < settings.stop_speed / 3.0
        found += _stops(traces.seconds, slower, settings) or [(start, end)]
    return found


def _stops(seconds: Array, slow: NDArray[np.bool_], settings: KeyposeSettings) -> list[tuple[int, int]]:
    """Runs that are long enough, of which those that follow each other at once are one."""
    joined: list[tuple[int, int]] = []
    for start, end in _runs(slow):
        if joined and seconds[start] - seconds[joined[-1][1]] < settings.cooldown_s:
            start = joined.pop()[0]
        joined.append((start, end))
    return [(a, b) for a, b in joined if seconds[b] - seconds[a] >= settings.stand_s]


def _means(seconds: Array, values: Array, start: Array, stop: Array) -> tuple[Array, Array]:
    """Means [N, C] of values [M, C] from `start` to `stop` [N], cut off at the ends, and the middle [N] of each."""
    start, stop = np.clip(start, seconds[0], seconds[-1]), np.clip(stop, seconds[0], seconds[-1])
    areas = 0.5 * (values[1:] + values[:-1]) * np.diff(seconds)[:, None]
    integral = np.vstack([np.zeros((1, values.shape[1])), np.cumsum(areas, axis=0)])
    length = (stop - start)[:, None]
    columns = [np.interp(stop, seconds, column) - np.interp(start, seconds, column) for column in integral.T]
    at = np.column_stack([np.interp(0.5 * (start + stop), seconds, column) for column in values.T])
    means = np.divide(np.column_stack(columns), length, out=at, where=length > 1e-9)
    return means, 0.5 * (start + stop)


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last index of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(a), int(b) - 1) for a, b in edges.reshape(-1, 2)]


def _stillest(speed: Array, start: int, end: int) -> int:
    """The last sample of a stop at which the arm is about as slow as it ever is during the stop."""
    part = speed[start : end + 1]
    return start + int(np.flatnonzero(part <= 1.5 * part.min() + 0.01)[-1])


def _gripper_changes_within(
    traces: Traces, changes: Sequence[GripperChange], start: int, end: int, window_s: float
) -> bool:
    s = traces.seconds
    return any(s[c.asked] <= s[end] + window_s and s[c.done] >= s[start] - window_s for c in changes)


def _merged(traces: Traces, found: Sequence[tuple[int, bool]], merge_s: float) -> list[int]:
    """Of keyposes (sample, whether of the gripper) that follow each other at once, one."""
    kept: list[tuple[int, bool]] = []
    for index, of_gripper in found:
        if kept and traces.seconds[index] - traces.seconds[kept[-1][0]] < merge_s:
            if kept[-1][1] and not of_gripper:
                continue
            kept.pop()
        kept.append((index, of_gripper))
    return [index for index, _ in kept]


def _unchanged(traces: Traces, changes: Sequence[GripperChange], first: int, second: int) -> bool:
    """Whether the arm is where it was, and nothing was asked of the gripper in between."""
    return _same_place(traces, first, second) and not any(first < change.asked <= second for change in changes)


def _same_place(traces: Traces, first: int, second: int, times: float = 1.0) -> bool:
    a, b = traces.tool[first], traces.tool[second]
    near = np.linalg.norm(a[:3] - b[:3]) < times * SAME_PLACE[0]
    return bool(near and angle_between_deg(a[3:], b[3:]) < times * SAME_PLACE[1])


def _bound(count: int) -> None:
    if count > MAX_KEYPOSES:
        raise EpisodeError(f"it has {count} keyposes, at most {MAX_KEYPOSES} are one task: cut it into episodes")


def _keypose(position: ArrayLike, quat_wxyz: ArrayLike, opening: float) -> Keypose:
    try:
        return Keypose(np.array(position), np.array(quat_wxyz), float(opening))
    except ConfigurationError as error:
        raise EpisodeError(f"it has a keypose that is none: {error}") from None
