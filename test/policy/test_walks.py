"""Walks of the sampler: whole, pruned, recorded."""

from __future__ import annotations

import sys
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from reverse_step import reverse_step
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from minidiffuser_ros.contract.observation import ObservationSpec
from minidiffuser_ros.diffusion.sampler import SamplerConfig, SamplerKind, inference_timesteps
from minidiffuser_ros.diffusion.schedule import ScheduleConfig
from minidiffuser_ros.model.mini_diffuser import Condition, Inputs, MiniDiffuser
from minidiffuser_ros.model.neck import BlockExecutor
from minidiffuser_ros.policy.checkpoint import PolicyConfig
from minidiffuser_ros.policy.sampling import KeyposeSampler, Walk, predict
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

    def nothing(name: str, stream: torch.Tensor, branch: object) -> torch.Tensor:
        named.append(name)
        return stream

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


class Transfers(TorchDispatchMode):
    """Counts what crosses between devices."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        given = [a.device for a in tree_leaves((args, kwargs)) if isinstance(a, torch.Tensor) and a.ndim]
        made = [a.device for a in tree_leaves(result) if isinstance(a, torch.Tensor)]
        self.count += bool(given) and bool(made) and given[0] != made[0]
        return result


def on_meta(value: Any) -> Any:
    """A condition without its numbers: whoever asks for one fails."""
    if isinstance(value, torch.Tensor):
        return value.to("meta")
    if isinstance(value, list | tuple):
        return type(value)(map(on_meta, value))
    if is_dataclass(value):
        return replace(value, **{f.name: on_meta(getattr(value, f.name)) for f in fields(value)})  # type: ignore[type-var]
    return value


# The local query counts the occupied cells around each sample, fused experts are made at their first use, and diffused
# rotations are read back at the end.
WITHOUT_WAITING = [
    name
    for name, config in VARIANTS.items()
    if not config.local_query and not config.num_experts and config.rotation == "bins"
]


@torch.inference_mode()
@pytest.mark.parametrize("variant", WITHOUT_WAITING)
@pytest.mark.parametrize("kind", ["ddim", "ddpm"])
def test_no_step_of_a_walk_waits_for_the_device_or_sends_it_anything(variant: str, kind: SamplerKind) -> None:
    sampler, condition = sampler_of(variant)
    # Values of the meta device do not exist: .item(), .tolist() and .cpu() of one raise.
    elsewhere = KeyposeSampler(sampler.config, sampler.network.to("meta"), "meta")
    counts = []
    for steps in (3, 9):
        config = SamplerConfig(kind, steps)
        mask = torch.rand(sampler.units(config).shape) < 0.5
        for walk in (Walk(config), Walk(config, mask)):
            with Transfers() as transfers:
                elsewhere.positions(on_meta(condition), 3, walk)
            counts.append(transfers.count)
    assert len(set(counts)) == 1, f"{counts} transfers in 3, 3, 9 and 9 steps"
    assert counts[0] > 0, "nothing was counted, not even the noise that the walk starts from"


@torch.no_grad()
@pytest.mark.parametrize("kind", ["ddim", "ddpm"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_walk_is_the_plain_sampler_step_by_step(variant: str, kind: SamplerKind) -> None:
    """Steps are prepared together and attend jointly; here each is taken by itself, as in training."""
    sampler, condition = sampler_of(variant)
    network, c, config = sampler.network, sampler.config, SamplerConfig(kind, 8)
    apart = replace(condition, neck=[replace(tokens, joint=None) for tokens in condition.neck])
    six = c.model.sample_size - 3

    def denoiser(noisy: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        return predict(network, sampler.scale, sampler.schedule, apart, noisy, timesteps)

    generator = torch.Generator().manual_seed(3)
    spread = torch.tensor([c.position_spread] * 3 + [3.0**-0.5] * six)
    noisy = sampler.schedule.initial_noise((1, 3, 3 + six), c.position_mean, spread, generator)
    steps = inference_timesteps(100, 8)
    for now, following in zip(steps, [*steps[1:], None], strict=True):
        level = torch.full((1, 3), now)
        original = sampler.schedule.split(denoiser(noisy, level), noisy, level)[0].clamp(-1.2, 1.2)
        if following is not None:
            noisy = reverse_step(sampler.schedule, kind, original, noisy, now, following, generator)
    found = sampler.keyposes(condition, 3, Walk(config)).positions
    torch.testing.assert_close(found, sampler.scale.metric(original)[0, :, :3], atol=1e-4, rtol=0.0)
