"""What goes into a writer is on the disk after a save, and what does not fit is counted."""

from __future__ import annotations

import gc
import resource
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from mcap.reader import make_reader
from small_episode import (
    START_NS,
    TOPICS,
    as_written,
    begun,
    check_with_mcap,
    holds_beginnings,
    info,
    messages_of,
    saved,
    small_stream,
    written,
)

from minidiffuser_ros.contract.episode import FAILURE, METADATA, SUCCESS, UNLABELLED
from minidiffuser_ros.contract.errors import ConfigurationError, EpisodeError
from minidiffuser_ros.episodes.audit import read_audit
from minidiffuser_ros.episodes.library import (
    TRASH,
    discard_episode,
    label_episode,
    partial_episodes,
    read_info,
    saved_episodes,
)
from minidiffuser_ros.episodes.repair import repair_episode
from minidiffuser_ros.episodes.scan import BagScan
from minidiffuser_ros.episodes.writer import COMPRESSION_NAMES, EpisodeWriter, WriterSettings

NAME = "20260202-024000-open_drawer"
SLOW = WriterSettings(chunk_mb=0.01, flush_s=60.0, queue_mb=1.0, min_free_mb=1.0)


@pytest.mark.parametrize("compression", COMPRESSION_NAMES)
def test_every_message_is_in_the_bag_as_it_was_given(tmp_path: Path, compression: str) -> None:
    sent = small_stream()
    folder = saved(tmp_path, sent, WriterSettings(compression=compression, chunk_mb=0.02, min_free_mb=1.0))
    assert folder == tmp_path / NAME
    assert sorted(messages_of(folder)) == sorted(as_written(sent))
    assert check_with_mcap(folder) == len(sent)
    assert read_info(folder) == info()
    assert read_audit(folder).clean
    assert sorted(path.name for path in folder.iterdir()) == [f"{NAME}.mcap", "audit.json", METADATA]


@pytest.mark.parametrize("compression", COMPRESSION_NAMES)
def test_small_messages_and_pictures_share_no_chunk(tmp_path: Path, compression: str) -> None:
    folder = saved(tmp_path, small_stream(), WriterSettings(compression=compression, chunk_mb=0.01, min_free_mb=1.0))
    pictures = {topic for camera in TOPICS.cameras.values() for topic in (camera.color, camera.depth)}
    kinds = []
    with (folder / f"{NAME}.mcap").open("rb") as file:
        summary = make_reader(file).get_summary()
    assert summary is not None
    for chunk in summary.chunk_indexes:
        topics = {summary.channels[channel].topic for channel in chunk.message_index_offsets}
        assert topics <= pictures or not topics & pictures
        kinds.append(bool(topics & pictures))
    assert kinds.count(True) > 2
    assert kinds.count(False) > 2


def test_what_was_written_is_on_the_disk_after_flush_s_whatever_its_size(tmp_path: Path) -> None:
    writer = begun(tmp_path, WriterSettings(chunk_mb=4.0, flush_s=0.05, min_free_mb=1.0))
    sent = small_stream(0.1)
    for message in sent:
        assert writer.write(message.topic, message.log_ns, message.data(), message.sequence)
    scan, deadline = BagScan(writer.folder / f"{NAME}.mcap"), time.monotonic() + 10.0
    while sum(1 for _ in scan.messages()) < len(sent) and time.monotonic() < deadline:
        time.sleep(0.02)
        scan = BagScan(scan.path)
    found = [(message.topic, message.log_ns, bytes(message.data)) for message in scan.messages()]
    assert sorted(found) == sorted(as_written(sent))
    writer.discard()


def test_an_empty_recording_is_a_readable_bag_whose_audit_names_every_required_topic(tmp_path: Path) -> None:
    folder = begun(tmp_path).save()
    assert check_with_mcap(folder) == 0
    assert messages_of(folder) == []
    problems = read_audit(folder).problems
    assert [p for p in problems if "nothing was recorded" in p] == [
        f"{topic}: nothing was recorded" for topic in TOPICS.all()[:-1]
    ]


def test_a_name_that_is_taken_gets_a_number_and_nothing_is_overwritten(tmp_path: Path) -> None:
    first, second = begun(tmp_path), begun(tmp_path)
    assert [path.name for path in partial_episodes(tmp_path)] == [f"{NAME}-2.partial", f"{NAME}.partial"]
    assert second.save().name == f"{NAME}-2"
    assert first.save().name == NAME
    assert begun(tmp_path).save().name == f"{NAME}-3"
    late = begun(tmp_path)
    (tmp_path / late.name).mkdir()  # somebody else takes the name meanwhile
    assert late.save().name == f"{NAME}-4-2"
    assert len(saved_episodes(tmp_path)) == 4


def test_a_task_cannot_leave_the_folder(tmp_path: Path) -> None:
    root = tmp_path / "episodes"
    for task in ("../../etc", "/absolute", "a b/c", "…"):
        begun(root, task=task).save()
    assert [path.name for path in tmp_path.iterdir()] == ["episodes"]
    assert len(saved_episodes(root)) == 4


def test_what_does_not_fit_into_the_queue_is_counted_by_topic_and_the_rest_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    original = EpisodeWriter._next
    monkeypatch.setattr(EpisodeWriter, "_next", lambda self: (gate.wait(), original(self))[1])
    writer = begun(tmp_path, SLOW)
    color = TOPICS.cameras["front"].color
    accepted = [writer.write(color, START_NS + n, bytes(300_000), n + 1) for n in range(5)]
    assert accepted == [True, True, True, False, False]
    assert writer.write(TOPICS.joint_states, START_NS, bytes(100), 1)
    assert (writer.received[color], writer.dropped[color]) == (3, 2)
    gate.set()
    folder = writer.save()
    assert [topic for topic, _, _ in messages_of(folder)].count(color) == 3
    audit = read_audit(folder)
    assert (audit.topics[color].received, audit.topics[color].dropped) == (3, 2)
    assert f"{color}: 2 of 5 messages are missing" in audit.problems


def test_messages_that_are_refused_take_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    original = EpisodeWriter._next
    monkeypatch.setattr(EpisodeWriter, "_next", lambda self: (gate.wait(), original(self))[1])
    writer = begun(tmp_path, SLOW)
    tracemalloc.start()
    try:
        for n in range(2000):
            writer.write(TOPICS.tool_pose, START_NS + n, bytes(100_000), n + 1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gate.set()
        writer.discard()
    assert peak < 3 * SLOW.queue_mb * 1e6


@contextmanager
def tiny_disk() -> Iterator[None]:
    """Files cannot grow beyond 20 kB: the kernel refuses the write in the middle of a chunk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_is_one_sentence_and_what_was_written_can_be_repaired(tmp_path: Path) -> None:
    writer, sent, partial = begun(tmp_path), small_stream(0.5), tmp_path / f"{NAME}.partial"
    with tiny_disk():
        for message in sent:
            writer.write(message.topic, message.log_ns, message.data(), message.sequence)
        writer._thread.join(5.0)
        assert not writer._thread.is_alive()
        assert not writer.write(TOPICS.tool_pose, START_NS, b"late")
        with pytest.raises(EpisodeError, match=r"File too large.*repair") as failure:
            writer.save()
        assert "\n" not in str(failure.value)
        assert partial_episodes(tmp_path) == [partial]
        assert not saved_episodes(tmp_path)
        assert sum(writer.received.values()) + sum(writer.dropped.values()) == len(sent) + 1
        del writer
        gc.collect()  # nothing of the writer's is left that would still try to write
        before = {path.name: path.read_bytes() for path in partial.iterdir()}
        with pytest.raises(EpisodeError, match="free or mend the disk and try again"):
            repair_episode(partial)
        assert {path.name: path.read_bytes() for path in partial.iterdir()} == before
    report = repair_episode(partial)
    assert 0 < report.messages < len(sent)
    found = messages_of(report.folder)
    assert len(found) == report.messages
    assert holds_beginnings(found, sent)


def test_without_room_nothing_begins_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(EpisodeError, match="MB free and an episode is not begun with less than"):
        begun(tmp_path, WriterSettings(min_free_mb=1e8))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_to_is_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(EpisodeError, match="cannot record to"):
        begun(file / "episodes")


def test_a_type_that_ros_does_not_bring_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(EpisodeError, match="my_msgs/msg/Own"):
        EpisodeWriter(tmp_path, info(), extra_topics={"/own": "my_msgs/msg/Own"})
    assert not list(tmp_path.iterdir())


def test_what_comes_after_the_end_belongs_to_no_episode(tmp_path: Path) -> None:
    writer = written(tmp_path, small_stream(0.2))
    folder = writer.save()
    before = folder.stat().st_mtime_ns, read_audit(folder)
    assert not writer.write(TOPICS.tool_pose, START_NS, b"late")
    assert sum(writer.dropped.values()) == 0
    assert (folder.stat().st_mtime_ns, read_audit(folder)) == before


def test_a_label_changes_the_outcome_and_nothing_else(tmp_path: Path) -> None:
    folder = saved(tmp_path, small_stream(0.5))
    before, bag = yaml.safe_load((folder / METADATA).read_text()), (folder / f"{NAME}.mcap").read_bytes()
    for outcome in (SUCCESS, FAILURE, UNLABELLED):
        label_episode(folder, outcome)
        assert read_info(folder) == info().labelled(outcome)
    assert yaml.safe_load((folder / METADATA).read_text()) == before
    assert (folder / f"{NAME}.mcap").read_bytes() == bag
    with pytest.raises(EpisodeError, match="an outcome is one of"):
        label_episode(folder, "perfect")
    with pytest.raises(EpisodeError, match="never finished"):
        label_episode(begun(tmp_path).folder, SUCCESS)


def test_discarded_episodes_of_one_name_lie_side_by_side_in_the_trash(tmp_path: Path) -> None:
    for _ in range(2):
        discard_episode(saved(tmp_path, small_stream(0.1)))
        written(tmp_path, small_stream(0.1)).discard()
    names = {f"{NAME}", f"{NAME}-2", f"{NAME}.partial", f"{NAME}.partial-2"}
    assert {path.name for path in (tmp_path / TRASH).iterdir()} == names
    assert not saved_episodes(tmp_path)
    assert not partial_episodes(tmp_path)


@pytest.mark.parametrize("wrong", [{"compression": "rar"}, {"queue_mb": 0.0}, {"flush_s": -1.0}])
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError):
        WriterSettings(**wrong)
