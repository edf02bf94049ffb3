"""Walks of the sampler: whole, pruned, recorded."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from minidiffuser_ros.contract.observation import ObservationSpec
from minidiffuser_ros.diffusion.sampler import SamplerConfig
from minidiffuser_ros.diffusion.schedule import ScheduleConfig
from minidiffuser_ros.model.mini_diffuser import Condition, Inputs, MiniDiffuser
from minidiffuser_ros.model.neck import BlockExecutor
from minidiffuser_ros.policy.checkpoint import PolicyConfig
from minidiffuser_ros.policy.sampling import KeyposeSampler, Walk
from minidiffuser_ros.pruning.reuse import recorded_steps
from minidiffuser_ros.pruning.schedules import similarity_of

sys.path.append(str(Path(__file__).parents[1] / "model"))
from tiny import VARIANTS, observation, tiny_network

SAMPLER = SamplerConfig("ddpm", 8)


def one(inputs: Inputs) -> Inputs:
    """The first observation alone."""
    mine = inputs.batch == 0
    picked = {
        name: value[mine] if name in ("points", "colors", "batch") else value[:1]
        for name, value in vars(inputs).items()
        if isinstance(value, torch.Tensor)
    }
    return Inputs(**{**vars(inputs), **picked})


def sampler_of(variant: str) -> tuple[KeyposeSampler, Condition]:
    network = tiny_network(variant)
    rotation = ScheduleConfig() if network.config.rotation == "diffused" else None
    config = PolicyConfig(
        ObservationSpec(), network.config, sampler=SAMPLER, num_candidates=3, rotation_schedule=rotation
    )
    with torch.no_grad():
        return KeyposeSampler(config, network, "cpu"), network.encode(one(observation()))


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_walk_that_prunes_nothing_is_the_whole_walk_exactly(variant: str) -> None:
    sampler, condition = sampler_of(variant)
    whole = sampler.keyposes(condition, 3)
    units = sampler.units(SAMPLER)
    same = sampler.keyposes(condition, 3, Walk(SAMPLER, torch.zeros(units.shape, dtype=torch.bool)))
    assert torch.equal(whole.positions, same.positions)
    assert (whole.quats_wxyz == same.quats_wxyz).all()
    assert (whole.openings == same.openings).all()


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_branch_of_the_neck_can_be_pruned_and_none_is_then_computed(variant: str) -> None:
    sampler, condition = sampler_of(variant)
    named: list[str] = []

    def nothing(name: str, branch: object) -> torch.Tensor:
        named.append(name)
        return torch.zeros(())

    steps: list[BlockExecutor] = [nothing] * SAMPLER.num_inference_steps
    none = sampler.keyposes(condition, 3, Walk(SAMPLER, executors=steps))
    assert named == list(sampler.units(SAMPLER).names) * SAMPLER.num_inference_steps
    walk = Walk(SAMPLER, torch.ones(sampler.units(SAMPLER).shape, dtype=torch.bool))
    assert torch.equal(sampler.keyposes(condition, 3, walk).positions, none.positions)
    assert walk.pruned == 1.0


@torch.no_grad()
def test_contexts_of_all_steps_at_once_are_those_of_each_step() -> None:
    for variant in VARIANTS:
        network: MiniDiffuser = tiny_network(variant)
        condition = network.encode(observation())
        noisy = torch.randn(2, 3, network.config.sample_size) * 0.1
        for step, contexts in zip((99, 40, 0), network.contexts_of_steps(condition, (99, 40, 0)), strict=True):
            expected = network.denoise(condition, noisy, torch.full((2, 3), step))
            torch.testing.assert_close(network.denoise(condition, noisy, contexts), expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_what_each_branch_adds_is_most_like_what_it_adds_at_the_same_step() -> None:
    sampler, condition = sampler_of("small")
    outputs: list[dict[str, torch.Tensor]] = []
    executors = list(recorded_steps(outputs, SAMPLER.num_inference_steps))
    recorded = sampler.keyposes(condition, 3, Walk(SAMPLER, executors=executors))
    assert torch.equal(recorded.positions, sampler.keyposes(condition, 3).positions)
    units = sampler.units(SAMPLER)
    similarity = similarity_of(units, outputs)
    assert similarity.shape == (len(units.names), 8, 8)
    torch.testing.assert_close(similarity.diagonal(dim1=1, dim2=2), torch.ones(len(units.names), 8))
    assert (similarity <= 1.0 + 1e-5).all()
