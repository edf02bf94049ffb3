"""An episode becomes the demonstration that the expert gave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from recorded_episode import Bag, make_info, record_demonstration

from minidiffuser_ros.contract.episode import FAILURE, SUCCESS
from minidiffuser_ros.contract.errors import EpisodeError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.contract.observation import ObservationSpec
from minidiffuser_ros.episodes.bag import EpisodeReader
from minidiffuser_ros.episodes.demonstration import load_demonstration, save_demonstration
from minidiffuser_ros.episodes.keyposes import episode_keyposes, joint_speeds
from minidiffuser_ros.episodes.samples import STILL_SPEED, demonstration_from_episode, views_before


def assert_follows(targets: np.ndarray, expert: list[Keypose]) -> None:
    """Every target is the expert's keypose, and the last one comes twice."""
    assert len(targets) == len(expert) + 1
    for target, keypose in zip(targets, [*expert, expert[-1]], strict=True):
        distance, angle = keypose.distance_to(target[:3], target[3:7])
        assert distance < 0.003
        assert angle < 1.0
        assert target[7] == keypose.opening


def test_the_experts_keyposes_are_found_with_their_observations(recorded: tuple[Path, list[Keypose]]) -> None:
    folder, expert = recorded
    demonstration = demonstration_from_episode(folder)
    assert_follows(demonstration.targets, expert)
    assert demonstration.task == "stack_pair"
    assert demonstration.instructions == (EpisodeReader(folder).info.instruction,)
    assert demonstration.spec == ObservationSpec()
    # Each observation was made where the keypose before it had led.
    for tool, opening, keypose in zip(demonstration.tool[1:], demonstration.openings[1:], expert, strict=True):
        assert keypose.distance_to(tool[:3], tool[3:])[0] < 0.003
        assert (opening > 0.8) == keypose.is_open
    assert (demonstration.counts > 50).all()


def test_a_demonstration_from_an_episode_is_saved_and_loaded(
    recorded: tuple[Path, list[Keypose]], tmp_path: Path
) -> None:
    demonstration = demonstration_from_episode(recorded[0])
    save_demonstration(demonstration, tmp_path / "d.npz")
    loaded = load_demonstration(tmp_path / "d.npz")
    np.testing.assert_array_equal(loaded.points, demonstration.points)
    np.testing.assert_array_equal(loaded.targets, demonstration.targets)


def test_marks_take_the_place_of_what_would_be_discovered(tmp_path: Path) -> None:
    expert = record_demonstration(tmp_path / "e", picture_hz=4.0, mark=True)
    reader = EpisodeReader(tmp_path / "e")
    found = episode_keyposes(reader.traces(), reader.marks())
    assert all(keypose.marked for keypose in found)
    assert_follows(demonstration_from_episode(tmp_path / "e").targets, expert)


def test_views_lie_where_the_arm_stands_between_one_keypose_and_the_next(recorded: tuple[Path, list[Keypose]]) -> None:
    traces = EpisodeReader(recorded[0]).traces()
    indices = [keypose.index for keypose in episode_keyposes(traces)]
    speed, times = joint_speeds(traces, 0.1), traces.times_ns
    views = views_before(indices, traces)
    for view, before, after in zip(views, [0, *indices], [*indices, len(times) - 1], strict=True):
        inside = (times >= view.not_before_ns) & (times <= view.not_after_ns)
        assert (speed[inside] < 0.1).all()
        assert speed[inside][-1] < STILL_SPEED
        assert times[before] <= view.not_after_ns <= times[after]


def test_only_episodes_that_succeeded_are_learned_from(tmp_path: Path) -> None:
    Bag(tmp_path / "e", make_info(outcome=FAILURE)).close()
    with pytest.raises(EpisodeError, match="is labelled 'failure', learned from are episodes labelled success"):
        demonstration_from_episode(tmp_path / "e")
    with pytest.raises(EpisodeError, match="joint states"):
        demonstration_from_episode(tmp_path / "e", outcomes=(SUCCESS, FAILURE))
