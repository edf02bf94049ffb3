"""The laws of the transformer over action sequences: one condition for all samples, no look ahead, nothing leaks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.model.action_condition import ActionInputs
from minidiffuser_ros.model.action_config import ActionTransformerConfig, named_sequence_config
from minidiffuser_ros.model.action_transformer import ActionTransformer, TransformerCondition

B, M = 2, 3
SMALL = ActionTransformerConfig(
    horizon=6, action_dim=3, state_dim=4, obs_steps=3, cameras=0, width=16, num_layers=3, image_size=(20, 24),
    image_channels=(16,), image_blocks=1, image_stride=2, keypoints=6, camera_features=5,
)  # fmt: skip
VARIANTS = {
    "states": SMALL,
    "states and two cameras": replace(SMALL, cameras=2),
    "one step": replace(SMALL, obs_steps=1),
}


def made(config: ActionTransformerConfig, dtype: torch.dtype = torch.float64) -> ActionTransformer:
    """Weights of a size that makes every part matter."""
    torch.manual_seed(0)
    network = ActionTransformer(config).to(dtype).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network


@pytest.fixture(scope="module", params=VARIANTS)
def network(request: pytest.FixtureRequest) -> ActionTransformer:
    return made(VARIANTS[request.param])


def observation(config: ActionTransformerConfig, batch: int = B) -> ActionInputs:
    g = torch.Generator().manual_seed(2)
    states = torch.randn(batch, config.obs_steps, config.state_dim, generator=g, dtype=torch.float64)
    shape = (batch, config.cameras, config.obs_steps, 3, *config.image_size)
    images = torch.rand(shape, generator=g, dtype=torch.float64)
    return ActionInputs(states, images if config.cameras else None)


def samples(config: ActionTransformerConfig) -> tuple[Tensor, Tensor]:
    """Noisy sequences [B, M, T, A] and timesteps [B, M], two of which are equal."""
    g = torch.Generator().manual_seed(1)
    actions = torch.randn(B, M, config.horizon, config.action_dim, generator=g, dtype=torch.float64)
    return actions, torch.tensor([[3, 57, 99], [57, 0, 12]])


@torch.no_grad()
def test_m_samples_of_one_observation_equal_m_observations_with_one_sample(network: ActionTransformer) -> None:
    inputs = observation(network.config)
    actions, steps = samples(network.config)
    repeated = ActionInputs(*(None if v is None else v.repeat_interleave(M, 0) for v in vars(inputs).values()))
    literal = network.denoise(network.encode(repeated), actions.flatten(0, 1)[:, None], steps.flatten()[:, None])
    together = network.denoise(network.encode(inputs), actions, steps)
    torch.testing.assert_close(together.flatten(0, 1), literal[:, 0])


@torch.no_grad()
def test_a_sample_does_not_notice_the_others(network: ActionTransformer) -> None:
    condition = network.encode(observation(network.config))
    actions, steps = samples(network.config)
    before = network.denoise(condition, actions, steps)
    actions[:, 1] += 1.0
    steps[:, 1] = 80
    after = network.denoise(condition, actions, steps)
    torch.testing.assert_close(before[:, [0, 2]], after[:, [0, 2]])
    assert (before[:, 1] - after[:, 1]).abs().max() > 1e-2


@torch.no_grad()
def test_an_action_does_not_see_later_ones_and_sees_all_before_it(network: ActionTransformer) -> None:
    condition = network.encode(observation(network.config))
    actions, steps = samples(network.config)
    before = network.denoise(condition, actions, steps)
    for changed in range(network.config.horizon):
        other = actions.clone()
        other[:, :, changed] += 1.0
        difference = (network.denoise(condition, other, steps) - before).abs().amax((0, 1, 3))
        assert (difference[:changed] == 0).all()
        assert (difference[changed:] > 1e-4).all()


@torch.no_grad()
def test_an_action_sees_the_observations_up_to_its_own_time_only() -> None:
    network = made(SMALL)
    inputs = observation(SMALL)
    actions, steps = samples(SMALL)
    before = network.denoise(network.encode(inputs), actions, steps)
    for changed in range(SMALL.obs_steps):
        states = inputs.states.clone()
        states[:, changed] += 1.0
        after = network.denoise(network.encode(ActionInputs(states)), actions, steps)
        difference = (after - before).abs().amax((0, 1, 3))
        assert (difference[:changed] == 0).all()
        assert (difference[changed:] > 1e-4).all()


@torch.no_grad()
def test_keys_and_values_of_all_steps_at_once_are_those_of_each_step(network: ActionTransformer) -> None:
    condition = network.encode(observation(network.config))
    actions, _ = samples(network.config)
    walk = (99, 40, 0)
    for _ in range(2):  # the second time those of the diffusion steps were kept
        for step, context in zip(walk, network.contexts_of_steps(condition, walk), strict=True):
            expected = network.denoise(condition, actions, torch.full((B, M), step))
            torch.testing.assert_close(network.denoise(condition, actions, context), expected, atol=1e-6, rtol=1e-6)


@torch.no_grad()
def test_kept_keys_and_values_follow_the_weights() -> None:
    network = made(SMALL)
    condition = network.encode(observation(SMALL))
    before = network.contexts_of_steps(condition, (5, 2))
    again = network.contexts_of_steps(condition, (5, 2))
    assert torch.equal(before[1][2].key, again[1][2].key)
    network.layers[1].key_value.bias += 1.0
    after = network.contexts_of_steps(condition, (5, 2))
    assert (after[0][1].key[:, :, 0] - before[0][1].key[:, :, 0]).abs().min() > 0.9


@torch.no_grad()
def test_diffusion_steps_are_encoded_once_a_policy_and_observations_once_each() -> None:
    network, rows = made(SMALL), []
    network.encoder.register_forward_hook(lambda *seen: rows.append(tuple(seen[-1].shape[:-1])))
    for seed in range(3):
        condition = network.encode(observation(SMALL, 1))
        for context in network.contexts_of_steps(condition, (9, 5, 1)):
            network.denoise(condition, samples(SMALL)[0][:1], context)
        assert rows == [(1, 3), (3,), *[(1, 3)] * seed]


@torch.no_grad()
def test_the_decoder_is_that_of_torch_with_the_masks_of_the_paper(network: ActionTransformer) -> None:
    config = network.config
    inputs, (actions, steps) = observation(config), samples(config)
    decoder = torch.nn.TransformerDecoder(
        torch.nn.TransformerDecoderLayer(
            config.width, config.num_heads, config.mlp_ratio * config.width, 0.0, "gelu", batch_first=True,
            norm_first=True, dtype=torch.float64,
        ),
        config.num_layers,
    ).eval()  # fmt: skip
    for theirs, ours in zip(decoder.layers, network.layers, strict=True):
        kv = ours.key_value
        values = {
            "self_attn.in_proj_weight": ours.qkv.weight, "self_attn.in_proj_bias": ours.qkv.bias,
            "self_attn.out_proj.weight": ours.self_out.weight, "self_attn.out_proj.bias": ours.self_out.bias,
            "multihead_attn.in_proj_weight": torch.cat([ours.query.weight, kv.weight]),
            "multihead_attn.in_proj_bias": torch.cat([ours.query.bias, kv.bias]),
            "multihead_attn.out_proj.weight": ours.cross_out.weight,
            "multihead_attn.out_proj.bias": ours.cross_out.bias,
            "linear1.weight": ours.mlp[0].weight, "linear1.bias": ours.mlp[0].bias,
            "linear2.weight": ours.mlp[2].weight, "linear2.bias": ours.mlp[2].bias,
        }  # fmt: skip
        for index, norm in enumerate((ours.self_norm, ours.cross_norm, ours.mlp_norm), start=1):
            values |= {f"norm{index}.weight": norm.weight, f"norm{index}.bias": norm.bias}
        theirs.load_state_dict(values)
    time = network.step(steps.flatten()).double().unsqueeze(1)
    seen = network.seen(network.observation.steps(inputs)).repeat_interleave(M, 0)
    memory = network.encoder(torch.cat([time, seen], dim=1) + network.shared_places)
    t, s = torch.meshgrid(torch.arange(config.horizon), torch.arange(1 + config.obs_steps), indexing="ij")
    causal = torch.nn.Transformer.generate_square_subsequent_mask(config.horizon, dtype=torch.float64)
    x = network.action(actions.flatten(0, 1)) + network.places
    expected = network.out(network.norm(decoder(x, memory, tgt_mask=causal, memory_mask=~(t >= s - 1))))
    found = network.denoise(network.encode(inputs), actions, steps)
    torch.testing.assert_close(found.flatten(0, 1), expected, atol=1e-9, rtol=1e-9)


def test_every_parameter_takes_part(network: ActionTransformer) -> None:
    network.zero_grad()
    actions, steps = samples(network.config)
    network.denoise(network.encode(observation(network.config)), actions, steps).square().mean().backward()
    idle = {name for name, p in network.named_parameters() if p.grad is None or p.grad.norm() < 1e-12}
    # A score added to every place of an image is the same for all: softmax removes it.
    assert {name for name in idle if not name.endswith("scores.bias")} == set()


def test_the_named_transformers_have_eight_layers_and_the_published_one_its_sizes() -> None:
    published, small = (named_sequence_config(f"action_transformer{suffix}") for suffix in ("", "_small"))
    assert isinstance(published, ActionTransformerConfig)
    assert (published.width, published.num_heads, published.num_layers, published.horizon) == (256, 4, 8, 16)
    assert isinstance(small, ActionTransformerConfig)
    assert small.num_layers == 8
    network = ActionTransformer(replace(published, cameras=0))
    assert 8.5e6 < sum(p.numel() for p in network.parameters()) < 9.5e6


@pytest.mark.parametrize("wrong", ["longer", "more actions", "another batch", "timesteps"])
def test_sequences_of_another_shape_are_refused(wrong: str) -> None:
    network = made(SMALL)
    actions, steps = samples(SMALL)
    changed = {
        "longer": (actions.repeat(1, 1, 2, 1), steps), "more actions": (actions.repeat(1, 1, 1, 2), steps),
        "another batch": (actions[:1], steps[:1]), "timesteps": (actions, steps[:, :1]),
    }  # fmt: skip
    with pytest.raises(ConfigurationError, match=r"actions must be \[B, M, horizon, action_dim\].* horizon 6 and"):
        network.denoise(network.encode(observation(SMALL)), *changed[wrong])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"width": 15}, "width must be even and divisible by num_heads, got 15"),
        ({"width": 18}, "divisible by num_heads, got 18 with 4 heads"),
        ({"num_layers": 0}, "num_layers must be above 0"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
    ],
)
def test_sizes_that_cannot_be_are_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        replace(SMALL, **change)


def test_layers_over_states_see_each_by_itself() -> None:
    network = made(replace(SMALL, state_mlp=(12, 10)))
    seen = observation(SMALL)
    assert seen.states is not None
    earlier = seen.states.clone()
    earlier[:, 0] += 1.0
    tokens, changed = (network.encode(replace(seen, states=s)).tokens for s in (seen.states, earlier))
    assert changed[:, 1:].equal(tokens[:, 1:])
    assert (changed[:, 0] - tokens[:, 0]).abs().amax() > 1e-4


def test_the_condition_is_what_the_samples_leave_alone() -> None:
    network = made(SMALL)
    condition = network.encode(observation(SMALL))
    assert isinstance(condition, TransformerCondition)
    kept = condition.tokens.clone()
    network.denoise(condition, *samples(SMALL))
    assert torch.equal(kept, condition.tokens)
    assert condition.embedding.shape == (B, SMALL.obs_steps * SMALL.width)
