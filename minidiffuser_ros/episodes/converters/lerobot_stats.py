"""Statistics of a LeRobot dataset: of each episode, and of all from those.

As LeRobot computes them: minimum, maximum, mean, standard deviation, count and five quantiles; of numbers per entry,
of pictures per channel with shape [C, 1, 1] and in [0, 1], of depth in its own counts; from some of the frames and
pixels of pictures. Quantiles of several episodes are the lowest (up to the median) or highest of theirs, which bound
the true ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Stats = dict[str, Array]

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
LOWER = ("q01", "q10", "q50")
PIXEL_STEP_AT = 150  # a picture is sampled to about this many pixels a side


def stats_of(values: NDArray[Any]) -> Stats:
    """Of numbers [N, D], or of the pixels [N, H, W, C] of N pictures."""
    pictures = values.ndim == 4
    rows = values.reshape(-1, values.shape[-1]).astype(np.float64)
    found = {"min": rows.min(axis=0), "max": rows.max(axis=0), "mean": rows.mean(axis=0), "std": rows.std(axis=0)}
    for name, value in zip(QUANTILES, np.quantile(rows, list(QUANTILES.values()), axis=0), strict=True):
        found[name] = value
    if pictures:
        found = {name: value[:, None, None] for name, value in found.items()}
    return {**found, "count": np.array([len(values)], np.int64)}


def sampled(picture: NDArray[Any]) -> NDArray[Any]:
    """Every few pixels of a picture [H, W] or [H, W, C], as [h, w, C]."""
    step = max(1, max(picture.shape[:2]) // PIXEL_STEP_AT)
    small = picture[::step, ::step]
    return small[..., None] if small.ndim == 2 else small


def together(parts: Sequence[Mapping[str, Stats]]) -> dict[str, Stats]:
    """Statistics of all episodes from those of each."""
    return {feature: _merged([part[feature] for part in parts]) for feature in parts[0]}


def _merged(parts: Sequence[Stats]) -> Stats:
    counts = np.array([part["count"][0] for part in parts], np.float64)
    shares = (counts / counts.sum()).reshape(-1, *[1] * parts[0]["mean"].ndim)
    stacked = {name: np.stack([part[name] for part in parts]) for name in parts[0]}
    mean = (stacked["mean"] * shares).sum(axis=0)
    variance = ((stacked["std"] ** 2 + (stacked["mean"] - mean) ** 2) * shares).sum(axis=0)
    merged = {
        "min": stacked["min"].min(axis=0),
        "max": stacked["max"].max(axis=0),
        "mean": mean,
        "std": np.sqrt(variance),
        "count": stacked["count"].sum(axis=0),
    }
    return merged | {q: stacked[q].min(axis=0) if q in LOWER else stacked[q].max(axis=0) for q in QUANTILES}


def plain(stats: Mapping[str, Stats]) -> dict[str, dict[str, Any]]:
    """As lists, for JSON."""
    return {feature: {name: value.tolist() for name, value in found.items()} for feature, found in stats.items()}


def from_plain(stats: Mapping[str, Mapping[str, Any]]) -> dict[str, Stats]:
    """Inverse of `plain`."""
    return {feature: {name: np.array(value) for name, value in found.items()} for feature, found in stats.items()}
