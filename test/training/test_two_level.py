"""Two-level minibatches: M independent noisings of each of B targets."""

from __future__ import annotations

import torch

from minidiffuser_ros.diffusion.schedule import NoiseSchedule, ScheduleConfig
from minidiffuser_ros.training.two_level import two_level_minibatch


def test_every_sample_is_its_own_observations_target_noised_on_its_own() -> None:
    schedule = NoiseSchedule(ScheduleConfig())
    targets = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    batch = two_level_minibatch(schedule, targets, 500, torch.Generator().manual_seed(1))
    torch.testing.assert_close(batch.target, targets.unsqueeze(1).expand(4, 500, 3))
    _, noise = schedule.split(batch.target, batch.noisy, batch.timesteps)
    early = batch.timesteps > 0
    torch.testing.assert_close(noise[early], batch.noise[early], atol=1e-3, rtol=1e-3)
    # independent between samples and observations: no pair of noise vectors is the same, steps cover the range
    assert len(torch.unique(batch.noise.flatten(0, 1), dim=0)) == 2000
    assert batch.timesteps.min() < 5
    assert batch.timesteps.max() > 94
    assert abs(float(batch.noise.mean())) < 0.05
    assert abs(float(batch.noise.std()) - 1.0) < 0.05
