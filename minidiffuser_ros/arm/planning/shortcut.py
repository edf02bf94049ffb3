"""A shorter path of the same ends: straight pieces in place of detours, wherever they are free."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.arm.planning.rrt_connect import EdgeFree

Array = NDArray[np.float64]

LEAST_GAIN = 0.02  # of the piece's length: a smaller one is not worth its check


def shorten(path: Array, edge_free: EdgeFree, tries: int, rng: np.random.Generator) -> Array:
    """A path [M, 7] along straight joint segments, no longer than `path` [N, 7]; the same ends.

    First corners are left out, then pieces between places drawn along the path are replaced, `tries` times.
    """
    path = _without_corners(path, edge_free)
    for _ in range(tries):
        if len(path) < 3:
            break
        path = _replace_piece(path, edge_free, rng)
    return path


def length_of(path: Array) -> float:
    """Sum of its segments' lengths in rad."""
    return float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())


def _without_corners(path: Array, edge_free: EdgeFree) -> Array:
    """From each place on to the farthest one that can be seen from it."""
    kept = [0]
    while kept[-1] < len(path) - 1:
        here, ahead = kept[-1], len(path) - 1
        while ahead > here + 1 and not edge_free(path[here], path[ahead]):
            ahead = (here + ahead) // 2 if ahead > here + 2 else here + 1
        kept.append(ahead)
    return path[kept]


def _replace_piece(path: Array, edge_free: EdgeFree, rng: np.random.Generator) -> Array:
    lengths = np.linalg.norm(np.diff(path, axis=0), axis=1)
    ends = np.concatenate([[0.0], np.cumsum(lengths)])
    first, second = np.sort(rng.uniform(0.0, ends[-1], 2))
    (i, a), (j, b) = _place(path, ends, first), _place(path, ends, second)
    straight = float(np.linalg.norm(b - a))
    if i == j or straight > (1.0 - LEAST_GAIN) * (second - first) or not edge_free(a, b):
        return path
    return np.concatenate([path[: i + 1], a[None], b[None], path[j + 1 :]])


def _place(path: Array, ends: Array, along: float) -> tuple[int, Array]:
    """The segment in which a place lies, and the place."""
    segment = min(int(np.searchsorted(ends, along, side="right")) - 1, len(path) - 2)
    share = (along - ends[segment]) / max(float(ends[segment + 1] - ends[segment]), 1e-12)
    return segment, path[segment] + share * (path[segment + 1] - path[segment])
