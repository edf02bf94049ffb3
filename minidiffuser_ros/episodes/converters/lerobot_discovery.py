"""Keyposes of a dataset that does not note them: discovered in the arm's motion, as in a recorded episode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.contract.errors import EpisodeError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.episodes.converters import lerobot_format as lerobot
from minidiffuser_ros.episodes.keyposes import episode_keyposes
from minidiffuser_ros.episodes.samples import views_before
from minidiffuser_ros.episodes.traces import Traces
from minidiffuser_ros.perception.streams import SECOND_NS


def discovered_steps(numbers: Mapping[str, NDArray[Any]], fps: float) -> tuple[list[int], list[Keypose]]:
    """The frames in which the arm stands before each keypose, and the keyposes; the last is repeated.

    numbers: columns of an episode. Raises EpisodeError where nothing happens or its times do not ascend.
    """
    state = numbers[lerobot.STATE].astype(np.float64)
    times_ns = _times_ns(numbers, fps)
    if len(times_ns) < 2 or (np.diff(times_ns) <= 0).any():
        raise EpisodeError("its frames' times must ascend, and there must be two of them")
    tool, opening = numbers[lerobot.TOOL].astype(np.float64), np.clip(state[:, 7], 0.0, 1.0)
    traces = Traces(times_ns, state[:, :7], None, opening, tool, np.full(len(state), np.nan))
    keyposes = episode_keyposes(traces)
    views = views_before([keypose.index for keypose in keyposes], traces)
    steps = [int(np.searchsorted(times_ns, view.not_after_ns, side="right")) - 1 for view in views]
    targets = [keypose.keypose for keypose in keyposes]
    return steps, [*targets, targets[-1]]


def _times_ns(numbers: Mapping[str, NDArray[Any]], fps: float) -> NDArray[np.int64]:
    """[N] when each frame was taken: by its stamp, its timestamp in seconds, or its number."""
    if lerobot.STAMP in numbers and (np.diff(numbers[lerobot.STAMP]) > 0).all():
        return numbers[lerobot.STAMP].astype(np.int64)
    seconds = numbers.get("timestamp", np.arange(len(numbers[lerobot.STATE])) / fps)
    return np.round(seconds.astype(np.float64) * SECOND_NS).astype(np.int64)
