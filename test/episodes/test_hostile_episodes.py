"""Damaged, foreign and hostile recordings end in one sentence, in time, and with bounded memory."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pytest
import yaml
from backports import zstd
from recorded_episode import CAMERA, START_NS, TOPICS, Bag, make_info

from minidiffuser_ros.arm.kinematics import FINGER_NAMES, HOME_JOINTS, JOINT_NAMES
from minidiffuser_ros.contract.errors import EpisodeError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.episodes.bag import EpisodeReader
from minidiffuser_ros.episodes.mcap_file import MAX_MESSAGE, MEBIBYTE
from minidiffuser_ros.episodes.mcap_records import MAGIC, MAX_CHUNK
from minidiffuser_ros.episodes.metadata import BAG, MAX_BYTES
from minidiffuser_ros.episodes.samples import demonstration_from_episode
from minidiffuser_ros.episodes.timeline import topic_types

NAMES = (*JOINT_NAMES, *FINGER_NAMES)
COLOR, DEPTH = TOPICS.cameras["front"].color, TOPICS.cameras["front"].depth
LIMIT = 64 * MEBIBYTE
Recorded = tuple[Path, list[Keypose]]


@contextmanager
def bounded_memory(limit: int = LIMIT) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def sentence_of(folder: Path) -> str:
    """What learning from a folder is refused with: one line of a length that can be read."""
    with pytest.raises(EpisodeError) as refused:
        demonstration_from_episode(folder)
    text = str(refused.value)
    assert "\n" not in text
    assert len(text) < 900
    return text


@pytest.fixture
def copy(recorded: Recorded, tmp_path: Path) -> Path:
    """An episode that may be damaged."""
    folder = tmp_path / recorded[0].name
    shutil.copytree(recorded[0], folder)
    return folder


def mcap_of(folder: Path) -> Path:
    return next(folder.glob("*.mcap"))


def edit(folder: Path, change: Callable[[dict], object]) -> None:
    """Change what metadata.yaml says of the bag."""
    path = folder / "metadata.yaml"
    content = yaml.safe_load(path.read_text())
    change(content[BAG])
    path.write_text(yaml.safe_dump(content))


def write_states(bag: Bag, count: int = 200) -> None:
    """An arm that moves from one place to another."""
    for number in range(count):
        stamp = START_NS + number * 20_000_000
        joints = np.array(HOME_JOINTS) + 0.3 * np.clip((number - 50) / 100, 0.0, 1.0)
        bag.write(TOPICS.joint_states, stamp, bag.make.joints(NAMES, [*joints, 0.04, 0.04], stamp))


def test_the_undamaged_copy_is_read(copy: Path) -> None:
    assert len(demonstration_from_episode(copy).counts) == 7


@pytest.mark.parametrize("part", [0.0, 0.0001, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_of_messages_is_refused(copy: Path, part: float) -> None:
    path = mcap_of(copy)
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    assert "no readable recording" in sentence_of(copy)


@pytest.mark.parametrize("part", [0.0, 0.05, 0.3, 0.6])
def test_a_truncated_description_is_refused(copy: Path, part: float) -> None:
    path = copy / "metadata.yaml"
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    sentence_of(copy)


def refusal(read: Callable[[Path], object], folder: Path) -> str:
    """The sentence with which it is refused to read; empty where it can be read."""
    try:
        read(folder)
    except EpisodeError as error:
        return str(error)
    return ""


def test_flipped_bytes_in_the_messages_are_refused_or_do_no_harm(copy: Path) -> None:
    path = mcap_of(copy)
    content, sentences = path.read_bytes(), []
    rng = np.random.default_rng(0)
    for number in range(30):
        damaged = bytearray(content)
        # Half of them hit the many small records at the end rather than pictures.
        low = 0 if number % 2 else len(content) - 60_000
        for at in rng.integers(low, len(content), 1 + number % 5):
            damaged[at] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        with bounded_memory() if number % 6 == 0 else nullcontext():
            sentences.append(refusal(demonstration_from_episode, copy))
    assert sum(map(bool, sentences)) > 5
    assert not any("\n" in sentence for sentence in sentences)


def test_flipped_bytes_in_the_description_are_refused_or_do_no_harm(copy: Path) -> None:
    path = copy / "metadata.yaml"
    content, sentences = path.read_bytes(), []
    rng = np.random.default_rng(1)
    for _ in range(60):
        damaged = bytearray(content)
        for at in rng.integers(0, len(content), 3):
            damaged[at] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        sentences.append(refusal(EpisodeReader, copy))
    assert sum(map(bool, sentences)) > 20
    assert not any("\n" in sentence for sentence in sentences)


@pytest.mark.parametrize(
    "name",
    ["../other/other.mcap", "/etc/hostname", "..", ".", "", "a/b.mcap", "nothing.mcap", "zero\0.mcap", "link.mcap"],
)
def test_only_a_file_in_the_folder_itself_is_read(copy: Path, name: str) -> None:
    shutil.copytree(copy, copy.parent / "other")
    (copy / "link.mcap").symlink_to(copy.parent / "other" / mcap_of(copy).name)
    edit(copy, lambda bag: bag.update(relative_file_paths=[name]))
    assert "in the folder itself" in sentence_of(copy) or "lacks its file" in sentence_of(copy)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("relative_file_paths", []), ("relative_file_paths", ["a.mcap", "b.mcap"]), ("relative_file_paths", "a.mcap"),
        ("relative_file_paths", [7]), ("relative_file_paths", None), ("storage_identifier", "sqlite3"),
        ("storage_identifier", None), ("compression_mode", "file"), ("compression_mode", 3), ("custom_data", None),
        ("custom_data", []), ("custom_data", {}), ("custom_data", {"task": "1"}),
    ],
)  # fmt: skip
def test_a_description_of_something_else_is_refused(copy: Path, key: str, value: object) -> None:
    edit(copy, lambda bag: bag.update({key: value}))
    assert copy.name in sentence_of(copy)


@pytest.mark.parametrize("key", ["spec", "calibration", "topics", "outcome", "task", "seed", "format"])
@pytest.mark.parametrize("value", ["", "null", "[]", "{}", '"x"', "7", "NaN", "[" * 3000, '{"cameras": {"front": 3}}'])
def test_what_an_episode_says_of_itself_is_checked(copy: Path, key: str, value: str) -> None:
    edit(copy, lambda bag: bag["custom_data"].update({key: value}))
    if (key, value) in {("task", '"x"'), ("seed", "7")}:
        EpisodeReader(copy)
    else:
        sentence_of(copy)


def forged(folder: Path, key: str, change: Callable[[object], object]) -> None:
    """Change the spec, the calibration or the topics, with a hash that fits."""

    def rewrite(bag: dict) -> None:
        value = json.loads(bag["custom_data"][key])
        value = change(value) or value
        text = json.dumps(value, sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(text.encode()).hexdigest()
        bag["custom_data"] |= {key: text, f"{key}_sha256": json.dumps(digest)}

    edit(folder, rewrite)


@pytest.mark.parametrize(
    "value", ["x", None, [], -1000, 1e300, float("nan"), {}, [1, 2], ["a", "b", "c"], [[], [], []]]
)
@pytest.mark.parametrize(
    "name", ["workspace_min", "workspace_max", "voxel_size", "max_points", "table_height", "cameras", "policy_frame"]
)
def test_a_forged_spec_is_refused(copy: Path, name: str, value: object) -> None:
    forged(copy, "spec", lambda spec: spec.update({name: value}))
    sentence_of(copy)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("quat_wxyz", [0, 0, 0, 0]), ("quat_wxyz", [2, 0, 0, 0]), ("quat_wxyz", [1e99, 0, 0, 0]), ("quat_wxyz", "1000"),
        ("position", [float("nan"), 0, 0]), ("position", [1e999, 0, 0]), ("position", [0, 0]), ("position", None),
        ("parent_frame", "moon"), ("name", "other"),
    ],
)  # fmt: skip
def test_a_forged_calibration_is_refused(copy: Path, name: str, value: object) -> None:
    forged(copy, "calibration", lambda mounts: mounts[0].update({name: value}))
    sentence_of(copy)


def test_two_streams_on_one_topic_are_refused(copy: Path) -> None:
    forged(copy, "topics", lambda topics: topics["cameras"]["front"].update(depth=COLOR))
    assert "a topic of its own" in sentence_of(copy)


@pytest.mark.parametrize("seconds", [[0, 2**31 - 1], [-(2**31), 2**31 - 1], [5, 5]])
def test_impossible_stamps_do_no_harm(tmp_path: Path, seconds: list[int]) -> None:
    bag = Bag(tmp_path / "e", make_info())
    for number, second in enumerate(seconds * 3):
        stamp = second * 10**9 + number
        joints = np.array(HOME_JOINTS) + 0.1 * number
        bag.write(TOPICS.joint_states, START_NS, bag.make.joints(NAMES, [*joints, 0.0, 0.0], stamp))
        tool = bag.make.tool([0.4 + number, 0.0, 0.1], [1.0, 0.0, 0.0, 0.0], stamp)
        bag.write(TOPICS.tool_pose, START_NS, tool)
    bag.close()
    assert "no observation" in sentence_of(tmp_path / "e")


def test_marks_without_end_are_refused(tmp_path: Path) -> None:
    bag = Bag(tmp_path / "e", make_info())
    write_states(bag)
    for number in range(501):
        marker = bag.make.marker(number, 0, [0.4, 0.0, 0.1], [1.0, 0.0, 0.0, 0.0], START_NS)
        bag.write(TOPICS.keyposes, START_NS + number, marker)
    bag.close()
    assert "501 keyposes" in sentence_of(tmp_path / "e")


def test_a_pipe_instead_of_a_file_does_not_block(copy: Path) -> None:
    for path in (copy / "metadata.yaml", mcap_of(copy)):
        content = path.read_bytes()
        path.unlink()
        os.mkfifo(path)
        assert "file" in sentence_of(copy)
        path.unlink()
        path.write_bytes(content)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\0" * 100, b"\xff\xfe", b"[1, 2]", b"a: b", b"!!python/object/apply:os.system ['true']",
        b"rosbag2_bagfile_information: 5", b"[" * MAX_BYTES, b"- " * 9000, b"a: &a [*a]", b"x" * (MAX_BYTES + 1),
        b"{? {a: b} : c}",
        b"rosbag2_bagfile_information: &a {storage_identifier: *a}", b"2001-99-99", b"? [a]\n: b", b"%YAML 9.9\n---\n1",
    ],
    ids=lambda content: repr(content[:20]),
)  # fmt: skip
def test_yaml_that_is_no_description_is_refused(copy: Path, content: bytes) -> None:
    (copy / "metadata.yaml").write_bytes(content)
    sentence_of(copy)


def test_endless_aliases_are_neither_followed_nor_quoted(copy: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 20)]
    for key in ("storage_identifier", "relative_file_paths", "compression_mode", "custom_data"):
        bag = {"storage_identifier": "mcap", "relative_file_paths": ["a"], "compression_mode": "", "custom_data": "{}"}
        body = "\n".join(f"  {name}: {'*a19' if name == key else value}" for name, value in bag.items())
        (copy / "metadata.yaml").write_text("\n".join([*lines, f"{BAG}:", body]))
        sentence_of(copy)


@pytest.mark.parametrize("name", ["nowhere", "file"])
def test_a_folder_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("hello")
    assert "cannot read" in sentence_of(tmp_path / name)


def test_a_recording_that_was_interrupted_is_to_be_repaired(copy: Path) -> None:
    path = mcap_of(copy)
    path.write_bytes(path.read_bytes()[:-40])
    assert "repair" in sentence_of(copy)


@pytest.mark.parametrize("topic", [COLOR, TOPICS.joint_states, TOPICS.keyposes])
def test_a_topic_of_another_type_is_named(tmp_path: Path, topic: str) -> None:
    bag = Bag(tmp_path / "e", make_info(), types=topic_types(TOPICS) | {topic: "std_msgs/msg/Header"})
    bag.write(topic, START_NS, bag.make.header("x", START_NS))
    bag.close()
    text = sentence_of(tmp_path / "e")
    assert topic in text
    assert "std_msgs/msg/Header" in text


def test_an_episode_without_pictures_says_what_is_missing(tmp_path: Path) -> None:
    bag = Bag(tmp_path / "e", make_info())
    write_states(bag)
    bag.close()
    text = sentence_of(tmp_path / "e")
    assert "before keypose 1 of 1 there is no observation" in text
    assert f"nothing has arrived on {COLOR} yet" in text


def test_topics_that_lack_altogether_are_as_empty_ones(tmp_path: Path) -> None:
    bag = Bag(tmp_path / "e", make_info(), types={TOPICS.joint_states: "sensor_msgs/msg/JointState"})
    write_states(bag)
    bag.close()
    assert "no observation" in sentence_of(tmp_path / "e")


@pytest.mark.parametrize("damage", ["step", "size", "encoding", "huge", "empty", "short"])
def test_pictures_that_are_none_are_told(tmp_path: Path, damage: str) -> None:
    bag = Bag(tmp_path / "e", make_info())
    write_states(bag)
    for number in range(0, 200, 5):
        stamp = START_NS + number * 20_000_000
        for name, topics in TOPICS.cameras.items():
            color = bag.make.image(np.zeros((12, 16, 3), np.uint8), "rgb8", name, stamp)
            if damage == "step":
                color.step = 3
            elif damage == "size":
                color.height = 13
            elif damage == "encoding":
                color.encoding = "secret"
            elif damage == "huge":
                color.width = color.height = color.step = 2**32 - 1
            elif damage == "empty":
                color.width = 0
            else:
                color.data = color.data[:5]
            depth = bag.make.image(np.full((12, 16), 900, np.uint16), "16UC1", name, stamp)
            bag.write(topics.color, stamp, color)
            bag.write(topics.depth, stamp, depth)
            bag.write(topics.info, stamp, bag.make.info(CAMERA, name, stamp))
    bag.close()
    assert "image" in sentence_of(tmp_path / "e")


@pytest.mark.parametrize("length", [2**31 - 1, 2**32 - 1, 10**6])
def test_lengths_inside_messages_are_not_believed(tmp_path: Path, length: int) -> None:
    bag = Bag(tmp_path / "e", make_info())
    write_states(bag, 10)
    # Header of a joint state, and then names without end.
    bag.write(TOPICS.joint_states, START_NS, b"\0\1\0\0" + struct.pack("<iI", 1, 2) + struct.pack("<I", 1) + b"\0" * 4
              + struct.pack("<I", length) + b"\0" * 64)  # fmt: skip
    bag.close()
    with bounded_memory():
        assert "is no sensor_msgs/msg/JointState" in sentence_of(tmp_path / "e")


def record(code: int, content: bytes) -> bytes:
    return struct.pack("<BQ", code, len(content)) + content


def text(value: str) -> bytes:
    return struct.pack("<I", len(value)) + value.encode()


def chunk(content: bytes, unpacked: int, compression: str = "zstd") -> bytes:
    return record(
        6, struct.pack("<QQQI", 0, 2**63, unpacked, 0) + text(compression) + struct.pack("<Q", len(content)) + content
    )


def definitions() -> bytes:
    schema = record(3, struct.pack("<H", 1) + text("sensor_msgs/msg/JointState") + text("ros2msg") + text(""))
    return schema + record(4, struct.pack("<HH", 1, 1) + text(TOPICS.joint_states) + text("cdr") + text(""))


BOMB = zstd.compress(b"\0" * (300 * MEBIBYTE))


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (chunk(BOMB, 300 * MEBIBYTE), "unpacks to 300 MiB"),
        (chunk(BOMB, 1000), "cannot be unpacked to what it declares"),
        (chunk(b"garbage" * 9, 1000), "cannot be unpacked to what it declares"),
        (chunk(b"garbage" * 9, 1000, "lz4"), "cannot be unpacked to what it declares"),
        (chunk(zstd.compress(b"\0" * 100), MAX_CHUNK), "cannot be unpacked to what it declares"),
        (chunk(b"x" * 50, 50, ""), "reaches beyond the end of its chunk"),
        (chunk(b"\5" + b"\0" * 8, 9, ""), "shorter than its own head"),
        (chunk(b"x" * 5, 5, ""), "incomplete"),
        (chunk(b"x" * 50, 50, "rar"), "not what the format asks for"),
        (record(6, b"short"), "not what the format asks for"),
        (record(5, b"short"), "shorter than its own head"),
        (struct.pack("<BQ", 9, 2**63), "reaches beyond its end"),
        (struct.pack("<BQ", 5, 2**64 - 1), "reaches beyond its end"),
        (b"\5\0\0", "incomplete"),
        (record(3, struct.pack("<HI", 1, 2**32 - 1)), "not what the format asks for"),
        (record(4, struct.pack("<HHI", 1, 1, 1) + b"\xff" + text("") + text("")), "not what the format asks for"),
        (record(4, struct.pack("<HH", 1, 0) + text("/other") + text("cdr") + text("")), "two topics share"),
    ],
)  # fmt: skip
def test_a_file_that_breaks_the_format_says_how(copy: Path, body: bytes, complaint: str) -> None:
    mcap_of(copy).write_bytes(MAGIC + record(1, text("ros2") + text("")) + definitions() + body + MAGIC)
    with bounded_memory():
        assert complaint in sentence_of(copy)


def test_a_message_packed_by_itself_may_not_unpack_without_end(copy: Path) -> None:
    edit(copy, lambda bag: bag.update(compression_mode="message", compression_format="zstd"))
    body = record(5, struct.pack("<HIQQ", 1, 0, 5, 5) + BOMB)
    mcap_of(copy).write_bytes(MAGIC + definitions() + body + MAGIC)
    with bounded_memory(3 * MAX_MESSAGE):
        assert "cannot be unpacked" in sentence_of(copy)
