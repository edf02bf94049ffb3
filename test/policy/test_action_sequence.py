"""The policy over action sequences: units, seeds, one encoding for all samples, and what is on disk."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from minidiffuser_ros.contract.errors import CheckpointError, ConfigurationError, ObservationError
from minidiffuser_ros.diffusion.sampler import SamplerConfig
from minidiffuser_ros.model.action_config import ActionUNetConfig
from minidiffuser_ros.model.action_unet import ActionUNet
from minidiffuser_ros.policy.action_sequence import (
    ActionObservation,
    ActionPolicyConfig,
    ActionSequencePolicy,
    ValueRange,
)
from minidiffuser_ros.policy.checkpoint import PolicyConfig, load_checkpoint, save_checkpoint

MODEL = ActionUNetConfig(
    horizon=8, action_dim=3, state_dim=2, cameras=1, channels=(16, 32), step_width=16, image_size=(20, 24),
    image_channels=(16,), image_blocks=1, image_stride=2, keypoints=4, camera_features=4,
)  # fmt: skip
CONFIG = ActionPolicyConfig(
    MODEL,
    ValueRange((-2.0, 10.0, 5.0), (2.0, 30.0, 5.0)),
    ValueRange((0.0, -1.0), (100.0, 1.0)),
    sampler=SamplerConfig("ddpm", 5, 1.0),
)


def policy(config: ActionPolicyConfig = CONFIG) -> ActionSequencePolicy:
    torch.manual_seed(0)
    return ActionSequencePolicy(config, ActionUNet(config.model))


def observation(seed: int = 0) -> ActionObservation:
    rng = np.random.default_rng(seed)
    return ActionObservation(rng.uniform([0, -1], [100, 1], (2, 2)), rng.integers(0, 256, (1, 2, 3, 20, 24), np.uint8))


def test_sequences_come_in_the_users_units_within_their_range() -> None:
    drawn = policy().sample(observation(), num_samples=40)
    assert drawn.shape == (40, 8, 3)
    assert drawn.dtype == np.float64
    low, high = np.array(CONFIG.actions.low), np.array(CONFIG.actions.high)
    assert np.all((drawn >= low - 1e-6) & (drawn <= high + 1e-6))
    spread = np.ptp(drawn, axis=(0, 1)) / 2.0
    assert spread[0] > 0.5
    assert spread[1] > 2.5
    assert np.all(drawn[..., 2] == 5.0)  # never anything else in what was recorded


def test_an_equal_seed_gives_equal_sequences_and_samples_differ() -> None:
    first = policy().sample(observation(), 3, seed=1)
    np.testing.assert_array_equal(first, policy().sample(observation(), 3, seed=1))
    assert np.abs(first - policy().sample(observation(), 3, seed=2)).max() > 1e-2
    assert np.abs(first[0] - first[1]).max() > 1e-2
    assert np.abs(first - policy().sample(observation(1), 3, seed=1)).max() > 1e-3


def test_an_observation_is_encoded_once_for_all_samples_and_steps() -> None:
    chosen, rows = policy(), []
    chosen.network.observation.register_forward_hook(lambda *seen: rows.append(len(seen[-1])))
    chosen.sample(observation(), num_samples=6)
    assert rows == [1]


def test_states_are_normalised_by_their_range() -> None:
    seen = []
    chosen = policy()
    chosen.network.observation.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].states))
    states = np.array([[0.0, -1.0], [50.0, 1.0]])
    chosen.sample(replace(observation(), states=states))
    torch.testing.assert_close(seen[0], torch.tensor([[[-1.0, -1.0], [0.0, 1.0]]]))


def test_a_range_is_that_of_what_was_recorded_and_maps_there_and_back() -> None:
    recorded = np.random.default_rng(0).normal(size=(20, 8, 3)) * [1.0, 1e-3, 0.0] + [0.0, 5.0, 7.0]
    fitted = ValueRange.of(recorded)
    assert fitted.low == pytest.approx(recorded.min((0, 1)))
    values = torch.from_numpy(recorded)
    normalised = fitted.normalise(values)
    assert normalised[..., :2].amin((0, 1)).tolist() == pytest.approx([-1.0, -1.0])
    assert normalised[..., :2].amax((0, 1)).tolist() == pytest.approx([1.0, 1.0])
    assert not normalised[..., 2].any()
    torch.testing.assert_close(fitted.denormalise(normalised), values)


@pytest.mark.parametrize("ends", [((0.0,), (1.0, 2.0)), ((1.0,), (0.0,)), ((float("nan"),), (1.0,))])
def test_a_range_that_is_none_is_refused(ends: tuple[tuple[float, ...], tuple[float, ...]]) -> None:
    with pytest.raises(ConfigurationError, match="low and high must be"):
        ValueRange(*ends)


def test_ranges_of_another_size_than_the_network_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="range of actions must have 3 numbers, got 2"):
        replace(CONFIG, actions=ValueRange((0.0, 0.0), (1.0, 1.0)))
    with pytest.raises(ConfigurationError, match="range of states must have 2 numbers, got 0"):
        replace(CONFIG, states=ValueRange())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"states": np.zeros((1, 2))}, r"states of one observation must be \[2, 2\], got \[1, 2\]"),
        ({"states": None}, r"states of one observation must be \[2, 2\], got none"),
        ({"images": np.zeros((1, 2, 20, 24, 3), np.uint8)}, r"images .* \[1, 2, 3, 20, 24\], got \[1, 2, 20, 24, 3\]"),
        ({"states": np.full((2, 2), np.nan)}, "states hold values that are not finite"),
    ],
)
def test_an_observation_that_does_not_fit_is_refused_saying_why(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ObservationError, match=said):
        policy().sample(replace(observation(), **wrong))  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    policy().save(tmp_path / "policy")
    return tmp_path / "policy"


def test_a_policy_comes_back_as_it_was_to_half_precision(folder: Path) -> None:
    loaded = ActionSequencePolicy.load(folder)
    assert loaded.config == CONFIG
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    before, after = (p.sample(observation(), 4, seed=3) for p in (policy(), loaded))
    np.testing.assert_allclose(after / 10.0, before / 10.0, atol=0.02)
    loaded.save(folder)
    np.testing.assert_array_equal(ActionSequencePolicy.load(folder).sample(observation(), 4, seed=3), after)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_folder_without_one_of_the_files_is_no_checkpoint(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"it has no {name}; ActionSequencePolicy.save writes one"):
        ActionSequencePolicy.load(folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b"not json"),
        ("config.json", b'{"format": 1}'),
        ("config.json", b'{"format": 99}'),
        ("model.safetensors", b"\xff" * 64),
        ("model.safetensors", pickle.dumps({"weights": 1})),
    ],
)
def test_foreign_files_are_refused_naming_the_folder(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=str(folder)):
        ActionSequencePolicy.load(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"horizon": 9}},
        {"model": {"horizon": 8.0}},
        {"model": {"colour": 1}},
        {"actions": {"low": [0.0]}},
        {"states": {"high": [1.0, "nan"]}},
        {"sampler": {"num_inference_steps": 500}},
        {"action_spread": 0},
    ],
    ids=json.dumps,
)
def test_a_config_with_values_that_cannot_be_is_refused(folder: Path, change: dict[str, object]) -> None:
    values = json.loads((folder / "config.json").read_text())
    for key, value in change.items():
        values[key] = {**values[key], **value} if isinstance(value, dict) else value
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match="not a checkpoint of this package"):
        ActionSequencePolicy.load(folder)


def test_weights_of_another_network_are_refused(folder: Path) -> None:
    other = replace(MODEL, channels=(16, 16))
    save_checkpoint(folder, replace(CONFIG, model=other), policy().network.state_dict())
    with pytest.raises(CheckpointError, match="do not fit its config"):
        ActionSequencePolicy.load(folder)


def test_policies_of_keyposes_and_of_sequences_are_told_apart(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config.json lacks \['spec'\]"):
        load_checkpoint(folder)
    save_checkpoint(folder, PolicyConfig(), policy().network.state_dict())
    with pytest.raises(CheckpointError, match=r"config.json lacks \['actions', 'states'\]"):
        ActionSequencePolicy.load(folder)
