"""The card says what the files of a checkpoint say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from minidiffuser_ros.contract.errors import CheckpointError
from minidiffuser_ros.evaluation.model_card import write_model_card
from minidiffuser_ros.policy.checkpoint import PolicyConfig, save_checkpoint

RATE = {"success": 0.5, "low": 0.4, "high": 0.6, "n": 10}
REPORT = {"tasks": {"push_button": RATE}, "expert": {"push_button": RATE}}
SHARES = {"within_1cm": 0.125, "within_2cm": 0.25, "gripper_right": 0.75, "steps": 64}


def card(folder: Path, **held_out: Any) -> str:
    save_checkpoint(folder, PolicyConfig(), {})
    record = {
        "config": {"batch_size": 32, "num_samples": 64, "learning_rate": 2e-3, "threads": 1},
        "steps": 2000, "minutes": 60.0, "device": "cpu", "parameters": 4_700_000,
        "demonstrations": {"push_button": 800}, "keypose_steps": 3200, "held_out": held_out,
    }  # fmt: skip
    (folder / "training.json").write_text(json.dumps(record))
    return write_model_card(folder, REPORT, 100000).read_text()


def test_the_card_names_the_held_out_shares_of_the_training(tmp_path: Path) -> None:
    text = card(tmp_path, **SHARES, rotation_within_5deg=0.625, tasks={})
    assert (
        "On 64 held-out keyposes 12.5% of the sampled positions lie within 1 cm of the expert's, 25.0% within 2 cm; "
        "the rotation is within 5° of the expert's in 62.5%, the gripper is right in 75.0%."
    ) in text


def test_scenes_that_may_have_been_trained_on_are_not_called_unseen(tmp_path: Path) -> None:
    card(tmp_path)
    texts = [write_model_card(tmp_path, REPORT, seed).read_text() for seed in (0, 100000)]
    assert ["none of them used in training" in text for text in texts] == [False, True]


def test_a_folder_without_a_record_is_refused_saying_so(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, PolicyConfig(), {})
    with pytest.raises(CheckpointError, match=r"training\.json does not say how the policy was trained"):
        write_model_card(tmp_path, REPORT, 100000)
