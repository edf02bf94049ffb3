"""Several parts diffused as one state: each behaves as it does alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.diffusion import sampler
from minidiffuser_ros.diffusion.joint import JointSchedule
from minidiffuser_ros.diffusion.sampler import SamplerConfig, sample
from minidiffuser_ros.diffusion.schedule import NoiseSchedule, ScheduleConfig

PARTS = [
    (ScheduleConfig(beta_schedule="scaled_linear", prediction_type="epsilon"), 3),
    (ScheduleConfig(beta_schedule="squaredcos_cap_v2"), 6),
    (ScheduleConfig(beta_schedule="flow_matching", prediction_type="flow_prediction"), 2),
]
COLUMNS = [slice(0, 3), slice(3, 9), slice(9, 11)]


def alone(index: int) -> NoiseSchedule:
    return NoiseSchedule(PARTS[index][0])


def example(count: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    """Originals and noise [count, 11], timesteps [count]."""
    g = torch.Generator().manual_seed(0)
    original, noise = torch.randn(count, 11, generator=g), torch.randn(count, 11, generator=g)
    return original, noise, torch.randint(100, (count,), generator=g)


def answers(noisy: Tensor, timesteps: Tensor) -> Tensor:
    """A made-up denoiser that acts on every number by itself."""
    return torch.tanh(0.7 * noisy + 0.003 * timesteps.unsqueeze(-1))


@pytest.mark.parametrize("index", range(3))
def test_every_part_is_noised_targeted_and_split_as_it_is_alone(index: int) -> None:
    joint, part, columns = JointSchedule(PARTS), alone(index), COLUMNS[index]
    original, noise, steps = example()
    noisy, target = joint.add_noise(original, noise, steps), joint.target(original, noise, steps)
    assert torch.equal(noisy[:, columns], part.add_noise(original[:, columns], noise[:, columns], steps))
    assert torch.equal(target[:, columns], part.target(original[:, columns], noise[:, columns], steps))
    for whole, own in zip(
        joint.split(target, noisy, steps), part.split(target[:, columns], noisy[:, columns], steps), strict=True
    ):
        assert torch.equal(whole[:, columns], own)


@pytest.mark.parametrize("index", range(3))
@pytest.mark.parametrize(("kind", "steps"), [("ddim", 10), ("ddpm", 100)])
def test_independent_parts_sampled_together_end_where_each_ends_alone(
    kind: str, steps: int, index: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SamplerConfig(kind, steps)  # type: ignore[arg-type]
    start, columns = example(20)[0], COLUMNS[index]
    fresh = torch.randn(steps, 20, 11, generator=torch.Generator().manual_seed(2))

    def walk(schedule: NoiseSchedule, columns: slice) -> Tensor:
        drawn = iter(fresh[..., columns])
        monkeypatch.setattr(sampler.torch, "randn", lambda *shape, **more: next(drawn))
        return sample(answers, schedule, config, start[:, columns])

    together, by_itself = walk(JointSchedule(PARTS), slice(None)), walk(alone(index), columns)
    torch.testing.assert_close(together[:, columns], by_itself, atol=1e-6, rtol=1e-5)
    assert not torch.equal(together[:, columns], start[:, columns])


def test_sampling_starts_at_the_terminal_marginal_of_every_part() -> None:
    joint, count = JointSchedule(PARTS), 40000
    mean, spread = torch.linspace(-0.5, 0.5, 11), torch.linspace(0.2, 0.8, 11)
    g = torch.Generator().manual_seed(1)
    data = mean + spread * torch.randn(count, 11, generator=g)
    ends = joint.add_noise(data, torch.randn(count, 11, generator=g), torch.full((count,), 99))
    start = joint.initial_noise((count, 11), mean, spread, g)
    torch.testing.assert_close(start.mean(0), ends.mean(0), atol=0.03, rtol=0)
    torch.testing.assert_close(start.std(0), ends.std(0), atol=0.03, rtol=0)
    assert (start[:, :3].mean(0) - 0.696 * mean[:3]).abs().max() < 0.03  # scaled_linear keeps 0.485 of the variance
    assert start[:, 3:].mean(0).abs().max() < 0.03


def test_one_part_alone_is_its_schedule() -> None:
    config = ScheduleConfig(prediction_type="v_prediction")
    joint, single = JointSchedule([(config, 3)]), NoiseSchedule(config)
    starts = [s.initial_noise((5, 3), 0.1, 0.5, torch.Generator().manual_seed(0)) for s in (joint, single)]
    assert torch.equal(*starts)
    ends = [
        sample(answers, s, SamplerConfig("ddpm", 20), start, torch.Generator().manual_seed(3))
        for s, start in zip((joint, single), starts, strict=True)
    ]
    assert torch.equal(*ends)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([], r"got \[\] timesteps"),
        ([(ScheduleConfig(), 3), (ScheduleConfig(num_train_timesteps=50), 6)], r"got \[100, 50\] timesteps"),
        ([(ScheduleConfig(), 0)], r"for \[0\] numbers"),
    ],
)
def test_parts_that_cannot_go_together_are_refused_with_what_they_are(parts: list[Any], expected: str) -> None:
    with pytest.raises(ConfigurationError, match=expected):
        JointSchedule(parts)
