"""Rollouts of a stopped evaluation are kept, and only those."""

from __future__ import annotations

from pathlib import Path

import pytest

from minidiffuser_ros.evaluation.rollout import Rollout
from minidiffuser_ros.evaluation.rollout_log import Pair, RolloutLog


def pair(task: str, seed: int) -> Pair:
    rollout = Rollout(
        task, seed, f"do {task}", seed % 2 == 0, 3, *(("", "") if seed % 2 == 0 else ("timeout", "keyposes spent"))
    )
    return rollout, Rollout(task, seed, f"do {task}", True, 2, "", "")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    return tmp_path


def test_what_was_added_is_there_when_the_log_is_opened_again(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "out" / "log.jsonl"
    first = RolloutLog(path, checkpoint, "none")
    pairs = [pair("push", 1), pair("push", 2), pair("stack", 1)]
    for each in pairs:
        first.add(each)
    assert list(RolloutLog(path, checkpoint, "none").pairs.values()) == pairs


def test_a_line_cut_off_in_mid_word_costs_that_scene_only(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = RolloutLog(path, checkpoint, "none")
    log.add(pair("push", 1))
    log.add(pair("push", 2))
    path.write_text(path.read_text()[:-20])
    again = RolloutLog(path, checkpoint, "none")
    assert list(again.pairs) == [("push", 1)]
    again.add(pair("push", 3))
    assert list(RolloutLog(path, checkpoint, "none").pairs) == [("push", 1), ("push", 3)]


def test_rollouts_of_other_weights_are_dropped(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    RolloutLog(path, checkpoint, "none").add(pair("push", 1))
    (checkpoint / "model.safetensors").write_bytes(b"better weights")
    assert RolloutLog(path, checkpoint, "none").pairs == {}


@pytest.mark.parametrize("content", ["", "no json", "[]", '{"checkpoint": 1}\n[1, 2]'])
def test_a_file_that_is_no_log_is_begun_anew(checkpoint: Path, tmp_path: Path, content: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(content)
    log = RolloutLog(path, checkpoint, "none")
    assert log.pairs == {}
    log.add(pair("push", 1))
    assert list(RolloutLog(path, checkpoint, "none").pairs) == [("push", 1)]
    log.close()
    assert not path.exists()


def test_lines_of_another_shift_are_dropped(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    RolloutLog(path, checkpoint, "none").add(pair("push", 1))
    assert RolloutLog(path, checkpoint, "camera").pairs == {}
