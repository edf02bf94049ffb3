"""The laws of two-level attention and of the whole network: samples share the condition and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from minidiffuser_ros.model.attention import reference_attention, two_level_attention
from minidiffuser_ros.model.config import MiniDiffuserConfig
from minidiffuser_ros.model.mini_diffuser import Inputs, MiniDiffuser
from minidiffuser_ros.model.rope import rope_angles, rotate

B, M, P = 2, 3, 80
CONFIG = MiniDiffuserConfig(
    encoder_channels=(16, 24, 32, 32), decoder_channels=(16, 24, 32), head_channels=8, width=48, instruction_dim=20
)


def observation(seed: int = 0) -> Inputs:
    g = torch.Generator().manual_seed(seed)
    points = torch.rand(B * P, 3, generator=g) * torch.tensor([0.1, 0.1, 0.05]) + torch.tensor([0.4, 0.0, 0.01])
    mask = torch.ones(B, 5, dtype=torch.bool)
    mask[1, 4] = False
    return Inputs(
        points, torch.rand(B * P, 3, generator=g) * 255, torch.arange(B).repeat_interleave(P),
        torch.rand(B, 3, generator=g), torch.rand(B, 5, generator=g), torch.randn(B, 5, 20, generator=g), mask,
    )  # fmt: skip


@pytest.fixture(scope="module")
def network() -> MiniDiffuser:
    torch.manual_seed(0)
    network = MiniDiffuser(CONFIG).eval()
    for parameter in network.parameters():  # FiLM starts at zero, which would hide a leak
        parameter.data += 0.05 * torch.randn_like(parameter)
    return network


def samples() -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    positions = torch.rand(B, M, 3, generator=g) * 0.1 + torch.tensor([0.4, 0.0, 0.0])
    return positions, torch.randint(0, 100, (B, M), generator=g)


@pytest.mark.parametrize("length", [1, 3])
def test_the_factored_attention_equals_the_literal_mask(length: int) -> None:
    torch.manual_seed(length)
    own, shared, heads, width = M * length, 7, 2, 8
    query, key, value = (torch.randn(B, own + shared, heads, width) for _ in range(3))
    literal = reference_attention(query, key, value, M, length)[:, :own]
    rows = [t[:, :own].unflatten(1, (M, length)) for t in (query, key, value)]
    mask = torch.ones(B, shared, dtype=torch.bool)
    out, _ = two_level_attention(*rows, key[:, own:], value[:, own:], mask)
    torch.testing.assert_close(out.flatten(1, 2), literal, atol=1e-5, rtol=0)


@torch.no_grad()
def test_one_pass_with_m_samples_equals_m_passes(network: MiniDiffuser) -> None:
    condition = network.encode(observation())
    positions, steps = samples()
    together = network.denoise(condition, positions, steps)
    alone = [network.denoise(condition, positions[:, i : i + 1], steps[:, i : i + 1]) for i in range(M)]
    torch.testing.assert_close(together, torch.cat(alone, dim=1), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_sample_does_not_notice_the_others(network: MiniDiffuser) -> None:
    condition = network.encode(observation())
    positions, steps = samples()
    before = network.denoise(condition, positions, steps)
    positions[:, 1] += 0.05
    after = network.denoise(condition, positions, steps)
    torch.testing.assert_close(before[:, [0, 2]], after[:, [0, 2]], atol=1e-6, rtol=1e-5)
    assert (before[:, 1] - after[:, 1]).abs().max() > 1e-4


@torch.no_grad()
def test_changing_one_sentence_changes_only_its_own_samples(network: MiniDiffuser) -> None:
    inputs = observation()
    positions, steps = samples()
    before = network.denoise(network.encode(inputs), positions, steps)
    inputs.instruction[1] += 1.0 * torch.randn_like(inputs.instruction[1])
    after = network.denoise(network.encode(inputs), positions, steps)
    torch.testing.assert_close(before[0], after[0], atol=1e-6, rtol=1e-5)
    assert (before[1] - after[1]).abs().max() > 1e-5


@torch.no_grad()
def test_the_order_of_the_points_does_not_matter(network: MiniDiffuser) -> None:
    inputs = observation()
    order = torch.randperm(B * P, generator=torch.Generator().manual_seed(3))
    shuffled = Inputs(
        inputs.points[order], inputs.colors[order], inputs.batch[order], inputs.tool_position, inputs.tool_features,
        inputs.instruction, inputs.instruction_mask,
    )  # fmt: skip
    outs = [network.denoise(network.encode(i), *samples()) for i in (inputs, shuffled)]
    torch.testing.assert_close(outs[0], outs[1], atol=1e-5, rtol=1e-3)


def test_the_gradient_with_m_samples_is_the_mean_of_m_gradients(network: MiniDiffuser) -> None:
    positions, steps = samples()

    def gradient(chosen: list[int]) -> Tensor:
        network.zero_grad()
        out = network.denoise(network.encode(observation()), positions[:, chosen], steps[:, chosen])
        out.square().mean().backward()
        weight = network.backbone.stem.weight.grad
        assert weight is not None
        return weight.clone()

    mean = torch.stack([gradient([i]) for i in range(M)]).mean(0)
    torch.testing.assert_close(gradient(list(range(M))), mean, atol=1e-7, rtol=1e-3)


def test_rope_logits_do_not_change_when_both_ends_move_together() -> None:
    torch.manual_seed(0)
    query, key = torch.randn(5, 2, 24), torch.randn(5, 2, 24)
    here, there, shift = torch.rand(5, 3), torch.rand(5, 3), torch.tensor([0.3, -0.2, 0.1])

    def logits(offset: Tensor) -> Tensor:
        q = rotate(query, rope_angles(here + offset, 24, 100.0, 100.0))
        return (q * rotate(key, rope_angles(there + offset, 24, 100.0, 100.0))).sum(-1)

    torch.testing.assert_close(logits(torch.zeros(3)), logits(shift), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(logits(torch.zeros(3)), (query * key).sum(-1), atol=1e-2)
