"""The laws of two-level attention and of the whole network: samples share the condition and nothing else."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from tiny import SMALL, VARIANTS, B, M, P, answers, observation, samples, tiny_network
from torch import Tensor

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.diffusion.sampler import SamplerConfig, sample
from minidiffuser_ros.diffusion.schedule import NoiseSchedule, ScheduleConfig
from minidiffuser_ros.model.layers import FilmContext
from minidiffuser_ros.model.mini_diffuser import Condition, Inputs, MiniDiffuser
from minidiffuser_ros.model.neck import Places, run_block
from minidiffuser_ros.model.rope import rope_angles, rotate


@pytest.fixture(scope="module", params=VARIANTS)
def network(request: pytest.FixtureRequest) -> MiniDiffuser:
    return tiny_network(request.param)


def film_context(network: MiniDiffuser) -> FilmContext:
    return FilmContext(torch.randn(B, 2 * network.config.width), network.noise_levels(samples()[1]))


def tensors_of(condition: Condition) -> list[Tensor]:
    tokens = [part for t in (*condition.neck, *condition.heads) for part in (t, t.spatial, t.words)]
    return [v for part in (*tokens, condition) for v in vars(part).values() if isinstance(v, Tensor)]


@torch.no_grad()
def test_one_pass_with_m_samples_equals_m_passes(network: MiniDiffuser) -> None:
    condition = network.encode(observation())
    noisy, steps = samples(network)
    together = answers(network, condition, noisy, steps)
    alone = [answers(network, condition, noisy[:, i : i + 1], steps[:, i : i + 1]) for i in range(M)]
    for whole, parts in zip(together, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(whole, torch.cat(parts, dim=1), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_sample_does_not_notice_the_others(network: MiniDiffuser) -> None:
    condition = network.encode(observation())
    noisy, steps = samples(network)
    before = answers(network, condition, noisy, steps)
    noisy[:, 1] += 0.05
    for was, now in zip(before, answers(network, condition, noisy, steps), strict=True):
        torch.testing.assert_close(was[:, [0, 2]], now[:, [0, 2]], atol=1e-6, rtol=1e-5)
        assert (was[:, 1] - now[:, 1]).abs().max() > 1e-4


@torch.no_grad()
@pytest.mark.parametrize("variant", ["diffuser actor", "diffused rotation"])
def test_position_and_rotation_of_a_sample_are_denoised_in_view_of_each_other(variant: str) -> None:
    network = tiny_network(variant)
    condition, (noisy, steps) = network.encode(observation()), samples(network)
    before, grip = network.denoise_and_grip(condition, noisy, steps)
    for numbers in (slice(0, 3), slice(3, 9)):
        changed = noisy.clone()
        changed[..., numbers] += 0.05
        after, other_grip = network.denoise_and_grip(condition, changed, steps)
        assert ((before - after).abs().flatten(0, 1).amax(0) > 1e-5).all()
        assert (grip - other_grip).abs().max() > 1e-4


@torch.no_grad()
@pytest.mark.parametrize("length", [2, 3])
def test_tokens_of_one_sample_see_each_other_and_no_other_sample(network: MiniDiffuser, length: int) -> None:
    condition, block = network.encode(observation()), network.neck[1]
    torch.manual_seed(length)
    width = network.config.width
    z, context = torch.randn(B, M, length, width), film_context(network)
    positions = samples()[0].unsqueeze(2) + 0.02 * torch.rand(B, M, length, 3)

    def run(z: Tensor) -> Tensor:
        places = Places(positions, block.angles(positions))
        return block(z, places, block.context(context), condition.neck[1], run_block, "")

    before = run(z)
    z = z.clone()
    z[:, 1, 0] += torch.randn(width)
    change = (run(z) - before).abs().amax(-1)
    assert change[:, [0, 2]].max() < 1e-6
    assert change[:, 1].min() > 1e-5


@torch.no_grad()
def test_no_sample_ever_changes_a_condition_token(network: MiniDiffuser) -> None:
    condition = network.encode(observation())
    before = [tensor.clone() for tensor in tensors_of(condition)]
    answers(network, condition, *samples(network))
    assert all(a.equal(b) for a, b in zip(before, tensors_of(condition), strict=True))


@torch.no_grad()
def test_changing_one_sentence_changes_only_its_own_samples(network: MiniDiffuser) -> None:
    inputs = observation()
    noisy, steps = samples(network)
    before = network.denoise(network.encode(inputs), noisy, steps)
    inputs.instruction[1] += 1.0 * torch.randn_like(inputs.instruction[1])
    after = network.denoise(network.encode(inputs), noisy, steps)
    torch.testing.assert_close(before[0], after[0], atol=1e-6, rtol=1e-5)
    assert (before[1] - after[1]).abs().max() > 1e-5


@torch.no_grad()
def test_a_word_behind_the_mask_does_not_matter(network: MiniDiffuser) -> None:
    inputs = observation()
    before = network.denoise(network.encode(inputs), *samples(network))
    inputs.instruction[1, 4] += 10.0
    after = network.denoise(network.encode(inputs), *samples(network))
    torch.testing.assert_close(before, after, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_the_order_of_the_points_does_not_matter(network: MiniDiffuser) -> None:
    inputs = observation()
    order = torch.randperm(B * P, generator=torch.Generator().manual_seed(3))
    shuffled = replace(inputs, points=inputs.points[order], colors=inputs.colors[order], batch=inputs.batch[order])
    conditions = [network.encode(i) for i in (inputs, shuffled)]
    (moved, *others), (moved_too, *others_too) = (answers(network, c, *samples(network)) for c in conditions)
    torch.testing.assert_close(moved, moved_too, atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(others, others_too, atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_sampling_from_one_encoding_equals_encoding_again_at_every_step(network: MiniDiffuser) -> None:
    inputs, schedule = observation(), NoiseSchedule(ScheduleConfig())
    kept = network.encode(inputs)

    def walk(cached: bool) -> Tensor:
        def denoiser(noisy: Tensor, timesteps: Tensor) -> Tensor:
            return network.denoise(kept if cached else network.encode(inputs), noisy, timesteps)

        return sample(denoiser, schedule, SamplerConfig(num_inference_steps=4), samples(network)[0])

    torch.testing.assert_close(walk(True), walk(False), atol=0, rtol=0)


def test_the_gradient_with_m_samples_is_the_mean_of_m_gradients(network: MiniDiffuser) -> None:
    noisy, steps = samples(network)

    def gradient(chosen: list[int]) -> Tensor:
        network.zero_grad()
        out = answers(network, network.encode(observation()), noisy[:, chosen], steps[:, chosen])
        torch.stack([answer.square().mean() for answer in out]).sum().backward()
        return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])

    mean = torch.stack([gradient([i]) for i in range(M)]).mean(0)
    torch.testing.assert_close(gradient(list(range(M))), mean, atol=1e-6, rtol=1e-3)  # the largest are above 1


def test_every_parameter_takes_part(network: MiniDiffuser) -> None:
    network.zero_grad()
    noisy, steps = samples(network, 40)
    out = answers(network, network.encode(observation()), noisy, steps)
    (torch.stack([answer.square().mean() for answer in out]).sum() + network.balance_loss(steps)).backward()
    idle = {name for name, p in network.named_parameters() if p.grad is None or p.grad.norm() < 1e-7}
    # The same for every word: softmax removes it. Experts learn at the steps that choose them.
    assert {name for name in idle if ".experts." not in name} == {"text_pool.bias"}


@torch.no_grad()
def test_the_neck_sees_where_things_lie_relative_to_each_other_only(network: MiniDiffuser) -> None:
    # Shifted by whole cells of the coarsest level, so that every point stays in the cell beside its old neighbours;
    # in one patch, because a space-filling curve is cut elsewhere when its origin moves.
    config = replace(network.config, patch_size=10**6)
    one_patch = MiniDiffuser(config).eval()
    one_patch.load_state_dict(network.state_dict())
    shift = torch.tensor([1.0, -2.0, 3.0]) * config.grid_size * 2 ** (len(config.encoder_channels) - 1)
    positions, _ = samples()
    torch.manual_seed(0)
    width = config.width
    z, context = torch.randn(B, M, 1, width), film_context(network)

    def run(offset: Tensor) -> Tensor:
        inputs = observation()
        inputs = replace(
            inputs, points=inputs.points + offset, tool_position=inputs.tool_position + offset,
            before_position=inputs.before_position + offset,
            table_height=float(offset[2]),
        )  # fmt: skip
        tokens = one_patch.encode(inputs).neck[0]
        where = (positions + offset).unsqueeze(2)
        block = one_patch.neck[0]
        return block(z, Places(where, block.angles(where)), block.context(context), tokens, run_block, "")

    torch.testing.assert_close(run(torch.zeros(3)), run(shift), atol=1e-3, rtol=1e-3)


def test_rope_logits_do_not_change_when_both_ends_move_together() -> None:
    torch.manual_seed(0)
    query, key = torch.randn(5, 2, 24), torch.randn(5, 2, 24)
    here, there, shift = torch.rand(5, 3), torch.rand(5, 3), torch.tensor([0.3, -0.2, 0.1])

    def logits(offset: Tensor) -> Tensor:
        q = rotate(query, rope_angles(here + offset, 24, 100.0, 100.0))
        return (q * rotate(key, rope_angles(there + offset, 24, 100.0, 100.0))).sum(-1)

    torch.testing.assert_close(logits(torch.zeros(3)), logits(shift), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(logits(torch.zeros(3)), (query * key).sum(-1), atol=1e-2)


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 3])
@pytest.mark.parametrize("rope", [True, False])
def test_the_attention_of_a_neck_block_equals_the_literal_one_over_all_tokens(rope: bool, length: int) -> None:
    torch.manual_seed(length)
    config = replace(SMALL, rope=rope, attended_geometry=False)
    network = MiniDiffuser(config).eval()
    shared, block = network.encode(observation()).neck[0], network.neck[0]
    z, context = torch.randn(B, M, length, config.width), block.context(film_context(network))
    positions = samples()[0].unsqueeze(2) + 0.02 * torch.rand(B, M, length, 3)
    query, key, value = (
        t.unflatten(-1, (4, -1)) for t in block.qkv(block.attention_norm(z, context.attention)).chunk(3, -1)
    )
    query, key = block.query_norm(query), block.key_norm(key)

    def turned(x: Tensor, where: Tensor) -> Tensor:
        return rotate(x, rope_angles(where, x.shape[-1], config.rope_scale, config.rope_base)) if rope else x

    expected = torch.empty_like(z)
    for b, m in itertools.product(range(B), range(M)):  # row by row, as v2 eq. 11 has it; the keys come turned
        own = torch.einsum("lhd,khd->hlk", turned(query, positions)[b, m], turned(key, positions)[b, m])
        group = slice(b * 4, b * 4 + 4)  # heads of this observation
        present = [~tokens.bias[group][0, 0].isinf() for tokens in (shared.spatial, shared.words)]
        keys = [t.key[group][:, there] for t, there in zip((shared.spatial, shared.words), present, strict=True)]
        points = torch.einsum("lhd,hvd->hlv", turned(query, positions)[b, m], keys[0])
        words = torch.einsum("lhd,hvd->hlv", query[b, m], keys[1])
        weights = torch.softmax(torch.cat([own, points, words], dim=-1) * query.shape[-1] ** -0.5, dim=-1)
        shared_values = [
            t.value[group][:, there, : query.shape[-1]]
            for t, there in zip((shared.spatial, shared.words), present, strict=True)
        ]
        values = torch.cat([value[b, m].transpose(0, 1), *shared_values], dim=1)
        expected[b, m] = block.out(torch.einsum("hlv,hvd->lhd", weights, values).flatten(-2))
    places = Places(positions, block.angles(positions))
    torch.testing.assert_close(block._attend(z, places, context, shared), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_learns_under_bf16_autocast(variant: str) -> None:
    network = tiny_network(variant).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    noisy, steps = samples(network, 8)
    losses = []
    for _ in range(12):
        with torch.autocast("cpu", torch.bfloat16):
            moved = network.denoise(network.encode(observation()), noisy, steps)
        losses.append((moved - 0.05).abs().mean())
        optimizer.zero_grad()
        losses[-1].backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0]


@torch.no_grad()
@pytest.mark.parametrize("variant", ["small", "base", "flat", "diffuser actor"])
def test_a_cloud_does_not_notice_the_others_of_its_batch(variant: str) -> None:
    network, inputs = tiny_network(variant), observation()
    noisy, steps = samples(network)
    together = network.denoise(network.encode(inputs), noisy, steps)[:1]
    kept = torch.cat([torch.arange(P), torch.arange(P, P + 9)])  # the other cloud with nine points instead
    thinned = replace(inputs, points=inputs.points[kept], colors=inputs.colors[kept], batch=inputs.batch[kept])
    beside_few = network.denoise(network.encode(thinned), noisy, steps)[:1]
    torch.testing.assert_close(together, beside_few, atol=1e-5, rtol=1e-4)
    alone = Inputs(
        inputs.points[:P], inputs.colors[:P], inputs.batch[:P], inputs.tool_position[:1], inputs.tool_features[:1],
        inputs.instruction[:1], inputs.instruction_mask[:1],
    )  # fmt: skip
    by_itself = network.denoise(network.encode(alone), noisy[:1], steps[:1])
    torch.testing.assert_close(together, by_itself, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_the_points_of_a_flat_backbone_are_turned_by_their_positions() -> None:
    network = tiny_network("flat")
    before = network.denoise(network.encode(observation()), *samples())
    for block in network.backbone.blocks:
        block.config = replace(block.config, rope=False)
    after = network.denoise(network.encode(observation()), *samples())
    assert (before - after).abs().max() > 1e-5


@torch.no_grad()
def test_the_keypose_before_matters_where_there_was_one_and_nowhere_else() -> None:
    network, inputs = tiny_network("history"), observation()
    before = network.denoise(network.encode(inputs), *samples())
    elsewhere = replace(inputs, before_position=inputs.before_position + 0.1, before_features=-inputs.before_features)
    change = (network.denoise(network.encode(elsewhere), *samples()) - before).abs().amax((1, 2))
    assert change[0] > 1e-4
    assert change[1] == 0.0


def test_a_network_with_history_asks_for_it() -> None:
    inputs = replace(observation(), before_position=None, before_features=None, before_mask=None)
    with pytest.raises(ConfigurationError, match="before_position"):
        tiny_network("history").encode(inputs)
