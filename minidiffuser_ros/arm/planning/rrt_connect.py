"""RRT-Connect: two trees of free postures, one from the start and one from the goals, that grow until they meet.

Kuffner and LaValle, "RRT-Connect: An efficient approach to single-query path planning", ICRA 2000: each round one
tree takes a step towards a random place, and the other goes as far towards the new posture as it can.

Our own, though ompl has it: its random numbers can be seeded only once a process, so that the same question would
have another answer the next time. On the scenes of benchmarks/planning.py both find the same ways in about the same
time (ompl 0.8 of ours, its paths 1.15 times as long) as long as it asks for whole edges as we do; asking posture by
posture, as its Python examples do, it takes twice as long.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
EdgeFree = Callable[[Array, Array], bool]

REACHED = 1e-9
AROUND_SHARE, AROUND_RAD = 0.5, 0.6  # of the draws, and how far they lie from the straight way


@dataclass(frozen=True)
class Search:
    """What is searched: joints within `low` to `high` [7] rad, edges of at most `step_rad`, until `give_up()`.

    edge_free(a [7], b [7]): whether the arm may move straight from a to b, where a is free.
    """

    low: Array
    high: Array
    edge_free: EdgeFree
    step_rad: float
    max_rounds: int
    give_up: Callable[[], bool]


def rrt_connect(start: Array, goals: Array, search: Search, rng: np.random.Generator) -> Array | None:
    """A free path [N, 7] from `start` [7] to one of `goals` [G, 7], all of them free; None where none was found."""
    trees = _Tree(start[None]), _Tree(goals)
    for number in range(search.max_rounds):
        if search.give_up():
            return None
        growing, other = trees if number % 2 == 0 else trees[::-1]
        grown = growing.step_towards(_draw(start, goals, search, rng), search)
        if grown is None:
            continue
        target = growing.nodes[grown]
        met = other.go_towards(target, search)
        if np.abs(other.nodes[met] - target).max() < REACHED:
            halves = growing.way_to(grown), other.way_to(met)
            first, second = halves if number % 2 == 0 else halves[::-1]
            return np.concatenate([first, second[::-1][1:]])
    return None


def _draw(start: Array, goals: Array, search: Search, rng: np.random.Generator) -> Array:
    """Anywhere, or around the straight way to one of the goals, where most ways lead along."""
    if rng.random() >= AROUND_SHARE:
        return rng.uniform(search.low, search.high)
    along = start + rng.random() * (goals[rng.integers(len(goals))] - start)
    return np.asarray(np.clip(along + rng.normal(0.0, AROUND_RAD, 7), search.low, search.high))


class _Tree:
    """Postures that can be reached from the roots."""

    def __init__(self, roots: Array) -> None:
        self._nodes = np.empty((max(256, 2 * len(roots)), 7))
        self._nodes[: len(roots)] = roots
        self._parents = [-1] * len(roots)

    @property
    def nodes(self) -> Array:
        """[N, 7]."""
        return self._nodes[: len(self._parents)]

    def step_towards(self, target: Array, search: Search) -> int | None:
        """The new posture one step from the nearest one, or None where something is in the way."""
        return self._extend(self._nearest(target), target, search)

    def go_towards(self, target: Array, search: Search) -> int:
        """The last posture on the way from the nearest one, step by step, until there or until stopped."""
        last = self._nearest(target)
        while np.abs(self._nodes[last] - target).max() >= REACHED:
            new = self._extend(last, target, search)
            if new is None:
                return last
            last = new
        return last

    def way_to(self, node: int) -> Array:
        """From the root [N, 7]."""
        way = []
        while node >= 0:
            way.append(self._nodes[node])
            node = self._parents[node]
        return np.array(way[::-1])

    def _nearest(self, target: Array) -> int:
        offsets = self.nodes - target
        return int(np.einsum("ij,ij->i", offsets, offsets).argmin())

    def _extend(self, node: int, target: Array, search: Search) -> int | None:
        begin = self._nodes[node]
        way = target - begin
        length = float(np.linalg.norm(way))
        end = target if length <= search.step_rad else begin + way * (search.step_rad / length)
        if length < REACHED or not search.edge_free(begin, end):
            return None
        if len(self._parents) == len(self._nodes):
            self._nodes = np.concatenate([self._nodes, np.empty_like(self._nodes)])
        self._nodes[len(self._parents)] = end
        self._parents.append(node)
        return len(self._parents) - 1
