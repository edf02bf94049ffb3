"""Two-level minibatches: M independent noisings of each of B targets, and the loss over all of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small import CONFIG, SPEC, small_data

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.diffusion.schedule import NoiseSchedule, ScheduleConfig
from minidiffuser_ros.policy.inputs import PositionScale
from minidiffuser_ros.training.config import TrainingConfig
from minidiffuser_ros.training.objective import regression_loss
from minidiffuser_ros.training.two_level import TwoLevelSampler, draw_level_two, noised_targets

SCHEDULE = NoiseSchedule(ScheduleConfig())


def sampler(config: TrainingConfig = CONFIG) -> TwoLevelSampler:
    return TwoLevelSampler(small_data(), SCHEDULE, PositionScale(SPEC), config)


def test_every_sample_is_its_own_observations_target_noised_on_its_own() -> None:
    targets = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    timesteps, noise = draw_level_two(SCHEDULE, 4, 500, torch.Generator().manual_seed(1))
    noised = noised_targets(SCHEDULE, targets, timesteps, noise)
    torch.testing.assert_close(noised.target, targets.unsqueeze(1).expand(4, 500, 3))
    _, implied = SCHEDULE.split(noised.target, noised.noisy, timesteps)
    early = timesteps > 0
    torch.testing.assert_close(implied[early], noise[early], atol=1e-3, rtol=1e-3)
    # independent between samples and observations: no pair of noise vectors is the same, steps cover the range
    assert len(torch.unique(noise.flatten(0, 1), dim=0)) == 2000
    assert timesteps.min() < 5
    assert timesteps.max() > 94
    assert abs(float(noise.mean())) < 0.05
    assert abs(float(noise.std()) - 1.0) < 0.05


def test_a_batch_holds_b_observations_and_m_noised_targets_of_each() -> None:
    batch = sampler().batch(0)
    assert batch.observed.positions.shape == (CONFIG.batch_size, 3)
    assert batch.noised.noisy.shape == (CONFIG.batch_size, CONFIG.num_samples, 3)
    assert batch.head_positions.shape == (CONFIG.batch_size, CONFIG.head_samples, 3)
    expected = PositionScale(SPEC).normalise(batch.observed.positions).unsqueeze(1)
    torch.testing.assert_close(batch.noised.target, expected.expand_as(batch.noised.target))


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    first = sampler().batch(3).tensors()
    again, other_step = sampler().batch(3).tensors(), sampler().batch(4).tensors()
    other_seed = sampler(replace(CONFIG, seed=1)).batch(3).tensors()
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    for other in (other_step, other_seed):
        assert not torch.equal(first["noise"], other["noise"])
        assert not torch.equal(first["positions"], other["positions"])


def test_the_parts_of_a_batch_that_processes_take_make_up_the_whole() -> None:
    whole, parts = sampler().batch(2), [sampler().batch(2, rows) for rows in (range(2), range(2, 4))]
    for name in (
        "positions",
        "bins",
        "quats_wxyz",
        "openings",
        "tool_position",
        "noisy",
        "timesteps",
        "head_positions",
    ):
        assert torch.equal(whole.tensors()[name], torch.cat([part.tensors()[name] for part in parts])), name
    points = torch.cat([part.observed.inputs.points for part in parts])
    assert torch.equal(whole.observed.inputs.points, points)


@pytest.mark.parametrize(("loss", "power"), [("l1", 1), ("l2", 2)])
def test_the_loss_is_the_mean_over_all_pairs_of_observation_and_sample(loss: str, power: int) -> None:
    generator = torch.Generator().manual_seed(0)
    prediction, target = (torch.randn(3, 5, 3, generator=generator) for _ in range(2))
    by_hand = sum(
        float(abs(prediction[i, j, axis] - target[i, j, axis]) ** power) / 3
        for i in range(3) for j in range(5) for axis in range(3)
    ) / (3 * 5)  # fmt: skip
    assert float(regression_loss(prediction, target, loss)) == pytest.approx(by_hand, rel=1e-5)  # type: ignore[arg-type]


def test_settings_that_make_no_sense_are_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="num_samples must be at least 1, got 0"):
        TrainingConfig(num_samples=0)
    with pytest.raises(ConfigurationError, match="loss must be one of l1, l2, got 'huber'"):
        TrainingConfig(loss="huber")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="seed must be at least 0, got -1"):
        TrainingConfig(seed=-1)
