"""Success rates with intervals."""

from __future__ import annotations

import math

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
