"""Timing several things side by side on a noisy machine: only ratios within one round mean anything."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

from tqdm import tqdm

Key = TypeVar("Key", bound=Hashable)


def median_ratios(
    cases: Mapping[Key, Callable[[], object]], reference: Callable[[Key], Key], rounds: int
) -> dict[Key, tuple[float, float]]:
    """(median ratio to its reference case, median seconds) of each case.

    Every round times all cases once, in one order and in the next round in the other, so that neither drift nor
    what runs beside favours anybody; the first round only warms up.
    """
    seconds: dict[Key, list[float]] = {key: [] for key in cases}
    order = list(cases)
    for number in tqdm(range(rounds + 1), unit="round", leave=False):
        for key in order if number % 2 else reversed(order):
            started = time.perf_counter()
            cases[key]()
            if number:
                seconds[key].append(time.perf_counter() - started)
    return {
        key: (
            statistics.median(a / b for a, b in zip(times, seconds[reference(key)], strict=True)),
            statistics.median(times),
        )
        for key, times in seconds.items()
    }
