"""Prune, then reuse: what stands in for a branch that is not computed (SAG, eq. 12 and 13).

A branch's output d is added to the stream: h += d. Where it is pruned, h += tau with what the buffer holds. Eq. 12 and
13 add and keep the same thing, (1 - M) d + M tau.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, reduce
from itertools import groupby
from operator import itemgetter

import torch
from torch import Tensor

from minidiffuser_ros.model.neck import BlockExecutor, Branch
from minidiffuser_ros.pruning.units import PrunableUnits, kind_of


class ActivationCache:
    """The outputs computed last: one buffer for all branches of a kind, across blocks and steps ("one for all").

    Not `shared`, for comparison: one for each branch. Buffers begin at zero: a branch that is pruned before any was
    computed adds nothing.
    """

    def __init__(self, shared: bool = True) -> None:
        self._key: Callable[[str], str] = kind_of if shared else str
        self._buffers: dict[str, Tensor] = {}
        self._sums: dict[tuple[str, ...], Tensor | None] = {}

    def get(self, name: str) -> Tensor | None:
        """What a pruned branch of this name adds; None for nothing."""
        return self._buffers.get(self._key(name))

    def put(self, name: str, output: Tensor) -> None:
        """Keep what a branch of this name has just added."""
        self._buffers[self._key(name)] = output
        self._sums.clear()

    def sum_of(self, names: tuple[str, ...]) -> Tensor | None:
        """What pruned branches of these names add together; added up once until something else is kept."""
        if names not in self._sums:
            kept = [buffer for buffer in map(self.get, names) if buffer is not None]
            self._sums[names] = reduce(torch.add, kept) if kept else None
        return self._sums[names]


def prune_then_reuse(units: PrunableUnits, pruned: Sequence[bool], cache: ActivationCache) -> BlockExecutor:
    """An executor for one step: `pruned` [U] branches are not computed.

    Branches that are reused one after the other are added together, where the first of them stands: what a pruned step
    still costs is then a lookup a branch and an addition.
    """
    reused = _runs(units.names, tuple(pruned))

    def execute(name: str, stream: Tensor, branch: Branch) -> Tensor:
        run = reused.get(name)
        if run is None:
            output = branch(stream)
            cache.put(name, output)
            return stream + output
        kept = cache.sum_of(run) if run else None
        return stream if kept is None else stream + kept

    return execute


@lru_cache(maxsize=1024)  # a mask's steps are much alike, and a pruned step is short
def _runs(names: tuple[str, ...], pruned: tuple[bool, ...]) -> dict[str, tuple[str, ...]]:
    """Of each pruned branch those that are reused with it: the first of a run has them all, the others none."""
    found: dict[str, tuple[str, ...]] = {}
    for reuse, group in groupby(zip(names, pruned, strict=True), key=itemgetter(1)):
        if reuse:
            run = tuple(name for name, _ in group)
            found |= dict.fromkeys(run, ()) | {run[0]: run}
    return found


def gated(units: PrunableUnits, gates: Tensor, cache: ActivationCache) -> BlockExecutor:
    """The same with gradients, for gates [B, U] in [0, 1] of many observations, 1 = reuse: every branch is computed."""
    columns = dict(zip(units.names, gates.unbind(-1), strict=True))

    def execute(name: str, stream: Tensor, branch: Branch) -> Tensor:
        output = branch(stream)
        gate = columns[name].view(-1, *[1] * (output.ndim - 1)).to(output.dtype)
        kept = cache.get(name)
        output = (1.0 - gate) * output if kept is None else torch.lerp(output, kept, gate)
        cache.put(name, output)
        return stream + output

    return execute


def pruned_steps(units: PrunableUnits, mask: Tensor, shared: bool = True) -> Iterator[BlockExecutor]:
    """One executor after the other for the steps of a walk, by a mask [K, U]; what they keep lasts for the walk.

    Raises ConfigurationError for a mask of other units.
    """
    units.require_mask(mask)
    cache = ActivationCache(shared)
    return (prune_then_reuse(units, pruned, cache) for pruned in mask.tolist())


def gated_steps(units: PrunableUnits, gates: Tensor, shared: bool = True) -> Iterator[BlockExecutor]:
    """The same with gradients, by gates [B, K, U]."""
    cache = ActivationCache(shared)
    return (gated(units, step, cache) for step in gates.unbind(1))


def recorded_steps(outputs: list[dict[str, Tensor]], steps: int) -> Iterator[BlockExecutor]:
    """Executors that compute everything and put what each branch of each step adds into `outputs`."""

    def executor(kept: dict[str, Tensor]) -> BlockExecutor:
        def execute(name: str, stream: Tensor, branch: Branch) -> Tensor:
            kept[name] = branch(stream)
            return stream + kept[name]

        return execute

    outputs.extend({} for _ in range(steps))
    return map(executor, outputs[-steps:])
