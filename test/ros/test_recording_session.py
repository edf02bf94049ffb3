"""A session of demonstrations as a user starts it: teleoperated, recorded and labelled without anybody's hand."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import numpy as np
import pytest
from marked import marked_processes, start_marked
from spinning import eventually

from minidiffuser_ros.cli.main import EXIT_INTERRUPTED, EXIT_USER_ERROR, main
from minidiffuser_ros.contract.episode import SUCCESS
from minidiffuser_ros.episodes.audit import audit_episode
from minidiffuser_ros.episodes.library import partial_episodes, read_info, saved_episodes
from minidiffuser_ros.episodes.samples import demonstration_from_episode
from minidiffuser_ros.geometry.rotation import angle_between_deg
from minidiffuser_ros.simulation.tabletop import shared_world

pytestmark = [pytest.mark.ros, pytest.mark.slow, pytest.mark.timeout(300)]

TASK, SEED = "push_button", 3
SESSION = (
    "-m",
    "minidiffuser_ros.cli.main",
    "record",
    "--tasks",
    TASK,
    "--seed",
    str(SEED),
    "--per-task",
    "1",
    "--out",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a session was interrupted while it recorded, and then finished by the same command."""
    root = tmp_path_factory.mktemp("episodes")
    process = start_marked(*SESSION, str(root))
    eventually(lambda: partial_episodes(root), timeout_s=90.0)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == EXIT_INTERRUPTED, output
    assert marked_processes() == []
    assert partial_episodes(root) == []
    assert saved_episodes(root) == [], "half an episode is none"
    process = start_marked(*SESSION, str(root))
    output, _ = process.communicate(timeout=150)
    assert process.returncode == 0, output
    assert marked_processes() == []
    return root


def test_the_episode_is_saved_labelled_and_clean(root: Path) -> None:
    (folder,) = saved_episodes(root)
    info = read_info(folder)
    assert (info.task, info.seed, info.outcome, info.operator) == (TASK, SEED, SUCCESS, "scripted")
    assert audit_episode(folder).problems == ()


def test_every_keypose_that_the_expert_had_in_mind_is_found_in_order(root: Path) -> None:
    (folder,) = saved_episodes(root)
    demonstration = demonstration_from_episode(folder)
    world = shared_world()
    assert demonstration.instructions[0] == world.reset(TASK, SEED)
    found = iter(demonstration.targets)  # with others between, should a busy machine have stopped the arm on its way
    for keypose in world.expert():
        assert any(
            np.linalg.norm(target[:3] - keypose.position) < 0.004
            and angle_between_deg(target[3:7], keypose.quat_wxyz) < 2.0
            and target[7] == keypose.opening
            for target in found
        ), f"nothing found at {keypose.position}"
    np.testing.assert_array_equal(demonstration.targets[-1], demonstration.targets[-2])


def test_a_finished_session_records_nothing_more(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = saved_episodes(root)
    assert main(["record", "--tasks", TASK, "--seed", str(SEED), "--per-task", "1", "--out", str(root)]) == 0
    assert "already" in capsys.readouterr().out
    assert saved_episodes(root) == before


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(["--tasks", "fold_laundry"], "fold_laundry"), (["--per-task", "0"], "--per-task"), (["--seed", "-1"], "--seed")],
)
def test_a_session_that_makes_no_sense_is_refused_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], word: str
) -> None:
    assert main(["record", "--out", str(tmp_path / "none"), *arguments]) == EXIT_USER_ERROR
    assert word in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["record", "--out", str(tmp_path / "file")]) == EXIT_USER_ERROR
    assert "cannot make the folder" in capsys.readouterr().err
