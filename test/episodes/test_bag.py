"""A recorded episode is read as it was written, whatever compressed it, and never all at once."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from recorded_episode import START_NS, TOPICS, Bag, make_info

from minidiffuser_ros.arm.kinematics import FINGER_NAMES, HOME_JOINTS, JOINT_NAMES, FrankaKinematics
from minidiffuser_ros.contract.errors import EpisodeError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.episodes.bag import EpisodeReader

NAMES = (*JOINT_NAMES, *FINGER_NAMES)
MS = 1_000_000
COLOR = TOPICS.cameras["front"].color


def write_states(folder: Path, count: int = 20, compression: str = "storage", tool: bool = True) -> None:
    """Joint states every 20 ms, and half as many tool poses 5 ms after every second one."""
    bag = Bag(folder, make_info(), compression)
    for number in range(count):
        stamp = START_NS + number * 20 * MS
        joints = np.array(HOME_JOINTS) + 0.001 * number
        bag.write(TOPICS.joint_states, stamp + MS, bag.make.joints(NAMES, [*joints, 0.03, 0.03], stamp))
        if tool and number % 2 == 0:
            pose = ([0.4 + 0.01 * number, 0.0, 0.3], [0.0, 1.0, 0.0, 0.0])
            bag.write(TOPICS.tool_pose, stamp + 6 * MS, bag.make.tool(*pose, stamp + 5 * MS))
    bag.close()


@pytest.mark.parametrize("compression", ["none", "storage", "message"])
def test_messages_come_back_as_written_and_by_log_time(tmp_path: Path, compression: str) -> None:
    rng = np.random.default_rng(0)
    bag = Bag(tmp_path / "e", make_info(), compression)
    written = []
    for number in rng.permutation(40).tolist():
        pixels = rng.integers(0, 255, (90, 160, 3), dtype=np.uint8)
        log_ns = START_NS + number * 10 * MS
        bag.write(COLOR, log_ns, bag.make.image(pixels, "rgb8", "front", log_ns - 3 * MS))
        written.append((log_ns, pixels))
    bag.close()
    found = list(EpisodeReader(tmp_path / "e").messages([COLOR]))
    assert [log_ns for _, log_ns, _ in found] == sorted(log_ns for log_ns, _ in written)
    for (topic, _, message), (_, pixels) in zip(found, sorted(written, key=lambda entry: entry[0]), strict=True):
        assert topic == COLOR
        np.testing.assert_array_equal(message.data.reshape(90, 160, 3), pixels)


def test_only_what_was_asked_for_is_given(tmp_path: Path) -> None:
    write_states(tmp_path / "e")
    reader = EpisodeReader(tmp_path / "e")
    start, stop = START_NS + 41 * MS, START_NS + 101 * MS
    logs = [log_ns for _, log_ns, _ in reader.messages([TOPICS.joint_states], start, stop)]
    assert logs == [START_NS + n * 20 * MS + MS for n in (2, 3, 4)]
    assert {topic for topic, _, _ in reader.messages()} == {TOPICS.joint_states, TOPICS.tool_pose}
    assert list(reader.messages(["/nothing"])) == []


def test_what_an_episode_says_of_itself_comes_back(recorded: tuple[Path, list[Keypose]]) -> None:
    info = EpisodeReader(recorded[0]).info
    assert info == make_info("stack_pair", info.instruction)


def test_tool_poses_are_taken_at_the_stamps_of_the_joints(tmp_path: Path) -> None:
    write_states(tmp_path / "e")
    traces = EpisodeReader(tmp_path / "e").traces()
    assert len(traces.times_ns) == 20
    assert (traces.times_ns == START_NS + np.arange(20) * 20 * MS).all()
    # Poses were stamped 5 ms later, 40 ms apart and 2 cm on: between them the tool moved at 0.5 m/s.
    expected = 0.4 + 0.5 * np.clip(traces.seconds - 0.005, 0.0, 0.36)
    np.testing.assert_allclose(traces.tool[:, 0], expected, atol=1e-9)
    np.testing.assert_allclose(traces.opening, 0.75)
    assert np.isnan(traces.gripper_target).all()
    assert traces.velocities is None


def test_without_tool_poses_the_arms_kinematics_tell_them(tmp_path: Path) -> None:
    write_states(tmp_path / "e", tool=False)
    traces = EpisodeReader(tmp_path / "e").traces()
    kinematics = FrankaKinematics()
    expected = [kinematics.forward(joints)[:3, 3] for joints in traces.joints]
    np.testing.assert_allclose(traces.tool[:, :3], expected, atol=1e-12)


def test_marks_come_by_stamp_and_those_undone_do_not(tmp_path: Path) -> None:
    write_states(tmp_path / "e")
    assert EpisodeReader(tmp_path / "e").marks() == []
    bag = Bag(tmp_path / "m", make_info())
    pose = ([0.4, 0.1, 0.2], [0.0, 1.0, 0.0, 0.0])
    for count, (number, action, stamp_ms) in enumerate([(0, 0, 10), (1, 0, 20), (1, 2, 30), (2, 0, 5), (9, 2, 40)]):
        marker = bag.make.marker(number, action, *pose, START_NS + stamp_ms * MS)
        bag.write(TOPICS.keyposes, START_NS + count * MS, marker)
    bag.close()
    marks = EpisodeReader(tmp_path / "m").marks()
    assert [mark.number for mark in marks] == [2, 0]
    assert marks[0].position == (0.4, 0.1, 0.2)
    assert marks[0].quat_wxyz == (0.0, 1.0, 0.0, 0.0)


def test_an_episode_without_joint_states_says_so(tmp_path: Path) -> None:
    Bag(tmp_path / "e", make_info()).close()
    with pytest.raises(EpisodeError, match="no two joint states that can be read"):
        EpisodeReader(tmp_path / "e").traces()


def test_pictures_are_never_all_in_memory(tmp_path: Path) -> None:
    bag = Bag(tmp_path / "e", make_info())
    pixels = np.zeros((480, 640, 3), np.uint8)
    for number in range(120):
        stamp = START_NS + number * 33 * MS
        bag.write(COLOR, stamp, bag.make.image(pixels, "rgb8", "front", stamp))
        bag.write(TOPICS.joint_states, stamp, bag.make.joints(NAMES, [*HOME_JOINTS, 0.0, 0.0], stamp))
    bag.close()
    reader = EpisodeReader(tmp_path / "e")
    tracemalloc.start()
    count = sum(1 for _ in reader.messages())
    reader.traces()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 240
    assert peak < 0.15 * 120 * pixels.nbytes
