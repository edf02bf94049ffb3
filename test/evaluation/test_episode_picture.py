"""The picture of an episode shows every keypose, and what is wrong with one that has none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from recorded_episode import START_NS, TOPICS, Bag, make_info, record_demonstration

from minidiffuser_ros.arm.kinematics import FINGER_NAMES, HOME_JOINTS, JOINT_NAMES
from minidiffuser_ros.contract.errors import EpisodeError
from minidiffuser_ros.evaluation.episode_picture import FOUND, LEFT, MARKED, RIGHT, draw_episode, save_episode_picture
from minidiffuser_ros.evaluation.plot_panel import ticks


def lines(picture: Image.Image, color: tuple[int, int, int]) -> list[int]:
    """Columns in which a panel has a vertical line of a colour."""
    pixels = np.asarray(picture).astype(int)
    counts = (np.abs(pixels - color).max(axis=-1) < 60).sum(axis=0)
    # Three panels of 168 pixels; a badge or a letter is far shorter.
    columns = np.flatnonzero(counts > 250)
    return columns[np.diff(columns, prepend=-9) > 2].tolist()


@pytest.mark.parametrize("mark", [False, True])
def test_every_keypose_has_its_line_where_it_happened(tmp_path: Path, mark: bool) -> None:
    expert = record_demonstration(tmp_path / "e", picture_hz=3.0, mark=mark)
    picture = draw_episode(tmp_path / "e")
    found = lines(picture, MARKED if mark else FOUND)
    assert len(found) == len(expert)
    # The last keypose is where the recording ends.
    assert found[-1] == pytest.approx(picture.width - RIGHT, abs=2)
    assert found[0] > LEFT
    assert not lines(picture, FOUND if mark else MARKED)


def test_an_episode_without_keyposes_or_pictures_is_drawn_all_the_same(tmp_path: Path) -> None:
    bag = Bag(tmp_path / "e", make_info(outcome="failure"))
    for number in range(100):
        stamp = START_NS + number * 20_000_000
        bag.write(
            TOPICS.joint_states, stamp, bag.make.joints((*JOINT_NAMES, *FINGER_NAMES), [*HOME_JOINTS, 0, 0], stamp)
        )
    bag.close()
    save_episode_picture(tmp_path / "e", tmp_path / "e.png")
    with Image.open(tmp_path / "e.png") as picture:
        assert picture.format == "PNG"
        assert not lines(picture.convert("RGB"), FOUND)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e", "e.png"]


def test_a_picture_that_cannot_be_written_is_told(recorded_states: Path, tmp_path: Path) -> None:
    with pytest.raises(EpisodeError, match="cannot write the picture"):
        save_episode_picture(recorded_states, tmp_path / "nowhere" / "e.png")


@pytest.fixture
def recorded_states(tmp_path: Path) -> Path:
    bag = Bag(tmp_path / "s", make_info())
    for number in range(3):
        joints = bag.make.joints((*JOINT_NAMES, *FINGER_NAMES), [*HOME_JOINTS, 0, 0], START_NS + number)
        bag.write(TOPICS.joint_states, START_NS + number, joints)
    bag.close()
    return tmp_path / "s"


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-0.3, 7.7), (0.001, 0.0011), (0.0, 12345.0)])
def test_ticks_are_few_round_and_inside(low: float, high: float) -> None:
    values = ticks(low, high)
    assert 1 < len(values) <= 6
    assert all(low <= value <= high for value in values)
    assert all(len(f"{value:g}") <= 7 for value in values)


def test_no_ticks_where_nothing_can_be_drawn() -> None:
    assert ticks(1.0, 1.0) == ticks(0.0, float("nan")) == ticks(2.0, 1.0) == []
