"""Between two policies' weights: each number a share of the way, the sentences of both, and no other networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_checkpoint import CONFIG, DIFFUSED, weights

from minidiffuser_ros.cli.main import main
from minidiffuser_ros.contract.errors import CheckpointError, ConfigurationError
from minidiffuser_ros.model.mini_diffuser import MiniDiffuser
from minidiffuser_ros.policy.average import average
from minidiffuser_ros.policy.checkpoint import load_checkpoint, new_policy, save_checkpoint
from minidiffuser_ros.training.state import RECORD

NEW = "put the ring on the red peg"


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """A policy, and one of another sentence whose numbers all are one larger."""
    base, tuned = tmp_path / "base", tmp_path / "tuned"
    save_checkpoint(base, CONFIG, weights())
    larger = {name: value + 1.0 for name, value in weights().items()}
    save_checkpoint(tuned, replace(CONFIG, instructions=(*CONFIG.instructions[1:], NEW)), larger)
    (tuned / RECORD).write_text('{"steps": 400, "minutes": 6.0}')
    return base, tuned


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_every_number_lies_its_share_of_the_way_from_one_policy_to_the_other(
    two: tuple[Path, Path], share: float
) -> None:
    config, mean = average(*two, share)
    for name, value in load_checkpoint(two[0])[1].items():
        torch.testing.assert_close(mean[name], value.float() + share, atol=2e-3, rtol=0)
    assert config == replace(CONFIG, instructions=(*CONFIG.instructions, NEW))


def test_the_command_leaves_a_policy_that_says_what_it_was_made_of_and_overwrites_none(
    two: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["average", str(two[0]), str(two[1]), "--out", str(tmp_path / "both")]
    assert main(words) == 0
    assert load_checkpoint(tmp_path / "both")[0].instructions[-1] == NEW
    assert '"steps": 400' in (tmp_path / "both" / RECORD).read_text()
    assert '"averaged": {' in (tmp_path / "both" / RECORD).read_text()
    assert main(words) == 2
    assert "already holds a policy" in capsys.readouterr().err


def test_policies_that_differ_in_more_than_their_sentences_are_refused(two: tuple[Path, Path]) -> None:
    save_checkpoint(two[1], new_policy(DIFFUSED, CONFIG.spec), MiniDiffuser(DIFFUSED).state_dict())
    with pytest.raises(CheckpointError, match=r"differ in model, .*: only of policies that one was trained on from"):
        average(*two, 0.5)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_outside_the_way_is_refused(two: tuple[Path, Path], share: float) -> None:
    with pytest.raises(ConfigurationError, match="lies between 0 and 1, got"):
        average(*two, share)
