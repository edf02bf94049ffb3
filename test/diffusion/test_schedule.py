"""The forward process and the algebra around it."""

from __future__ import annotations

import math

import pytest
import torch

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.diffusion.schedule import NoiseSchedule, ScheduleConfig

SCHEDULES = [
    *(
        ScheduleConfig(beta_schedule=beta, prediction_type=kind)  # type: ignore[arg-type]
        for beta in ("scaled_linear", "squaredcos_cap_v2")
        for kind in ("epsilon", "sample", "v_prediction")
    ),
    ScheduleConfig(beta_schedule="scaled_linear", prediction_type="v_prediction", rescale_betas_zero_snr=True),
    ScheduleConfig(beta_schedule="flow_matching", prediction_type="flow_prediction"),
    ScheduleConfig(beta_schedule="flow_matching", prediction_type="sample"),
]


def name(config: ScheduleConfig) -> str:
    return f"{config.beta_schedule}{'-zero_snr' * config.rescale_betas_zero_snr}-{config.prediction_type}"


@pytest.mark.parametrize("config", SCHEDULES, ids=name)
def test_splitting_the_true_target_gives_original_and_noise_back(config: ScheduleConfig) -> None:
    schedule, g = NoiseSchedule(config), torch.Generator().manual_seed(0)
    original, noise = torch.randn(50, 3, generator=g), torch.randn(50, 3, generator=g)
    steps = torch.randint(90, (50,), generator=g)  # the very last steps of the cosine amplify rounding
    noisy = schedule.add_noise(original, noise, steps)
    got_original, got_noise = schedule.split(schedule.target(original, noise, steps), noisy, steps)
    torch.testing.assert_close(got_original, original, atol=2e-4, rtol=1e-3)
    torch.testing.assert_close(got_noise, noise, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("config", SCHEDULES[:7:3], ids=name)
def test_variance_is_preserved_and_the_signal_only_fades(config: ScheduleConfig) -> None:
    schedule = NoiseSchedule(config)
    signal, sigma = schedule.coefficients(torch.arange(100))
    torch.testing.assert_close(signal**2 + sigma**2, torch.ones(100, 1))
    assert (schedule.signal.diff() < 0).all()


def test_one_hundred_scaled_linear_steps_do_not_end_in_noise_and_the_others_do() -> None:
    last = {name(c): float(NoiseSchedule(c).signal[-1] ** 2) for c in SCHEDULES}
    assert last["scaled_linear-sample"] == pytest.approx(0.485, abs=2e-3)
    assert last["squaredcos_cap_v2-sample"] < 1e-4
    assert last["scaled_linear-zero_snr-v_prediction"] == last["flow_matching-sample"] == 0.0


@pytest.mark.parametrize("config", SCHEDULES, ids=name)
def test_sampling_starts_at_the_terminal_marginal_of_the_forward_process(config: ScheduleConfig) -> None:
    schedule, g = NoiseSchedule(config), torch.Generator().manual_seed(1)
    mean, spread, count = 0.3, 0.4, 40000
    data = mean + spread * torch.randn(count, 1, generator=g)
    ends = schedule.add_noise(data, torch.randn(count, 1, generator=g), torch.full((count,), 99))
    start = schedule.initial_noise((count, 1), mean, spread, g)
    tolerance = 4.0 / math.sqrt(count)
    assert float(start.mean()) == pytest.approx(float(ends.mean()), abs=2 * tolerance)
    assert float(start.std()) == pytest.approx(float(ends.std()), abs=2 * tolerance)


def test_unknown_names_and_too_few_steps_are_refused_and_the_known_names_told() -> None:
    with pytest.raises(ConfigurationError, match="'linear' is not one of scaled_linear, squaredcos_cap_v2, flow"):
        ScheduleConfig(beta_schedule="linear")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="says nothing about the original: use prediction_type sample"):
        ScheduleConfig(beta_schedule="flow_matching", prediction_type="epsilon")
    with pytest.raises(ConfigurationError, match="at least 2, got 1"):
        ScheduleConfig(num_train_timesteps=1)
    with pytest.raises(ConfigurationError, match="regression goes with prediction_type sample, got 'epsilon'"):
        ScheduleConfig(beta_schedule="regression", prediction_type="epsilon")


def test_a_regression_always_starts_from_the_same_point_and_asks_for_the_original() -> None:
    schedule, g = NoiseSchedule(ScheduleConfig(2, "regression")), torch.Generator().manual_seed(0)
    original, noise, steps = torch.randn(50, 3, generator=g), torch.randn(50, 3, generator=g), torch.tensor([0, 1] * 25)
    assert not schedule.add_noise(original, noise, steps).any()
    assert not schedule.initial_noise((50, 3), 0.3, 0.4, g).any()
    assert torch.equal(schedule.target(original, noise, steps), original)
