"""Wilson intervals."""

import pytest

from minidiffuser_ros.evaluation.statistics import wilson_interval


def test_the_interval_agrees_with_published_values() -> None:
    # Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)


def test_certainty_is_never_claimed_from_few_trials() -> None:
    low, high = wilson_interval(5, 5)
    assert high == pytest.approx(1.0)
    assert 0.5 < low < 0.6


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="6 of 5"):
        wilson_interval(6, 5)
