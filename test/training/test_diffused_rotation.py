"""Position and rotation denoised together: the batch, the loss, the policy, and what only sampling can learn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small import ACTOR, CONFIG, SPEC, demonstration, small_data
from torch import Tensor
from torch.nn import functional as F

from minidiffuser_ros.contract.errors import CheckpointError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.contract.observation import Observation
from minidiffuser_ros.diffusion.schedule import NoiseSchedule, ScheduleConfig
from minidiffuser_ros.episodes.demonstration import Demonstration, demonstration_of
from minidiffuser_ros.geometry.rotation import (
    POINTING_DOWN_WXYZ,
    angle_between_deg,
    matrix_from_quat,
    quat_from_yaw,
    quat_multiply,
)
from minidiffuser_ros.model.mini_diffuser import MiniDiffuser
from minidiffuser_ros.policy.checkpoint import load_checkpoint, new_policy
from minidiffuser_ros.policy.inputs import PositionScale
from minidiffuser_ros.policy.policy import Policy
from minidiffuser_ros.policy.sampling import Sampled
from minidiffuser_ros.training.config import Augmentation, TrainingConfig, with_actor_weights
from minidiffuser_ros.training.dataset import DemonstrationSet
from minidiffuser_ros.training.loop import Trainer, Watch, train
from minidiffuser_ros.training.metrics import Validation
from minidiffuser_ros.training.objective import losses_of
from minidiffuser_ros.training.two_level import TwoLevelSampler

POLICY = new_policy(ACTOR, SPEC)
SCALE = PositionScale(SPEC)


@pytest.fixture(scope="module")
def data() -> DemonstrationSet:
    return small_data()


def test_one_timestep_noises_position_and_rotation_each_on_its_own_schedule(data: DemonstrationSet) -> None:
    batch = TwoLevelSampler(data, POLICY.noise_schedule(), SCALE, CONFIG, "diffused").batch(0)
    observed, noised = batch.observed, batch.noised
    assert noised.noise.shape == (*noised.timesteps.shape, 9)
    columns = matrix_from_quat(observed.quats_wxyz.numpy())[..., :2].swapaxes(-1, -2).reshape(-1, 6)
    originals = [SCALE.normalise(observed.positions), torch.from_numpy(columns).float()]
    configs = [ScheduleConfig(beta_schedule="scaled_linear"), ScheduleConfig(beta_schedule="squaredcos_cap_v2")]
    for numbers, original, config in zip((slice(0, 3), slice(3, 9)), originals, configs, strict=True):
        copies = original.unsqueeze(1).expand_as(noised.noise[..., numbers])
        torch.testing.assert_close(noised.target[..., numbers], copies)
        expected = NoiseSchedule(config).add_noise(copies, noised.noise[..., numbers], noised.timesteps)
        torch.testing.assert_close(noised.noisy[..., numbers], expected)
    assert len(noised.noise.flatten().unique()) == noised.noise.numel()


@pytest.mark.parametrize(("loss", "power"), [("l1", 1), ("l2", 2)])
def test_the_losses_are_those_written_out_for_a_batch_made_by_hand(loss: str, power: int) -> None:
    g = torch.Generator().manual_seed(0)
    noisy, target, answer = (torch.randn(2, 3, 9, generator=g) for _ in range(3))
    logits, openings = torch.randn(2, 3, generator=g), torch.tensor([1.0, 0.0])
    network = SimpleNamespace(
        config=ACTOR, encode=lambda inputs: None, denoise_and_grip=lambda *given: (answer, logits)
    )
    batch = SimpleNamespace(
        observed=SimpleNamespace(inputs=None, positions=torch.zeros(2, 3), openings=openings),
        noised=SimpleNamespace(noisy=noisy, target=target, timesteps=torch.zeros(2, 3, dtype=torch.long)),
    )
    found = losses_of(network, POLICY.noise_schedule(), SCALE, batch, loss, bf16=False)  # type: ignore[arg-type]
    half = [0.5 * (high - low) for low, high in zip(SPEC.workspace_min, SPEC.workspace_max, strict=True)]
    position = rotation = gripper = 0.0
    for b, m in np.ndindex(2, 3):
        moved = [float(noisy[b, m, i] + answer[b, m, i] / half[i]) for i in range(3)]
        position += sum(abs(moved[i] - float(target[b, m, i])) ** power for i in range(3)) / (6 * 3)
        rotation += sum(abs(float(answer[b, m, i] - target[b, m, i])) ** power for i in range(3, 9)) / (6 * 6)
        probability = 1.0 / (1.0 + np.exp(-float(logits[b, m])))
        gripper -= np.log(probability if openings[b] else 1.0 - probability) / 6
    assert {name: float(value) for name, value in found.items()} == pytest.approx(
        {"position": position, "rotation": rotation, "gripper": gripper}, rel=1e-5
    )


def test_the_gradient_is_that_of_thirty_times_position_ten_times_rotation_and_the_gripper(
    data: DemonstrationSet,
) -> None:
    trainer = Trainer(with_actor_weights(CONFIG), POLICY, data)
    batch, network = trainer.batch(0), trainer.network
    trainer.gradients(batch)
    found = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    network.zero_grad()
    noisy, target = batch.noised.noisy, batch.noised.target
    condition = network.encode(batch.observed.inputs)
    moved, logits = network.denoise_and_grip(condition, SCALE.metric(noisy), batch.noised.timesteps)
    position = (noisy[..., :3] + moved[..., :3] / SCALE.half - target[..., :3]).abs().mean()
    rotation = (moved[..., 3:] - target[..., 3:]).abs().mean()
    opened = batch.observed.openings.unsqueeze(1).expand_as(logits)
    (30.0 * position + 10.0 * rotation + F.binary_cross_entropy_with_logits(logits, opened)).backward()
    for name, p in network.named_parameters():
        torch.testing.assert_close(found[name], p.grad, atol=1e-5, rtol=1e-3, msg=name)


def observation() -> Observation:
    """A lump on the table."""
    rng = np.random.default_rng(0)
    return Observation(
        points=(np.array([0.5, 0.1, 0.05]) + rng.normal(0.0, 0.015, (40, 3))).astype(np.float32),
        colors=rng.integers(0, 255, (40, 3)).astype(np.uint8), tool_position=np.array([0.45, 0.0, 0.35]),
        tool_quat_wxyz=quat_from_yaw(0.3), joint_positions=np.zeros(7), opening=1.0, stamp_ns=0, spec=SPEC,
    )  # fmt: skip


def test_a_decision_is_the_denoised_keypose_with_the_grip_of_the_last_step(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = Policy(POLICY, MiniDiffuser(ACTOR))
    where, quat = torch.tensor([0.52, 0.08, 0.1]), quat_multiply(quat_from_yaw(0.7), POINTING_DOWN_WXYZ)
    columns = torch.from_numpy(matrix_from_quat(quat)[:, :2].T.reshape(6)).float()

    def knows(condition: object, noisy: Tensor, steps: Tensor, execute: object) -> tuple[Tensor, Tensor]:
        # Twice the first column, and the second with a share of the first: Gram-Schmidt takes both out.
        skewed = torch.cat([0.6 * columns[:3], columns[3:] + 0.1 * columns[:3]]).expand(*steps.shape, 6)
        return torch.cat([where - noisy[..., :3], skewed], dim=-1), torch.where(steps == 0, 1.0, -1.0)

    def timesteps(condition: object, steps: list[int]) -> list[Tensor]:
        return [torch.full((1, policy.config.num_candidates), step) for step in steps]

    monkeypatch.setattr(policy.network, "denoise_and_grip", knows)
    monkeypatch.setattr(policy.network, "contexts_of_steps", timesteps)
    decision = policy.decide(observation(), "push the red button")
    assert len(decision.candidate_keyposes) == POLICY.num_candidates
    for keypose in decision.candidate_keyposes:
        np.testing.assert_allclose(keypose.position, where, atol=1e-5)
        assert angle_between_deg(keypose.quat_wxyz, quat) < 1e-3
        assert keypose.is_open


def test_a_trained_policy_is_loaded_decides_the_same_each_time_and_is_measured(
    data: DemonstrationSet, tmp_path: Path
) -> None:
    trainer = Trainer(with_actor_weights(CONFIG), POLICY, data)
    train(trainer, tmp_path, Validation(POLICY, data, limit=2))
    assert load_checkpoint(tmp_path)[0] == POLICY
    assert trainer.held_out["steps"] == 2
    policy = Policy.load(tmp_path)
    decisions = [policy.decide(observation(), "push the red button", seed) for seed in (0, 0, 1)]
    quats = [[k.quat_wxyz for k in decision.candidate_keyposes] for decision in decisions]
    np.testing.assert_array_equal(quats[0], quats[1])
    assert not np.array_equal(quats[0], quats[2])


def test_a_training_that_was_stopped_ends_bit_for_bit_where_an_undisturbed_one_does(
    data: DemonstrationSet, tmp_path: Path
) -> None:
    whole, stopped, again = (Trainer(CONFIG, POLICY, data) for _ in range(3))
    train(whole, tmp_path / "whole")

    def stop(step: int, losses: dict[str, float], learning_rate: float) -> None:
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(stopped, tmp_path / "parts", watch=Watch(on_step=stop))
    again.resume(tmp_path / "parts")
    train(again, tmp_path / "parts")
    assert all(torch.equal(v, again.network.state_dict()[name]) for name, v in whole.network.state_dict().items())


@pytest.mark.parametrize(
    ("position", "rotation"),
    [("epsilon", "v_prediction"), ("v_prediction", "flow_prediction"), ("flow_prediction", "epsilon")],
)
def test_each_part_may_have_any_schedule_and_prediction_type(
    position: str, rotation: str, data: DemonstrationSet, tmp_path: Path
) -> None:
    def schedule(kind: str) -> ScheduleConfig:
        beta = "flow_matching" if kind == "flow_prediction" else "scaled_linear"
        return ScheduleConfig(beta_schedule=beta, prediction_type=kind)  # type: ignore[arg-type]

    settings = replace(
        POLICY, model=replace(ACTOR, num_experts=4), schedule=schedule(position), rotation_schedule=schedule(rotation)
    )
    trainer = Trainer(replace(CONFIG, steps=2), settings, data)
    train(trainer, tmp_path, Validation(settings, data, limit=1))
    assert trainer.held_out["steps"] == 1
    other = replace(settings, rotation_schedule=ScheduleConfig())
    with pytest.raises(CheckpointError, match=r"rotation_schedule\.beta_schedule was .*, now squaredcos_cap_v2"):
        Trainer(replace(CONFIG, steps=2), other, data).resume(tmp_path)


def test_held_out_figures_count_position_rotation_and_gripper_over_all_candidates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = DemonstrationSet([demonstration(0, steps=1)], ACTOR.rotation_bins)
    validation, expert = Validation(POLICY, data, limit=1), data.batch([0])
    offsets, turns = torch.tensor([0.0, 0.005, 0.015, 0.03]), np.deg2rad([4.0, -6.0, 0.0, 90.0])

    def sampled(condition: object, seed: int) -> Sampled:
        positions = expert.positions + offsets.unsqueeze(1) * torch.tensor([1.0, 0.0, 0.0])
        quats = [quat_multiply(quat_from_yaw(float(turn)), expert.quats_wxyz[0].numpy()) for turn in turns]
        right = float(expert.openings[0])
        return Sampled(positions, np.array(quats), np.array([right, right, right, 1.0 - right]))

    monkeypatch.setattr(validation._policy.sampler, "keyposes", sampled)
    metrics = validation.measure(MiniDiffuser(ACTOR).state_dict()).overall
    assert (metrics.within_1cm, metrics.within_2cm) == (0.5, 0.75)
    assert (metrics.rotation_within_5deg, metrics.gripper_right) == (0.5, 0.75)


def two_right_ways(seed: int) -> Demonstration:
    """One observation twice, to be gripped turned by `seed` radians, and from there by one to the left or the right."""
    rng = np.random.default_rng(seed)
    centre = np.array([rng.uniform(0.35, 0.65), rng.uniform(-0.25, 0.25), 0.05])
    seen = replace(observation(), points=(centre + rng.normal(0.0, 0.015, (40, 3))).astype(np.float32))
    quats = [quat_multiply(quat_from_yaw(seed + turn), POINTING_DOWN_WXYZ) for turn in (-1.0, 1.0)]
    return demonstration_of("lump", 0, seed, ("grip it",), [(seen, Keypose(centre, q, float(seed % 2))) for q in quats])


@pytest.mark.slow
def test_of_two_equally_right_rotations_both_are_sampled_and_never_their_mean() -> None:
    data = DemonstrationSet([two_right_ways(seed) for seed in range(2)], ACTOR.rotation_bins)
    config = with_actor_weights(TrainingConfig(
        steps=400, batch_size=4, num_samples=32, learning_rate=5e-3, warmup_steps=10, threads=1, bf16=False,
        ema_decay=0.98, augmentation=Augmentation(0.0, 0.0, 0.0, 0.0),
    ))  # fmt: skip
    settings = replace(POLICY, num_candidates=60)
    trainer = Trainer(config, settings, data)
    for _ in range(config.steps):
        trainer.step()
    policy = Policy(settings, MiniDiffuser(ACTOR))
    policy.network.load_state_dict(trainer.average)
    for index in (0, 2):
        expert = data.batch([index, index + 1])
        with torch.inference_mode():
            sampled = policy.sampler.keyposes(policy.network.encode(data.batch([index]).inputs), seed=index)
        angles = np.stack([angle_between_deg(sampled.quats_wxyz, quat.numpy()) for quat in expert.quats_wxyz])
        nearest = angles.min(axis=0)  # their mean is a radian away from both, 57 degrees
        assert np.median(nearest) < 5.0
        assert (nearest < 15.0).mean() > 0.9
        assert 0.2 < (angles.argmin(axis=0) == 0).mean() < 0.8
        assert ((sampled.positions - expert.positions[0]).norm(dim=-1) < 0.01).all()
        assert (sampled.openings == float(expert.openings[0])).all()
