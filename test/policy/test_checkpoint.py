"""A policy on disk: it comes back as it was, and whatever is not one is refused by name."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from minidiffuser_ros.contract.errors import CheckpointError, ConfigurationError
from minidiffuser_ros.diffusion.joint import JointSchedule
from minidiffuser_ros.diffusion.sampler import SamplerConfig
from minidiffuser_ros.diffusion.schedule import ScheduleConfig
from minidiffuser_ros.model.config import MiniDiffuserConfig
from minidiffuser_ros.model.mini_diffuser import MiniDiffuser
from minidiffuser_ros.policy.checkpoint import PolicyConfig, load_checkpoint, new_policy, save_checkpoint
from minidiffuser_ros.policy.policy import Policy

MODEL = MiniDiffuserConfig(
    encoder_channels=(16, 16, 24, 24), decoder_channels=(16, 16, 24), head_channels=8, width=32, neck_levels=(3, 0)
)
DIFFUSED = replace(MODEL, rotation="diffused", head_levels=())
CONFIG = PolicyConfig(
    model=MODEL,
    sampler=SamplerConfig("ddpm", 7),
    num_candidates=3,
    instructions=("push the red button", "stack the red block on the blue block"),
)


def weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return MiniDiffuser(MODEL).state_dict()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "policy", CONFIG, weights())
    return tmp_path / "policy"


def test_config_and_weights_come_back_to_half_precision(folder: Path) -> None:
    config, loaded = load_checkpoint(folder)
    assert config == CONFIG
    for name, value in weights().items():
        torch.testing.assert_close(loaded[name].float(), value.float(), rtol=1e-3, atol=1e-4)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert Policy.load(folder).config == CONFIG


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_folder_without_one_of_the_files_is_no_checkpoint(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"it has no {name}; train one with"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b"[" * 100_000),
        ("config.json", b"not json"),
        ("config.json", b"[]"),
        ("config.json", b'{"format": 1}'),
        ("config.json", b'{"format": 99}'),
        ("model.safetensors", b""),
        ("model.safetensors", b"\xff" * 64),
        ("model.safetensors", pickle.dumps({"weights": 1})),
    ],
)
def test_foreign_files_are_refused_naming_the_folder(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=str(folder)):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"width": 33}},
        {"model": {"width": 96.0}},
        {"model": {"num_heads": 0}},
        {"model": {"grid_size": 0.0}},
        {"model": {"encoder_channels": [16, "a", 24, 24]}},
        {"model": {"colour": 1}},
        {"model": 3},
        {"schedule": {"beta_schedule": ["z"]}},
        {"sampler": {"kind": "magic"}},
        {"sampler": {"num_inference_steps": 500}},
        {"num_candidates": 0},
        {"num_candidates": 2.5},
        {"position_mean": "nan"},
        {"instructions": [1, 2]},
        {"rotation_schedule": 3},
        {"rotation_schedule": {}},
    ],
    ids=json.dumps,
)
def test_a_config_with_values_that_cannot_be_is_refused(folder: Path, change: dict[str, object]) -> None:
    values = json.loads((folder / "config.json").read_text())
    for key, value in change.items():
        values[key] = {**values.get(key, {}), **value} if isinstance(value, dict) else value
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match="not a checkpoint of this package"):
        load_checkpoint(folder)


def test_a_config_from_before_there_were_diffused_rotations_means_what_it_meant(folder: Path) -> None:
    values = json.loads((folder / "config.json").read_text())
    assert "rotation_schedule" not in values
    del values["model"]["rotation"]
    (folder / "config.json").write_text(json.dumps(values))
    assert load_checkpoint(folder)[0] == CONFIG
    (folder / "config.json").write_text(json.dumps({**values, "rotation_schedule": None}))
    assert load_checkpoint(folder)[0] == CONFIG


def test_the_schedules_of_position_and_rotation_come_back_and_what_is_missing_has_its_default(tmp_path: Path) -> None:
    config = new_policy(DIFFUSED, CONFIG.spec, CONFIG.instructions)
    assert isinstance(config.noise_schedule(), JointSchedule)
    config = replace(config, rotation_schedule=ScheduleConfig(prediction_type="v_prediction"))
    save_checkpoint(tmp_path, config, MiniDiffuser(DIFFUSED).state_dict())
    assert Policy.load(tmp_path).config == config
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**values, "rotation_schedule": {}}))
    assert load_checkpoint(tmp_path)[0].rotation_schedule == ScheduleConfig()


@pytest.mark.parametrize("model", [MODEL, DIFFUSED], ids=["bins", "diffused"])
def test_a_schedule_asked_for_is_that_of_everything_diffused_and_stays_with_the_policy(
    model: MiniDiffuserConfig, tmp_path: Path
) -> None:
    flow = ScheduleConfig(beta_schedule="flow_matching")
    config = new_policy(model, schedule=flow)
    assert config.schedule == flow
    assert config.rotation_schedule == (flow if model is DIFFUSED else None)
    save_checkpoint(tmp_path, config, MiniDiffuser(model).state_dict())
    assert load_checkpoint(tmp_path)[0] == config


@pytest.mark.parametrize(
    ("model", "schedule", "expected"),
    [
        (DIFFUSED, None, "a rotation_schedule belongs to .*, got none with rotation 'diffused'$"),
        (MODEL, ScheduleConfig(), "a rotation_schedule belongs to .*, got 'squaredcos_cap_v2' with rotation 'bins'$"),
        (
            DIFFUSED,
            ScheduleConfig(num_train_timesteps=50),
            r"the same num_train_timesteps .*, got \[100, 50\] timesteps",
        ),
    ],
)
def test_schedules_that_do_not_fit_the_network_are_refused_in_one_sentence(
    model: MiniDiffuserConfig, schedule: ScheduleConfig | None, expected: str
) -> None:
    with pytest.raises(ConfigurationError, match=expected):
        PolicyConfig(model=model, rotation_schedule=schedule)


def test_weights_of_another_network_are_refused(folder: Path) -> None:
    save_checkpoint(folder, PolicyConfig(), weights())
    with pytest.raises(CheckpointError, match="do not fit its config"):
        Policy.load(folder)
