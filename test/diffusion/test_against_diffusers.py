"""Schedules and steps give what the `diffusers` schedulers of the same names give."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from minidiffuser_ros.diffusion.sampler import SamplerKind, reverse_coefficients
from minidiffuser_ros.diffusion.schedule import NoiseSchedule, ScheduleConfig

diffusers = pytest.importorskip("diffusers")

BETAS = {"num_train_timesteps": 100, "beta_start": 1e-4, "beta_end": 0.02}
VARIANCE_PRESERVING = [("scaled_linear", False), ("squaredcos_cap_v2", False), ("scaled_linear", True)]


def example() -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.randn(20, 3, generator=g), torch.randn(20, 3, generator=g)


def ours(beta: str, kind: str, zero_snr: bool = False) -> NoiseSchedule:
    return NoiseSchedule(ScheduleConfig(beta_schedule=beta, prediction_type=kind, rescale_betas_zero_snr=zero_snr))  # type: ignore[arg-type]


def step(
    schedule: NoiseSchedule, kind: SamplerKind, original: Tensor, noisy: Tensor, now: int, following: int,
    fresh: Tensor | float = 0.0,
) -> Tensor:  # fmt: skip
    of_original, of_noisy, of_fresh = (part[0] for part in reverse_coefficients(schedule, kind, [now, following]))
    return of_original * original + of_noisy * noisy + of_fresh * fresh


@pytest.mark.parametrize(("beta", "zero_snr"), VARIANCE_PRESERVING)
def test_the_signal_of_every_timestep_is_theirs(beta: str, zero_snr: bool) -> None:
    theirs = diffusers.DDIMScheduler(**BETAS, beta_schedule=beta, rescale_betas_zero_snr=zero_snr)
    signal = ours(beta, "v_prediction", zero_snr).signal
    torch.testing.assert_close(signal**2, theirs.alphas_cumprod, atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("beta", "zero_snr", "kind"),
    [
        (beta, zero_snr, kind)
        for beta, zero_snr in VARIANCE_PRESERVING
        for kind in ("epsilon", "sample", "v_prediction")
        if not (zero_snr and kind == "epsilon")  # undefined where the last step is pure noise
    ],
)
def test_a_ddim_step_is_theirs_for_every_prediction_type(beta: str, zero_snr: bool, kind: str) -> None:
    theirs = diffusers.DDIMScheduler(
        **BETAS, beta_schedule=beta, rescale_betas_zero_snr=zero_snr, prediction_type=kind, clip_sample=False,
        timestep_spacing="trailing",
    )  # fmt: skip
    theirs.set_timesteps(10)
    schedule, (prediction, noisy) = ours(beta, kind, zero_snr), example()
    for now in (89, 49, 19):
        original, _ = schedule.split(prediction, noisy, torch.full((20,), now))
        mine = step(schedule, "ddim", original, noisy, now, now - 10)
        torch.testing.assert_close(mine, theirs.step(prediction, now, noisy).prev_sample, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("beta", ["scaled_linear", "squaredcos_cap_v2"])
def test_an_ancestral_step_is_theirs_with_the_same_fresh_noise(beta: str) -> None:
    theirs = diffusers.DDPMScheduler(**BETAS, beta_schedule=beta, prediction_type="sample", clip_sample=False)
    schedule, (original, noisy) = ours(beta, "sample"), example()
    for now in (90, 50, 2):
        fresh = torch.randn(noisy.shape, generator=torch.Generator().manual_seed(now))
        mine = step(schedule, "ddpm", original, noisy, now, now - 1, fresh)
        expected = theirs.step(original, now, noisy, generator=torch.Generator().manual_seed(now)).prev_sample
        torch.testing.assert_close(mine, expected, atol=1e-4, rtol=1e-3)


def test_a_step_of_flow_matching_is_their_euler_step() -> None:
    schedule, (velocity, noisy) = ours("flow_matching", "flow_prediction"), example()
    walk = [99, 74, 49, 24]
    theirs = diffusers.FlowMatchEulerDiscreteScheduler()
    theirs.set_timesteps(sigmas=[float(schedule.sigma[k]) for k in walk])
    for index, (now, following) in enumerate(itertools.pairwise(walk)):
        original, _ = schedule.split(velocity, noisy, torch.full((20,), now))
        mine = step(schedule, "ddim", original, noisy, now, following)
        expected = theirs.step(velocity, theirs.timesteps[index], noisy).prev_sample
        torch.testing.assert_close(mine, expected, atol=1e-5, rtol=1e-4)
        noisy = mine
