"""Laws of the experts that the noise level chooses between, and of their fused form."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny import B, M, observation, samples, tiny_network
from torch import Tensor

from minidiffuser_ros.model.experts import ExpertMlp
from minidiffuser_ros.model.layers import NoiseLevels
from minidiffuser_ros.model.mini_diffuser import MiniDiffuser

WIDTH, STEPS = 24, 12


@pytest.fixture
def experts() -> ExpertMlp:
    torch.manual_seed(0)
    return ExpertMlp(WIDTH, WIDTH, 2, 4, 2).eval()


@pytest.fixture
def network() -> MiniDiffuser:
    return tiny_network("experts")


def embeddings() -> Tensor:
    """One noise embedding for each of the steps [STEPS, D], far enough apart that all experts are chosen somewhere."""
    return 6.0 * torch.randn(STEPS, WIDTH, generator=torch.Generator().manual_seed(5))


def tokens(length: int = 2) -> Tensor:
    return torch.randn(B, M, length, WIDTH, generator=torch.Generator().manual_seed(6))


def level(step: int, known: bool) -> NoiseLevels:
    return NoiseLevels(embeddings()[step : step + 1], torch.zeros(B, M, dtype=torch.long), step if known else None)


@torch.no_grad()
def test_two_experts_answer_and_their_shares_sum_to_one(experts: ExpertMlp) -> None:
    shares = experts.shares(embeddings())
    torch.testing.assert_close(shares.sum(-1), torch.ones(STEPS))
    assert ((shares > 0).sum(-1) == 2).all()
    likeliest = experts.probabilities(embeddings()).topk(2).indices.sort().values
    assert shares.topk(2).indices.sort().values.equal(likeliest)


@torch.no_grad()
def test_the_answer_is_the_sum_of_all_experts_weighted_by_their_shares(experts: ExpertMlp) -> None:
    noise, x = embeddings()[: B * M].view(B, M, WIDTH), tokens()
    literal = sum(
        share[..., None, None] * expert(x)
        for expert, share in zip(experts.experts, experts.shares(noise).unbind(-1), strict=True)
    )
    torch.testing.assert_close(
        experts(x, NoiseLevels(noise.flatten(0, 1), torch.arange(noise[..., 0].numel()).view(noise.shape[:2]))),
        literal,
        atol=1e-6,
        rtol=1e-5,
    )


@torch.no_grad()
@pytest.mark.parametrize("step", range(STEPS))
def test_the_fused_experts_of_a_step_equal_the_unfused(experts: ExpertMlp, step: int) -> None:
    fused = experts(tokens(), level(step, known=True))
    torch.testing.assert_close(fused, experts(tokens(), level(step, known=False)), atol=1e-6, rtol=1e-5)
    assert list(experts._fused) == [step]


@torch.no_grad()
def test_steps_that_choose_the_same_experts_share_their_first_layer(experts: ExpertMlp) -> None:
    for step in range(STEPS):
        experts(tokens(), level(step, known=True))
    combinations = {tuple(shares.nonzero().flatten().tolist()) for shares in experts.shares(embeddings())}
    assert 1 < len(combinations) < STEPS
    assert len({first.data_ptr() for first, *_ in experts._fused.values()}) == len(combinations)


@torch.no_grad()
def test_new_weights_are_used_at_once(experts: ExpertMlp) -> None:
    weights = copy.deepcopy(experts.state_dict())
    before = experts(tokens(), level(3, known=True))
    for weight in experts.parameters():
        weight.mul_(1.5)  # as an optimiser does
    changed = experts(tokens(), level(3, known=True))
    torch.testing.assert_close(changed, experts(tokens(), level(3, known=False)), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(changed, before, atol=1e-3)
    experts.load_state_dict(weights)
    torch.testing.assert_close(experts(tokens(), level(3, known=True)), before)
    experts.load_state_dict({name: 2.0 * value for name, value in weights.items()}, assign=True)
    assert not torch.allclose(experts(tokens(), level(3, known=True)), before, atol=1e-3)


@pytest.mark.parametrize("mode", [True, False])
def test_train_and_eval_drop_what_was_fused(experts: ExpertMlp, mode: bool) -> None:
    with torch.no_grad():
        experts(tokens(), level(3, known=True))
    assert experts._fused
    experts.train(mode)
    assert not experts._fused
    assert not experts._first_layers


def test_nothing_is_fused_where_a_gradient_is_wanted(experts: ExpertMlp) -> None:
    experts(tokens(), level(3, known=True)).sum().backward()
    assert not experts._fused
    assert experts.router[0].weight.grad is not None


def test_every_expert_that_is_chosen_somewhere_learns(experts: ExpertMlp) -> None:
    noise = embeddings().unsqueeze(0)
    x = torch.randn(1, STEPS, 1, WIDTH)
    experts(
        x, NoiseLevels(noise.flatten(0, 1), torch.arange(noise[..., 0].numel()).view(noise.shape[:2]))
    ).square().sum().backward()
    assert (experts.shares(noise) > 0).flatten(0, 1).any(0).all()
    assert all(p.grad is not None and p.grad.norm() > 0 for p in experts.parameters())


def test_experts_work_in_inference_mode_on_weights_made_there() -> None:
    with torch.inference_mode():
        made_there = ExpertMlp(WIDTH, WIDTH, 2, 4, 2).eval()
        out = made_there(tokens(), level(3, known=True))
        torch.testing.assert_close(out, made_there(tokens(), level(3, known=False)))


def test_the_balance_loss_is_one_when_even_and_larger_when_all_choose_the_same(experts: ExpertMlp) -> None:
    last = experts.router[2]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.zeros_(last.bias)
    assert experts.balance_loss(NoiseLevels(embeddings(), torch.arange(STEPS).unsqueeze(0))).item() == pytest.approx(
        1.0, abs=1e-5
    )
    with torch.no_grad():
        last.bias.copy_(torch.tensor([5.0, 5.0, 0.0, 0.0]))
    assert experts.balance_loss(NoiseLevels(embeddings(), torch.arange(STEPS).unsqueeze(0))).item() > 1.9


def test_the_balance_loss_of_a_network_moves_its_routers_and_nothing_else(network: MiniDiffuser) -> None:
    network.balance_loss(samples(count=40)[1]).backward()
    moved = {name for name, p in network.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert moved == {name for name, _ in network.named_parameters() if ".router." in name}


def test_a_network_without_experts_has_no_balance_loss() -> None:
    assert float(tiny_network("small").balance_loss(samples()[1])) == 0.0


@torch.no_grad()
def test_a_network_fuses_where_all_samples_are_at_one_step_and_says_the_same(network: MiniDiffuser) -> None:
    condition, positions = network.encode(observation()), samples()[0]
    steps = torch.full((B, M), 40)
    fused = network.denoise(condition, positions, steps)
    caches = [block.mlp._fused for block in network.neck]
    assert [list(cache) for cache in caches] == [[40]] * len(caches)
    mixed = torch.cat([steps, torch.full((B, 1), 7)], dim=1)
    unfused = network.denoise(condition, torch.cat([positions, positions[:, :1]], dim=1), mixed)
    torch.testing.assert_close(fused, unfused[:, :M], atol=1e-6, rtol=1e-4)
    assert [list(cache) for cache in caches] == [[40]] * len(caches)


@torch.no_grad()
def test_a_step_that_is_no_integer_is_never_a_key(network: MiniDiffuser) -> None:
    network.denoise(network.encode(observation()), samples()[0], torch.full((B, M), 40.0))
    assert not any(block.mlp._fused for block in network.neck)
