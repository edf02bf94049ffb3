"""When the gripper was asked for something else, and when it had done it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.episodes.traces import Traces

Array = NDArray[np.float64]

ASKED_STEP, TARGET_NOISE = 0.05, 0.01  # a smaller change of the target is none; it moves on as long as by this
MOVED = 0.1  # of the measured opening: less is noise, or a finger that gives way
SETTLED = 0.03  # as close to where it ends counts as arrived
WIDE_OPEN = 0.8  # measured, where nothing tells what was asked


@dataclass(frozen=True)
class GripperChange:
    """Samples: `asked` is the first at which something else was asked for, at `done` the fingers had come to rest."""

    asked: int
    done: int
    opening: float


def gripper_changes(traces: Traces, window_s: float, timeout_s: float) -> list[GripperChange]:
    """Every change, in order: from what was asked where that was recorded, otherwise from the measured opening.

    A change ends when the target stays as it is for `window_s`. The fingers rest when the opening stays as it is for
    as long; a change after which they never move is done at once, and none takes longer than `timeout_s`.
    """
    if np.isfinite(traces.gripper_target).any():
        return _asked_changes(traces, window_s, timeout_s)
    return _measured_changes(traces)


def asked_opening(traces: Traces, changes: list[GripperChange]) -> Array:
    """[N] the opening asked for in [0, 1]; measured openings alone tell only closed from open."""
    known = np.isfinite(traces.gripper_target)
    if known.any():
        first = _snapped(float(traces.gripper_target[known.argmax()]))
    elif changes:
        first = 1.0 - round(changes[0].opening)
    else:
        first = float(traces.opening[0] > 0.5)
    asked = np.full(len(traces.times_ns), first)
    for change in changes:
        asked[change.asked :] = change.opening
    return asked


def _snapped(opening: float) -> float:
    """Before its first command the arm node tells what it measures, which is never quite open."""
    return 0.0 if opening < SETTLED else 1.0 if opening > 1.0 - SETTLED else opening


def _asked_changes(traces: Traces, window_s: float, timeout_s: float) -> list[GripperChange]:
    seconds, known = traces.seconds, np.isfinite(traces.gripper_target)
    # Before the first target counts as the first one.
    target = np.where(known, traces.gripper_target, traces.gripper_target[known.argmax()])
    spans: list[tuple[int, int]] = []
    before, index = target[0], 0
    while len(away := np.flatnonzero(np.abs(target[index:] - before) > ASKED_STEP)):
        start = end = index + int(away[0])
        while True:
            ahead = target[end : int(np.searchsorted(seconds, seconds[end] + window_s, side="right"))]
            if np.ptp(ahead) <= TARGET_NOISE:
                break
            end += 1
        if abs(target[end] - before) > ASKED_STEP:
            spans.append((start, end))
        before, index = target[end], end
    limits = [start for start, _ in [*spans, (len(seconds), 0)]][1:]
    return [
        GripperChange(start, _rest(traces, end, limit, window_s, timeout_s), _snapped(float(target[end])))
        for (start, end), limit in zip(spans, limits, strict=True)
    ]


def _rest(traces: Traces, asked: int, limit: int, window_s: float, timeout_s: float) -> int:
    """The sample in [asked, limit) at which the fingers have come to rest after what was asked at `asked`."""
    seconds, opening = traces.seconds, traces.opening
    stop = min(limit, int(np.searchsorted(seconds, seconds[asked] + timeout_s, side="right")))
    part = opening[asked:stop]
    away = np.abs(part - part[0]) > SETTLED
    if not away.any():
        return asked
    for index in range(asked + int(away.argmax()), stop):
        ahead = opening[index : int(np.searchsorted(seconds, seconds[index] + window_s, side="right"))]
        if np.ptp(ahead) <= SETTLED:
            return index
    return stop - 1


def _measured_changes(traces: Traces) -> list[GripperChange]:
    """From one turning point of the opening to the next."""
    opening, changes = traces.opening, []
    turns = _turning_points(opening)
    for start, end in pairwise(turns):
        way = opening[start : end + 1]
        left = int(np.flatnonzero(np.abs(way - way[0]) <= SETTLED)[-1])
        arrived = left + int((np.abs(way[left:] - way[-1]) <= SETTLED).argmax())
        wide = 1.0 if way[-1] > WIDE_OPEN else float(way[-1])
        changes.append(GripperChange(start + left, start + arrived, wide if way[-1] > way[0] else 0.0))
    return changes


def _turning_points(values: Array) -> list[int]:
    """Where the values turn, at least MOVED apart, with first and last extreme: noise, however long, makes none."""
    low = high = 0
    for index, value in enumerate(values):
        low, high = (index if value < values[low] else low), (index if value > values[high] else high)
        if values[high] - values[low] > MOVED:
            break
    else:
        return []
    rises = low < high
    turns, extreme = [min(low, high)], max(low, high)
    for index in range(extreme + 1, len(values)):
        ahead = values[index] - values[extreme] if rises else values[extreme] - values[index]
        if ahead > 0:
            extreme = index
        elif ahead < -MOVED:
            turns.append(extreme)
            extreme, rises = index, not rises
    return [*turns, extreme]
