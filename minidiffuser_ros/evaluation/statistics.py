"""Success rates, and their differences, with intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from scipy.special import stdtrit

Z_95 = 1.959964


def wilson_interval(successes: int, trials: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927); sound also at 0 and 1 and for few trials."""
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"successes must lie between 0 and trials >= 1, got {successes} of {trials}")
    share = successes / trials
    denominator = 1.0 + z**2 / trials
    center = (share + z**2 / (2 * trials)) / denominator
    half = z * math.sqrt(share * (1.0 - share) / trials + z**2 / (4 * trials**2)) / denominator
    return max(0.0, center - half), min(1.0, center + half)


def paired_difference_interval(lost: int, won: int, trials: int, z: float = Z_95) -> tuple[float, float]:
    """Interval of the difference of two success rates over the same trials (Agresti and Min 2005, sec. 3.2).

    lost, won: trials in which only the first, or only the second succeeded; the difference is the second's rate minus
    the first's. Wald's interval with half a trial more in each of the four cells: sound also where nothing differs.
    """
    if not (lost >= 0 and won >= 0 and trials >= max(1, lost + won)):
        raise ValueError(f"lost and won must be parts of trials >= 1, got {lost} and {won} of {trials}")
    total, sure = trials + 2.0, (lost + won) + 1.0
    difference = (won - lost) / total
    half = z * math.sqrt(sure - (won - lost) ** 2 / total) / total
    return max(-1.0, difference - half), min(1.0, difference + half)


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Student's interval of a mean, such as that of differences over the same trials; infinite for a single value."""
    if len(values) < 2:
        return -math.inf, math.inf
    mean, spread = statistics.fmean(values), statistics.stdev(values)
    half = float(stdtrit(len(values) - 1, 0.5 + confidence / 2)) * spread / math.sqrt(len(values))
    return mean - half, mean + half
