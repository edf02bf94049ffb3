"""Schedules that do not look at the observation: what SAG is held against. All are masks [K, U], True = reuse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.pruning.units import PrunableUnits


def everything_computed(units: PrunableUnits) -> Tensor:
    """Prune nothing."""
    return torch.zeros(units.shape, dtype=torch.bool)


def uniform_schedule(units: PrunableUnits, interval: int) -> Tensor:
    """Compute all branches at every `interval`-th step from the first on, reuse in between (EfficientVLA)."""
    if interval < 1:
        raise ConfigurationError(f"interval must be at least 1, got {interval}")
    return (torch.arange(units.steps) % interval != 0).unsqueeze(1).expand(units.shape).clone()


def evenly_computed(units: PrunableUnits, rate: float) -> Tensor:
    """All branches computed at steps spread evenly over the walk, the last among them, so that about `rate` is reused.

    The last step counts most: what it says is where the walk ends.
    """
    return late_computed(units, rate, 1.0)


def late_computed(units: PrunableUnits, rate: float, lateness: float) -> Tensor:
    """As `evenly_computed`, at steps that lie the denser towards the end the larger lateness is, from 1 on.

    The i-th of n computed steps, counted from the last, lies (i / (n - 1))^lateness of the walk before it. Infinite:
    the first step, and the last n - 1.
    """
    if lateness < 1.0:
        raise ConfigurationError(f"lateness must be at least 1, got {lateness}")
    count, last = max(1, round((1.0 - rate) * units.steps)), units.steps - 1
    wanted = (last * (1.0 - torch.linspace(0.0, 1.0, count, dtype=torch.float64) ** lateness)).round().long().tolist()
    computed = [last]
    for step in wanted[1:]:
        computed.append(min(step, computed[-1] - 1))
    mask = torch.ones(units.shape, dtype=torch.bool)
    mask[computed] = False
    return mask


def random_schedule(units: PrunableUnits, rate: float, generator: torch.Generator) -> Tensor:
    """Exactly a share `rate` of all units, drawn at random."""
    total = units.steps * len(units.names)
    mask = torch.zeros(total, dtype=torch.bool)
    mask[torch.randperm(total, generator=generator)[: round(rate * total)]] = True
    return mask.view(units.shape)


def fixed_schedule(reuse_probability: Tensor, rate: float) -> Tensor:
    """The share `rate` of units that are likeliest to be reused, by the mean probability [K, U] over observations."""
    flat = reuse_probability.flatten()
    mask = torch.zeros(len(flat), dtype=torch.bool)
    mask[flat.argsort(descending=True, stable=True)[: round(rate * len(flat))]] = True
    return mask.view(reuse_probability.shape)


def updates_by_similarity(similarity: Tensor, updates: int) -> Tensor:
    """Steps [K], True = reuse, at which one branch keeps what it computed last, with so many computations in all.

    similarity [K, K]: of its output at step i to that at step j. The first step is computed; the others are chosen by
    dynamic programming so that the sum of similarities between every step and the one it reuses is largest (BAC).
    """
    steps = len(similarity)
    if not 1 <= updates <= steps:
        raise ConfigurationError(f"updates must lie in 1 ... {steps}, got {updates}")
    # gain[i, j]: of computing at i and reusing until before j.
    gain = torch.full((steps, steps + 1), float("-inf"), dtype=torch.float64)
    for i in range(steps):
        gain[i, i + 1 :] = similarity[i, i:].double().cumsum(0)
    best = torch.full((updates + 1, steps + 1), float("-inf"), dtype=torch.float64)
    best[0, 0] = 0.0
    came_from = torch.zeros(updates + 1, steps + 1, dtype=torch.long)
    for count in range(1, updates + 1):
        values = best[count - 1, :steps].unsqueeze(1) + gain
        best[count], came_from[count] = values.max(0)
    mask, end = torch.ones(steps, dtype=torch.bool), steps
    for count in range(updates, 0, -1):
        end = int(came_from[count, end])
        mask[end] = False
    return mask


def similarity_of(units: PrunableUnits, outputs: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """Cosine similarity [U, K, K] of what each branch adds at one step to what it adds at another, of one walk.

    outputs: of every step, by branch (`reuse.recorded_steps`).
    """
    tables = []
    for name in units.names:
        flat = F.normalize(torch.stack([step[name].flatten().float() for step in outputs]), dim=-1)
        tables.append(flat @ flat.T)
    return torch.stack(tables)


def block_adaptive_schedule(units: PrunableUnits, similarity: Tensor, updates: int = 10, refreshed: int = 5) -> Tensor:
    """Block-wise adaptive caching (BAC): a schedule for each branch, and errors kept from surging through the MLPs.

    similarity [U, K, K] of the outputs of each branch between steps. The `refreshed` MLPs whose outputs are reused
    worst drive all branches before them: where such an MLP is computed, what feeds it is computed as well.
    """
    columns = [updates_by_similarity(table, updates) for table in similarity]
    kinds = units.kinds
    loss = [
        (float(_reused_similarity(table, column)), index)
        for index, (table, column) in enumerate(zip(similarity, columns, strict=True))
        if kinds[index] == "mlp"
    ]
    for _, index in sorted(loss)[:refreshed]:
        for upstream in range(index):
            columns[upstream] = columns[upstream] & columns[index]
    return torch.stack(columns, dim=1)


def _reused_similarity(similarity: Tensor, reused: Tensor) -> Tensor:
    """Mean similarity of every step's output to the one that stands in for it."""
    steps = torch.arange(len(reused))
    source = torch.where(reused, torch.zeros_like(steps), steps).cummax(0).values
    return similarity[source, steps].mean()
