"""What a network over action sequences learns: its loss by hand, and a task with two equally good answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from action_unet_curves import Learner, Run, both_sides, sampled_paths
from around_obstacle import Scenes, draw_scenes, expert_paths, judge

from minidiffuser_ros.diffusion.sampler import SamplerConfig
from minidiffuser_ros.diffusion.schedule import NoiseSchedule, ScheduleConfig
from minidiffuser_ros.model.action_condition import ActionInputs
from minidiffuser_ros.model.action_config import ActionUNetConfig
from minidiffuser_ros.model.action_unet import ActionUNet
from minidiffuser_ros.policy.action_sequence import ActionSequencePolicy
from minidiffuser_ros.training.action_sequences import action_sequence_loss, noised_sequence_loss
from minidiffuser_ros.training.two_level import draw_level_two, noised_targets

B, M, T, A = 3, 5, 8, 2
MODEL = ActionUNetConfig(horizon=T, action_dim=A, obs_steps=1, state_dim=4, cameras=0, channels=(16, 16))
SAMPLES = 16


def scenes(count: int) -> Scenes:
    """Scenes that no learner has seen."""
    return draw_scenes(np.random.default_rng(10**6), count)


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction", "flow_prediction"])
def test_every_sequence_is_its_own_observations_noised_on_its_own(kind: str) -> None:
    schedule = NoiseSchedule(ScheduleConfig(prediction_type=kind))  # type: ignore[arg-type]
    g = torch.Generator().manual_seed(0)
    original = torch.randn(B, T, A, generator=g)
    timesteps, noise = draw_level_two(schedule, B, M, g, (T, A))
    noised = noised_targets(schedule, original, timesteps, noise)
    assert noised.noisy.shape == noised.target.shape == noise.shape == (B, M, T, A)
    for b in range(B):
        for m in range(M):
            k = timesteps[b, m]
            noisy = schedule.signal[k] * original[b] + schedule.sigma[k] * noise[b, m]
            torch.testing.assert_close(noised.noisy[b, m], noisy)
            implied, _ = schedule.split(noised.target[b, m], noisy, k.expand(T))
            torch.testing.assert_close(
                schedule.signal[k] * implied, schedule.signal[k] * original[b], atol=1e-5, rtol=0
            )


def test_noise_for_positions_is_drawn_as_it_was() -> None:
    schedule = NoiseSchedule(ScheduleConfig())
    timesteps, noise = draw_level_two(schedule, B, M, torch.Generator().manual_seed(0))
    g = torch.Generator().manual_seed(0)
    assert timesteps.equal(torch.randint(100, (B, M), generator=g))
    assert noise.equal(torch.randn(B, M, 3, generator=g))


@pytest.mark.parametrize(("loss", "power"), [("l1", 1), ("l2", 2)])
def test_the_loss_is_the_mean_over_observations_samples_steps_and_numbers(loss: str, power: int) -> None:
    torch.manual_seed(0)
    network, schedule = ActionUNet(MODEL), NoiseSchedule(ScheduleConfig())
    inputs, actions = ActionInputs(torch.randn(B, 1, 4)), torch.randn(B, T, A)
    g = torch.Generator().manual_seed(1)
    value = action_sequence_loss(network, schedule, inputs, actions, M, g, loss)  # type: ignore[arg-type]
    noised = noised_targets(
        schedule, actions, *draw_level_two(schedule, B, M, torch.Generator().manual_seed(1), (T, A))
    )
    assert value.equal(noised_sequence_loss(network, inputs, noised, loss))  # type: ignore[arg-type]
    by_hand = 0.0
    for b in range(B):
        condition = network.encode(ActionInputs(inputs.states[b : b + 1]))
        for m in range(M):
            one = network.denoise(condition, noised.noisy[b, m][None, None], noised.timesteps[b, m][None, None])
            by_hand += float((one[0, 0] - noised.target[b, m]).detach().abs().pow(power).sum()) / (B * M * T * A)
    assert value.item() == pytest.approx(by_hand, rel=1e-4)


def test_the_task_has_two_good_answers_whose_mean_is_bad() -> None:
    held_out, rng = scenes(200), np.random.default_rng(0)
    paths = np.stack([expert_paths(held_out, T, rng) for _ in range(SAMPLES)], axis=1)
    verdict = judge(held_out, paths)
    assert verdict.success.all()
    assert both_sides(verdict) > 0.99
    mean = judge(held_out, paths.mean(axis=1, keepdims=True))
    assert mean.touches.mean() > 0.9
    elsewhere = Scenes(held_out.start, -held_out.goal, held_out.obstacle)
    assert not judge(elsewhere, paths).success.any()


@pytest.fixture(scope="module")
def learned() -> ActionSequencePolicy:
    """From states."""
    learner = Learner(Run(num_samples=8, steps=300))
    for _ in range(learner.run.steps):
        learner.step()
    return learner.policy


@pytest.mark.slow
def test_both_answers_are_learned_from_states(learned: ActionSequencePolicy) -> None:
    held_out = scenes(30)
    paths = sampled_paths(learned, held_out, SAMPLES)
    verdict = judge(held_out, paths)
    assert verdict.success.mean() > 0.85
    assert both_sides(verdict) > 0.9
    assert 0.3 < verdict.left.mean() < 0.7
    mean = judge(held_out, paths.mean(axis=1, keepdims=True))
    assert mean.touches.mean() > 0.5
    away = np.linalg.norm(paths - held_out.obstacle[:, None, None], axis=-1).min(-1)
    assert (away > 0.12).mean() > 0.95  # no path is the average one, which passes through the middle


@pytest.mark.slow
def test_one_denoising_step_tells_the_mean_of_both_answers_and_fails(learned: ActionSequencePolicy) -> None:
    config = replace(learned.config, sampler=SamplerConfig(num_inference_steps=1, clip_sample=1.0))
    held_out = scenes(30)
    verdict = judge(held_out, sampled_paths(ActionSequencePolicy(config, learned.network), held_out, SAMPLES))
    assert verdict.touches.mean() > 0.5


@pytest.mark.slow
def test_a_goal_that_only_an_image_shows_is_reached() -> None:
    learner = Learner(Run(num_samples=8, steps=250, image_size=24))
    for _ in range(learner.run.steps):
        learner.step()
    held_out = scenes(30)
    ends = sampled_paths(learner.policy, held_out, 4, image_size=24)[:, :, -1]
    miss = np.linalg.norm(ends - held_out.goal[:, None], axis=-1)
    blind = np.linalg.norm(ends - np.roll(held_out.goal, 1, axis=0)[:, None], axis=-1)
    assert np.median(miss) < 0.1
    assert np.median(blind) > 0.2
