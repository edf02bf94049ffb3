"""The reverse process, against a denoiser that knows the answer."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.diffusion.sampler import SamplerConfig, inference_timesteps, sample
from minidiffuser_ros.diffusion.schedule import NoiseSchedule, ScheduleConfig

MODES = torch.tensor([-0.6, 0.2, 0.7])


def ideal_denoiser(schedule: NoiseSchedule) -> object:
    """E[a_0 | a_k] for data that is one of three equally likely values."""

    def denoise(noisy: Tensor, steps: Tensor) -> Tensor:
        signal, sigma = schedule.coefficients(steps)
        weights = torch.softmax(-0.5 * ((noisy - signal * MODES) / sigma) ** 2, dim=-1)
        return (weights * MODES).sum(-1, keepdim=True)

    return denoise


@pytest.mark.parametrize("beta_schedule", ["scaled_linear", "squaredcos_cap_v2", "flow_matching"])
@pytest.mark.parametrize(("kind", "steps"), [("ddim", 10), ("ddim", 100), ("ddpm", 100)])
def test_an_ideal_denoiser_reaches_every_mode_in_its_share(beta_schedule: str, kind: str, steps: int) -> None:
    schedule = NoiseSchedule(ScheduleConfig(beta_schedule=beta_schedule))  # type: ignore[arg-type]
    g = torch.Generator().manual_seed(0)
    start = schedule.initial_noise((3000, 1), float(MODES.mean()), float(MODES.std(correction=0)), g)
    config = SamplerConfig(kind, steps)  # type: ignore[arg-type]
    end = sample(ideal_denoiser(schedule), schedule, config, start, g)  # type: ignore[arg-type]
    distance, which = (end - MODES).abs().min(dim=-1)
    assert (distance < 0.02).float().mean() > 0.97
    shares = torch.bincount(which, minlength=3) / len(end)
    # scaled_linear starts from a Gaussian of the right mean and spread, not from the true three-humped marginal.
    assert ((shares - 1 / 3).abs() < 0.12).all()


def test_ddim_is_a_function_of_its_start_and_ddpm_is_not() -> None:
    schedule = NoiseSchedule(ScheduleConfig())
    start = schedule.initial_noise((200, 1), 0.0, 0.5, torch.Generator().manual_seed(0))

    def end(kind: str, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        config = SamplerConfig(kind, 20)  # type: ignore[arg-type]
        return sample(ideal_denoiser(schedule), schedule, config, start, generator)  # type: ignore[arg-type]

    assert torch.equal(end("ddim", 1), end("ddim", 2))
    assert not torch.equal(end("ddpm", 1), end("ddpm", 2))
    assert torch.equal(end("ddpm", 1), end("ddpm", 1))


@pytest.mark.parametrize("steps", [1, 3, 10, 100])
def test_every_walk_starts_at_the_noisiest_step_and_only_descends(steps: int) -> None:
    walk = inference_timesteps(100, steps)
    assert len(walk) == steps
    assert walk[0] == 99
    assert all(a > b >= 0 for a, b in itertools.pairwise(walk))


def test_more_steps_than_were_trained_or_none_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="101 inference steps exceed the 100 trained"):
        inference_timesteps(100, 101)
    with pytest.raises(ConfigurationError, match="at least 1, got 0"):
        SamplerConfig(num_inference_steps=0)
    with pytest.raises(ConfigurationError, match="'euler' is not one of ddim, ddpm"):
        SamplerConfig(kind="euler")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("beta_schedule", "steps"),
    [("squaredcos_cap_v2", 1), ("squaredcos_cap_v2", 5), ("flow_matching", 1), ("flow_matching", 2), ("regression", 1)],
)
@pytest.mark.parametrize("kind", ["ddim", "ddpm"])
def test_a_walk_of_any_length_ends_at_what_its_last_step_says(beta_schedule: str, kind: str, steps: int) -> None:
    schedule = NoiseSchedule(ScheduleConfig(beta_schedule=beta_schedule))  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(1)
    said = torch.rand(steps, 2, 3, generator=generator)
    answers = iter(said)
    config = SamplerConfig(kind, steps)  # type: ignore[arg-type]
    noisy = torch.randn(2, 3, generator=generator)
    end = sample(lambda noisy, step: next(answers), schedule, config, noisy, generator)
    torch.testing.assert_close(end, said[-1], rtol=0, atol=0)
