"""Positions are denoised a second time, told the rotation that was classified where the first walk ended."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small import CONFIG, MODEL, demonstration, small_data
from torch import Tensor

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.geometry.rotation import quat_from_yaw, six_from_quat
from minidiffuser_ros.model.config import named_config
from minidiffuser_ros.policy.checkpoint import PolicyConfig
from minidiffuser_ros.policy.policy import Policy
from minidiffuser_ros.policy.sampling import Walk
from minidiffuser_ros.pruning.reuse import recorded_steps
from minidiffuser_ros.training.config import TrainingConfig
from minidiffuser_ros.training.dataset import DemonstrationSet
from minidiffuser_ros.training.loop import Trainer

TWICE = replace(MODEL, second_walk=True)
OFFSET = 0.06  # m from the lump to the hand, where the hand points


def trainer(config: TrainingConfig = CONFIG, data: DemonstrationSet | None = None) -> Trainer:
    data = data or small_data()
    return Trainer(config, PolicyConfig(spec=data.spec, model=TWICE, num_candidates=4), data)


def told(yaw: float, count: int) -> Tensor:
    six = torch.from_numpy(six_from_quat(quat_from_yaw(yaw))).float()
    return torch.cat([six, torch.ones(1)]).expand(1, count, -1)


def test_half_of_the_samples_are_told_the_experts_rotation_and_the_others_nothing() -> None:
    made = trainer(replace(CONFIG, num_samples=64))
    batch = made.batch(3)
    assert batch.told is not None
    assert batch.told.shape == (4, 64, 7)
    is_told = batch.told[..., 6] > 0
    assert 0.3 < float(is_told.float().mean()) < 0.7
    assert float(batch.told[~is_told].abs().max()) == 0.0
    expert = torch.from_numpy(six_from_quat(batch.observed.quats_wxyz.numpy())).unsqueeze(1).expand(-1, 64, -1)
    error = (batch.told[..., :6] - expert)[is_told]
    assert 0.025 < float(error.std()) < 0.045


def test_each_process_tells_its_own_rows_of_the_same_batch() -> None:
    whole, part = trainer().sampler.batch(5), trainer().sampler.batch(5, [1, 3])
    assert whole.told is not None
    assert part.told is not None
    assert torch.equal(whole.told[[1, 3]], part.told)


def test_a_network_goes_on_from_one_that_walks_once_and_first_answers_as_that_did(tmp_path: Path) -> None:
    data = small_data()
    once = Trainer(CONFIG, PolicyConfig(spec=data.spec, model=MODEL, num_candidates=4), data)
    once.step()
    once.save(tmp_path / "once")
    twice = trainer(replace(CONFIG, start=str(tmp_path / "once")))
    twice.save(tmp_path / "twice")
    policies = [Policy.load(tmp_path / name) for name in ("once", "twice")]
    inputs = data.batch([1]).inputs
    first, second = (p.sampler.located(p.network.encode(inputs), 3) for p in policies)
    assert torch.equal(first, second)
    with pytest.raises(ConfigurationError, match="another network than this training"):
        Trainer(replace(CONFIG, start=str(tmp_path / "twice")), once.policy, data)


def test_what_a_network_is_told_of_the_rotation_says_on_which_side_of_a_thing_the_hand_will_be() -> None:
    """The clouds show no rotation, so that only what is told can tell the side."""
    shown = [demonstration(seed, steps=4) for seed in range(24)]
    for d in shown:
        yaws = 2.0 * np.arctan2(d.targets[:, 6], d.targets[:, 3])
        d.targets[:, 0] += OFFSET * np.cos(yaws)
        d.targets[:, 1] += OFFSET * np.sin(yaws)
    data = DemonstrationSet(shown, MODEL.rotation_bins)
    config = replace(CONFIG, steps=160, batch_size=6, num_samples=16, learning_rate=8e-3, warmup_steps=10)
    made = trainer(config, data)
    for _ in range(config.steps):
        made.step()
    policy = Policy(replace(made.policy, instructions=()), made.network)
    with torch.no_grad():
        condition = policy.network.encode(data.batch([5]).inputs)
        ends = [policy.sampler.positions(condition, 0, None, told(yaw, 4)).mean(1)[0] for yaw in (0.0, np.pi)]
    apart = ends[0] - ends[1]
    assert float(apart[0]) > 0.1 * OFFSET, apart
    assert float(apart[0]) > 3.0 * abs(float(apart[1])), apart


@torch.no_grad()
def test_executors_serve_the_first_walk_and_a_mask_serves_both() -> None:
    made = trainer()
    torch.nn.init.normal_(made.network.in_hand.weight)  # type: ignore[union-attr]
    policy = Policy(replace(made.policy, instructions=()), made.network)
    condition = policy.network.encode(small_data().batch([1]).inputs)
    walk = Walk(policy.config.sampler)
    units, outputs = policy.sampler.units(walk.sampler), list[dict[str, Tensor]]()
    recorded = replace(walk, executors=list(recorded_steps(outputs, walk.sampler.num_inference_steps)))
    assert torch.equal(policy.sampler.located(condition, 2, recorded), policy.sampler.located(condition, 2))
    assert len(outputs) == walk.sampler.num_inference_steps
    first, second = policy.sampler.positions(condition, 2), policy.sampler.located(condition, 2)
    assert not torch.equal(first, second)
    nothing = replace(walk, mask=torch.zeros(units.shape, dtype=torch.bool))
    assert torch.equal(policy.sampler.located(condition, 2, nothing), second)


def test_where_rotation_is_diffused_there_is_nothing_to_tell() -> None:
    with pytest.raises(ConfigurationError, match="second_walk"):
        replace(named_config("diffuser_actor"), second_walk=True)
