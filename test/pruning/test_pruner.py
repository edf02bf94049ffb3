"""The pruner: one look at the observation, a decision for every unit."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.pruning.losses import fidelity_loss, sparsity_loss
from minidiffuser_ros.pruning.pruner import DiffusionPruner, PrunerConfig, observation_embedding, straight_through
from minidiffuser_ros.pruning.units import PrunableUnits

sys.path.append(str(Path(__file__).parents[1] / "model"))
from tiny import VARIANTS, B, observation, tiny_network

UNITS = PrunableUnits(("0.attention", "0.mlp", "1.attention", "1.mlp"), 10)
WIDTH = 24


@pytest.fixture
def pruner() -> DiffusionPruner:
    torch.manual_seed(0)
    return DiffusionPruner(PrunerConfig(), UNITS, WIDTH)


def test_one_pass_decides_every_branch_of_every_step(pruner: DiffusionPruner):
    assert pruner(torch.randn(5, WIDTH)).shape == (5, 10, 4, 2)


def test_the_part_without_the_observation_can_be_kept(pruner: DiffusionPruner):
    observations = torch.randn(5, WIDTH)
    torch.testing.assert_close(pruner(observations, pruner.unit_part()), pruner(observations))


def test_decisions_follow_the_observation(pruner: DiffusionPruner):
    pruner.head[3].bias.data = torch.tensor([0.0, 0.0])
    observations = torch.randn(40, WIDTH, generator=torch.Generator().manual_seed(0))
    logits = pruner(observations).flatten(1, 2)
    margin = logits[..., 1] - logits[..., 0]
    pruner.head[3].bias.data[1] -= margin.median()
    assert len({tuple(mask.flatten().tolist()) for mask in pruner.masks(observations)}) > 10


def test_the_first_layer_on_both_parts_is_the_layer_on_both_together(pruner: DiffusionPruner):
    observation, unit = torch.randn(WIDTH), torch.randn(pruner.config.width)
    norm, linear = pruner.by_observation
    joined = nn.Linear(WIDTH + pruner.config.width, pruner.config.hidden)
    joined.weight.data = torch.cat([linear.weight, pruner.by_unit.weight], dim=1)
    joined.bias.data = linear.bias
    apart = pruner.by_observation(observation) + pruner.by_unit(unit)
    torch.testing.assert_close(joined(torch.cat([norm(observation), unit])), apart)


def test_gates_are_whole_and_carry_the_gradient_of_the_softmax():
    logits = torch.randn(7, 2, requires_grad=True)
    gates = straight_through(logits)
    assert set(gates.tolist()) <= {0.0, 1.0}
    gates.sum().backward()
    soft = torch.softmax(logits, -1)[:, 1]
    expected = torch.autograd.grad(soft.sum(), logits)[0]
    torch.testing.assert_close(logits.grad, expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_embedding_of_an_observation_depends_on_that_observation_alone(variant: str):
    network = tiny_network(variant)
    both = observation_embedding(network.encode(observation()))
    inputs = observation()
    changed = inputs.colors.clone()
    changed[inputs.batch == 1] = 255.0 - changed[inputs.batch == 1]
    after = observation_embedding(network.encode(type(inputs)(**{**vars(inputs), "colors": changed})))
    assert both.shape[0] == B
    torch.testing.assert_close(after[0], both[0], atol=1e-5, rtol=1e-5)
    assert (after[1] - both[1]).abs().max() > 1e-4


def test_the_losses_are_the_equations_of_the_paper():
    actions, expert = torch.randn(4, 2, 3), torch.randn(4, 3)
    by_hand = sum(float((a - e).norm()) for b, e in zip(actions, expert, strict=True) for a in b) / 8
    assert float(fidelity_loss(actions, expert)) == pytest.approx(by_hand, rel=1e-5)
    gates = (torch.rand(4, 10, 4) < 0.6).float()
    expected = sum(abs(float(g.mean()) - 0.91) for g in gates) / 4
    assert float(sparsity_loss(gates, 0.91)) == pytest.approx(expected, rel=1e-5)
    branches = sum(abs(float(g[:, b].mean()) - 0.91) for g in gates for b in range(4)) / 16
    assert float(sparsity_loss(gates, 0.91, per_branch=True)) == pytest.approx(branches, rel=1e-5)


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ConfigurationError, match="width must be divisible by 4"):
        PrunerConfig(width=30, num_heads=4)
