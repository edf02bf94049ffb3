"""Schedules that do not look at the observation."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.pruning.schedules import (
    block_adaptive_schedule,
    evenly_computed,
    fixed_schedule,
    late_computed,
    random_schedule,
    uniform_schedule,
    updates_by_similarity,
)
from minidiffuser_ros.pruning.units import PrunableUnits

UNITS = PrunableUnits(("0.attention", "0.mlp", "1.attention", "1.mlp"), 12)


def test_a_uniform_schedule_computes_everything_at_every_seventh_step_and_nothing_between():
    mask = uniform_schedule(UNITS, 7)
    assert (~mask).all(1).nonzero().flatten().tolist() == [0, 7]
    assert mask[1:7].all()


@pytest.mark.parametrize(("rate", "computed"), [(0.91, [11]), (0.75, [0, 6, 11]), (0.5, [0, 2, 4, 7, 9, 11])])
def test_evenly_computed_steps_end_with_the_last(rate: float, computed: list[int]):
    mask = evenly_computed(UNITS, rate)
    found = (~mask).all(1).nonzero().flatten().tolist()
    assert found == computed
    assert mask.sum() == (12 - len(found)) * 4


@pytest.mark.parametrize(
    ("lateness", "computed"), [(1.0, [0, 4, 7, 11]), (2.0, [0, 6, 10, 11]), (math.inf, [0, 9, 10, 11])]
)
def test_late_steps_lie_denser_towards_the_end(lateness: float, computed: list[int]):
    assert (~late_computed(UNITS, 2 / 3, lateness)).all(1).nonzero().flatten().tolist() == computed


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.5, 0.91])
@pytest.mark.parametrize("lateness", [1.0, 1.4, 3.0, math.inf])
def test_however_late_as_many_steps_are_computed(rate: float, lateness: float):
    mask = late_computed(UNITS, rate, lateness)
    assert mask.sum() == evenly_computed(UNITS, rate).sum()
    assert not mask[-1].any()


def test_a_schedule_that_leans_to_the_beginning_is_refused():
    with pytest.raises(ConfigurationError, match=r"lateness must be at least 1, got 0\.5"):
        late_computed(UNITS, 0.5, 0.5)


@pytest.mark.parametrize("rate", [0.0, 0.5, 0.91, 1.0])
def test_a_random_schedule_has_exactly_the_rate_and_follows_its_seed(rate: float):
    first, again, other = (random_schedule(UNITS, rate, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert int(first.sum()) == round(rate * 48)
    assert torch.equal(first, again)
    assert rate in (0.0, 1.0) or not torch.equal(first, other)


def test_a_fixed_schedule_reuses_what_is_likeliest_to_be_reused():
    probability = torch.rand(UNITS.shape, generator=torch.Generator().manual_seed(0))
    mask = fixed_schedule(probability, 0.75)
    assert int(mask.sum()) == 36
    assert probability[mask].min() > probability[~mask].max()


@pytest.mark.parametrize("updates", [1, 2, 4, 7])
def test_steps_of_computation_are_the_best_of_all_choices(updates: int):
    steps = 7
    noise = torch.randn(steps, 5, generator=torch.Generator().manual_seed(updates)).cumsum(0)
    similarity = torch.nn.functional.cosine_similarity(noise[:, None], noise[None], dim=-1)

    def total(computed: tuple[int, ...]) -> float:
        source = [max(c for c in computed if c <= step) for step in range(steps)]
        return float(sum(similarity[s, step] for step, s in enumerate(source)))

    best = max(total((0, *rest)) for rest in itertools.combinations(range(1, steps), updates - 1))
    mask = updates_by_similarity(similarity, updates)
    chosen = tuple((~mask).nonzero().flatten().tolist())
    assert len(chosen) == updates
    assert chosen[0] == 0
    assert total(chosen) == pytest.approx(best, abs=1e-5)


def test_what_feeds_a_badly_reused_mlp_is_computed_where_the_mlp_is():
    generator = torch.Generator().manual_seed(3)
    outputs = torch.randn(4, 12, 6, generator=generator).cumsum(1)
    similarity = torch.nn.functional.cosine_similarity(outputs[:, :, None], outputs[:, None], dim=-1)
    alone = block_adaptive_schedule(UNITS, similarity, updates=3, refreshed=0)
    refreshed = block_adaptive_schedule(UNITS, similarity, updates=3, refreshed=2)
    assert (~alone).sum(0).tolist() == [3, 3, 3, 3]
    assert not (refreshed[:, :3] & ~refreshed[:, 3:]).any(), "an input of the last MLP is reused where that is computed"
    assert (refreshed & ~alone).sum() == 0
    assert refreshed.sum() < alone.sum()


def test_a_schedule_that_cannot_be_is_refused_with_a_sentence():
    with pytest.raises(ConfigurationError, match=r"updates must lie in 1 \.\.\. 5, got 6"):
        updates_by_similarity(torch.eye(5), 6)
    with pytest.raises(ConfigurationError, match="interval must be at least 1, got 0"):
        uniform_schedule(UNITS, 0)
    with pytest.raises(ConfigurationError, match="names of their own"):
        PrunableUnits(("a.mlp", "a.mlp"), 3)
