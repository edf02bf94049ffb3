"""The laws of the U-Net over action sequences: samples share the encoded observation and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from minidiffuser_ros.contract.errors import ConfigurationError, ObservationError
from minidiffuser_ros.model.action_condition import ActionInputs, expected_places
from minidiffuser_ros.model.action_config import ActionUNetConfig, named_action_config
from minidiffuser_ros.model.action_unet import ActionCondition, ActionUNet

B, M = 2, 3
SMALL = ActionUNetConfig(
    horizon=8, action_dim=3, state_dim=4, cameras=0, channels=(16, 32), groups=4, step_width=16, image_size=(20, 24),
    image_channels=(16, 32), image_blocks=1, image_stride=2, keypoints=6, camera_features=5,
)  # fmt: skip
VARIANTS = {
    "states": SMALL,
    "states through an MLP": replace(SMALL, state_mlp=(12, 10)),
    "images": replace(SMALL, state_dim=0, cameras=1),
    "states and two cameras": replace(SMALL, cameras=2),
    "one level": replace(SMALL, channels=(16,), horizon=5),
    "three levels": replace(SMALL, channels=(8, 16, 16), image_blocks=2),
}


@pytest.fixture(scope="module", params=VARIANTS)
def network(request: pytest.FixtureRequest) -> ActionUNet:
    torch.manual_seed(0)
    return ActionUNet(VARIANTS[request.param]).eval()


def observation(config: ActionUNetConfig, batch: int = B, dtype: torch.dtype = torch.float32) -> ActionInputs:
    g = torch.Generator().manual_seed(2)
    states = torch.randn(batch, config.obs_steps, config.state_dim, generator=g, dtype=dtype)
    images = torch.rand(batch, config.cameras, config.obs_steps, 3, *config.image_size, generator=g, dtype=dtype)
    return ActionInputs(states if config.state_dim else None, images if config.cameras else None)


def samples(config: ActionUNetConfig, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Noisy sequences [B, M, T, A] and timesteps [B, M], two of which are equal."""
    g = torch.Generator().manual_seed(1)
    actions = torch.randn(B, M, config.horizon, config.action_dim, generator=g, dtype=dtype)
    return actions, torch.tensor([[3, 57, 99], [57, 0, 12]])


@torch.no_grad()
def test_one_pass_with_m_samples_equals_m_passes(network: ActionUNet) -> None:
    condition = network.encode(observation(network.config))
    actions, steps = samples(network.config)
    together = network.denoise(condition, actions, steps)
    alone = [network.denoise(condition, actions[:, i : i + 1], steps[:, i : i + 1]) for i in range(M)]
    torch.testing.assert_close(together, torch.cat(alone, dim=1), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_m_samples_of_one_observation_equal_m_observations_with_one_sample(network: ActionUNet) -> None:
    inputs = observation(network.config)
    actions, steps = samples(network.config)
    repeated = ActionInputs(*(None if v is None else v.repeat_interleave(M, 0) for v in vars(inputs).values()))
    literal = network.denoise(network.encode(repeated), actions.flatten(0, 1)[:, None], steps.flatten()[:, None])
    together = network.denoise(network.encode(inputs), actions, steps)
    torch.testing.assert_close(together.flatten(0, 1), literal[:, 0], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_sample_does_not_notice_the_others(network: ActionUNet) -> None:
    condition = network.encode(observation(network.config))
    actions, steps = samples(network.config)
    before = network.denoise(condition, actions, steps)
    actions[:, 1] += 1.0
    steps[:, 1] = 80
    after = network.denoise(condition, actions, steps)
    torch.testing.assert_close(before[:, [0, 2]], after[:, [0, 2]], atol=1e-6, rtol=1e-5)
    assert (before[:, 1] - after[:, 1]).abs().max() > 1e-2


@torch.no_grad()
def test_changing_one_observation_changes_only_its_own_samples(network: ActionUNet) -> None:
    inputs = observation(network.config)
    before = network.denoise(network.encode(inputs), *samples(network.config))
    for value in (inputs.states, inputs.images):
        if value is not None:
            value[1] = value[1].flip(-1)
    after = network.denoise(network.encode(inputs), *samples(network.config))
    torch.testing.assert_close(before[0], after[0], atol=1e-6, rtol=1e-5)
    assert (before[1] - after[1]).abs().amax((1, 2)).min() > 1e-4


@torch.no_grad()
@pytest.mark.parametrize("changed", ["states", "first camera", "second camera", "older step"])
def test_every_part_of_an_observation_matters(changed: str) -> None:
    torch.manual_seed(0)
    network = ActionUNet(VARIANTS["states and two cameras"]).eval()
    inputs = observation(network.config)
    before = network.encode(inputs).features
    part = {
        "states": inputs.states, "first camera": inputs.images[:, 0], "second camera": inputs.images[:, 1],
        "older step": inputs.images[:, :, 0],
    }  # fmt: skip
    part[changed] += 0.2 * torch.rand_like(part[changed])
    assert (network.encode(inputs).features - before).abs().max() > 1e-3


def test_the_gradient_with_m_samples_is_the_mean_of_m_gradients(network: ActionUNet) -> None:
    torch.manual_seed(0)
    precise = ActionUNet(network.config).double()
    inputs = observation(network.config, dtype=torch.float64)
    actions, steps = samples(network.config, torch.float64)

    def gradient(chosen: list[int]) -> Tensor:
        precise.zero_grad()
        out = precise.denoise(precise.encode(inputs), actions[:, chosen], steps[:, chosen])
        out.square().mean().backward()
        return torch.cat([p.grad.flatten() for p in precise.parameters() if p.grad is not None])

    mean = torch.stack([gradient([i]) for i in range(M)]).mean(0)
    whole = gradient(list(range(M)))
    torch.testing.assert_close(whole, mean, atol=1e-12, rtol=1e-9)
    assert (whole - gradient([0])).abs().max() > 1e-4


@torch.no_grad()
def test_the_split_modulation_equals_the_published_one_over_the_concatenation(network: ActionUNet) -> None:
    precise = ActionUNet(network.config).double()
    condition = precise.encode(observation(network.config, dtype=torch.float64))
    steps = samples(network.config)[1]
    step = precise.step(steps).double()
    seen = condition.features.unsqueeze(1).expand(-1, M, -1)
    for block, film in zip(precise._blocks(), condition.films, strict=True):
        published = block.film(F.mish(torch.cat([step, seen], dim=-1)))
        torch.testing.assert_close(block.step_film(F.mish(step)) + film.unsqueeze(1), published, atol=1e-12, rtol=0)
        assert (film.unsqueeze(1) - published).abs().max() > 1e-3


def test_an_observation_is_encoded_once_whatever_m_is(network: ActionUNet) -> None:
    rows: list[int] = []
    parts = [network.observation, *(block.film for block in network._blocks())]
    hooks = [network.observation.register_forward_hook(lambda *seen: rows.append(len(seen[-1])))]
    hooks += [part.register_forward_hook(lambda *_: rows.append(-1)) for part in parts[1:]]
    condition = network.encode(observation(network.config))
    for _ in range(2):
        network.denoise(condition, *samples(network.config))
    for hook in hooks:
        hook.remove()
    assert rows == [B]
    assert [tuple(f.shape) for f in condition.films] == [(B, block.film.out_features) for block in network._blocks()]


def test_a_step_that_samples_share_is_embedded_once(network: ActionUNet) -> None:
    rows: list[int] = []
    hook = network.step.register_forward_hook(lambda *seen: rows.append(len(seen[-1])))
    condition = network.encode(observation(network.config))
    actions, steps = samples(network.config)
    network.denoise(condition, actions, steps)
    network.denoise(condition, actions, torch.full_like(steps, 7))
    hook.remove()
    assert rows == [5, 1]


@torch.no_grad()
def test_samples_never_change_the_condition(network: ActionUNet) -> None:
    condition = network.encode(observation(network.config))
    kept = ActionCondition(condition.features.clone(), [film.clone() for film in condition.films])
    network.denoise(condition, *samples(network.config))
    assert kept.features.equal(condition.features)
    assert all(a.equal(b) for a, b in zip(kept.films, condition.films, strict=True))


def test_every_parameter_takes_part(network: ActionUNet) -> None:
    network.zero_grad()
    network.denoise(network.encode(observation(network.config)), *samples(network.config)).square().mean().backward()
    idle = {name for name, p in network.named_parameters() if p.grad is None or p.grad.norm() < 1e-9}
    # A score added to every place of an image is the same for all: softmax removes it.
    assert {name for name in idle if not name.endswith("scores.bias")} == set()


@pytest.mark.parametrize("wrong", ["permuted", "longer", "more actions", "another batch", "timesteps"])
def test_sequences_of_another_shape_are_refused(wrong: str) -> None:
    network = ActionUNet(SMALL)
    condition = network.encode(observation(SMALL))
    actions, steps = samples(SMALL)
    changed = {
        "permuted": (actions.transpose(2, 3), steps),
        "longer": (actions.repeat(1, 1, 2, 1), steps),
        "more actions": (actions.repeat(1, 1, 1, 2), steps),
        "another batch": (actions[:1], steps[:1]),
        "timesteps": (actions, steps[:, :1]),
    }
    with pytest.raises(ConfigurationError, match=r"actions must be \[B, M, horizon, action_dim\].* horizon 8 and"):
        network.denoise(condition, *changed[wrong])


def test_observations_of_another_shape_are_refused_naming_all_that_is_wrong() -> None:
    network = ActionUNet(VARIANTS["states and two cameras"])
    inputs = observation(network.config)
    wrong = ActionInputs(inputs.states[:, :1], inputs.images.transpose(-1, -2))
    with pytest.raises(ObservationError, match=r"states .*\[2, 4\], got \[1, 4\]; images .*20, 24\], got .*24, 20\]"):
        network.encode(wrong)
    with pytest.raises(ObservationError, match=r"images of one observation must be .*, got none"):
        network.encode(replace(inputs, images=None))
    with pytest.raises(ObservationError, match="images of one observation must be none"):
        ActionUNet(SMALL).encode(inputs)


@torch.no_grad()
def test_the_spatial_softmax_finds_the_place_of_a_bright_dot() -> None:
    scores = torch.zeros(4, 9, 13)
    rows, columns = torch.tensor([0, 4, 8, 2]), torch.tensor([0, 6, 3, 12])
    scores[torch.arange(4), rows, columns] = 40.0
    expected = torch.stack([columns / 6.0 - 1.0, rows / 4.0 - 1.0], dim=-1)
    torch.testing.assert_close(expected_places(scores), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(expected_places(torch.zeros(2, 9, 13)), torch.zeros(2, 2), atol=1e-6, rtol=0)


@torch.no_grad()
def test_bytes_and_floats_of_the_same_image_are_seen_alike() -> None:
    network = ActionUNet(VARIANTS["images"]).eval()
    g = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (B, 1, 2, 3, 20, 24), generator=g, dtype=torch.uint8)
    conditions = [network.encode(ActionInputs(images=i)).features for i in (pixels, pixels / 255.0)]
    torch.testing.assert_close(*conditions, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_an_image_does_not_notice_the_others_of_its_batch() -> None:
    torch.manual_seed(0)
    network = ActionUNet(VARIANTS["states and two cameras"]).train()
    inputs = observation(network.config)
    alone = network.encode(ActionInputs(inputs.states[:1], inputs.images[:1])).features
    torch.testing.assert_close(network.encode(inputs).features[:1], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("name", "millions"), [("action_unet", 78.30), ("action_unet_small", 0.45)])
def test_a_named_network_has_its_size(name: str, millions: float) -> None:
    with torch.device("meta"):
        network = ActionUNet(named_action_config(name))
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"horizon": 18}, "horizon must be a multiple of 4.*got 18"),
        ({"horizon": 15}, "horizon must be a multiple of 4.*got 15"),
        ({"channels": ()}, "channels must be above 0"),
        ({"channels": (60, 128)}, "groups must divide channels"),
        ({"kernel": 4}, "kernel must be odd"),
        ({"step_width": 31}, "step_width even"),
        ({"obs_steps": 0}, "obs_steps must be above 0, got 0"),
        ({"state_dim": 0, "cameras": 0}, "needs states or images"),
        ({"state_dim": -1}, "needs states or images"),
        ({"state_dim": 0, "state_mlp": (8,)}, "state_mlp needs a state_dim"),
        ({"state_mlp": (0,)}, "state_mlp must be above 0"),
        ({"image_channels": (16, 40)}, "multiples of 16"),
        ({"image_size": (96, 32)}, "image_size must be above 32"),
    ],
)
def test_sizes_that_cannot_be_are_refused_by_name(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        replace(ActionUNetConfig(), **wrong)


def test_an_unknown_name_is_answered_with_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r"'huge'.*action_unet, action_unet_small"):
        named_action_config("huge")
