"""Intervals of success rates and of their differences."""

import math

import numpy as np
import pytest

from minidiffuser_ros.evaluation.statistics import mean_interval, paired_difference_interval, wilson_interval


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


def test_an_interval_of_a_difference_holds_the_true_one_as_often_as_it_says() -> None:
    # Summed over everything that 30 paired trials can give, with both rates at 0.85 and 0.75.
    trials, only_first, only_second = 30, 0.15, 0.05
    covered = 0.0
    for lost in range(trials + 1):
        for won in range(trials + 1 - lost):
            same = trials - lost - won
            ways = math.comb(trials, lost) * math.comb(trials - lost, won)
            chance = ways * only_first**lost * only_second**won * (1 - only_first - only_second) ** same
            low, high = paired_difference_interval(lost, won, trials)
            covered += chance * (low <= only_second - only_first <= high)
    assert 0.94 < covered < 0.98


def test_two_that_never_differ_may_still_differ_by_a_little_and_swapping_them_swaps_the_interval() -> None:
    low, high = paired_difference_interval(0, 0, 50)
    assert low == -high
    assert 0.0 < high < 0.06
    assert paired_difference_interval(4, 1, 20) == tuple(-end for end in reversed(paired_difference_interval(1, 4, 20)))


def test_more_that_differ_than_there_are_trials_are_refused() -> None:
    with pytest.raises(ValueError, match="3 and 3 of 5"):
        paired_difference_interval(3, 3, 5)


def test_the_interval_of_a_mean_holds_it_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    intervals = [mean_interval(random.normal(0.3, 1.0, 8).tolist()) for _ in range(2000)]
    assert np.mean([low <= 0.3 <= high for low, high in intervals]) == pytest.approx(0.95, abs=0.015)
    assert mean_interval([0.5]) == (-math.inf, math.inf)
