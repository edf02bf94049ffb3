"""Whatever is left of a recording, its whole messages are saved; anything else is refused with a sentence."""

from __future__ import annotations

import random
import shutil
import struct
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zstandard
from small_episode import (
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

from minidiffuser_ros.contract.episode import METADATA, SUCCESS, UNLABELLED
from minidiffuser_ros.contract.errors import EpisodeError
from minidiffuser_ros.episodes.audit import audit_episode, read_audit
from minidiffuser_ros.episodes.library import label_episode, partial_episodes, read_info, saved_episodes
from minidiffuser_ros.episodes.mcap_records import CHUNK, MAGIC, MAX_CHUNK, records
from minidiffuser_ros.episodes.metadata import bag_file, read_custom_data
from minidiffuser_ros.episodes.repair import repair_episode
from minidiffuser_ros.episodes.writer import COMPRESSION_NAMES, WriterSettings

SENT = small_stream(1.0)


@pytest.fixture(scope="module", params=COMPRESSION_NAMES)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved episode of several chunks."""
    settings = WriterSettings(compression=request.param, chunk_mb=0.02, min_free_mb=1.0)
    return saved(tmp_path_factory.mktemp("whole"), SENT, settings)


def unfinished(whole: Path, root: Path, content: bytes) -> Path:
    """The episode as a killed recorder leaves it, with `content` in its file."""
    partial = root / f"{whole.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    shutil.copy(whole / METADATA, partial)
    (partial / bag_file(whole).name).write_bytes(content)
    return partial


@contextmanager
def memory_below(limit: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def test_a_file_cut_anywhere_gives_the_messages_before_the_cut(whole: Path, tmp_path: Path) -> None:
    content, rng = bag_file(whole).read_bytes(), random.Random(0)
    counts = []
    for cut in sorted(rng.randrange(len(content)) for _ in range(25)):
        partial = unfinished(whole, tmp_path, content[:cut])
        try:
            report = repair_episode(partial)
        except EpisodeError as error:
            assert "no message that is whole" in str(error)  # noqa: PT017
            counts.append(0)
            continue
        assert holds_beginnings(messages_of(report.folder), SENT)
        assert check_with_mcap(report.folder) == report.messages
        assert read_info(report.folder).outcome == UNLABELLED
        audit = read_audit(report.folder)
        assert audit.problems[0].startswith("its end is missing")
        assert audit_episode(report.folder) == audit == report.audit
        counts.append(report.messages)
        shutil.rmtree(report.folder)
    assert counts == sorted(counts)
    assert counts[-1] > 0.9 * len(SENT)


def test_only_the_message_that_was_cut_is_lost_where_chunks_are_not_compressed(tmp_path: Path) -> None:
    root = tmp_path / "whole"
    folder = saved(root, SENT, WriterSettings(compression="none", chunk_mb=64.0, min_free_mb=1.0))
    content = bag_file(folder).read_bytes()
    in_file = sorted((data for _, _, data in as_written(SENT)), key=content.index)
    for wanted in (1, 57, len(SENT)):
        data = in_file[wanted - 1]
        end = content.index(data) + len(data)
        for cut, count in ((end, wanted), (end - 1, wanted - 1)):
            partial = unfinished(folder, tmp_path, content[:cut])
            if not count:
                with pytest.raises(EpisodeError):
                    repair_episode(partial)
                continue
            report = repair_episode(partial)
            assert report.messages == count
            shutil.rmtree(report.folder)


def test_a_save_that_lacked_its_last_step_only_is_finished_as_it_is(whole: Path, tmp_path: Path) -> None:
    content = bag_file(whole).read_bytes()
    report = repair_episode(unfinished(whole, tmp_path, content))
    assert report.damage == ""
    assert report.audit.clean
    assert bag_file(report.folder).read_bytes() == content


def test_the_file_alone_tells_what_a_lost_description_told(whole: Path, tmp_path: Path) -> None:
    content = bag_file(whole).read_bytes()[:-3000]
    for broken in (b"", b"\xff\xfe", b"rosbag2_bagfile_information: [", None):
        partial = unfinished(whole, tmp_path, content)
        (partial / METADATA).unlink()
        if broken is not None:
            (partial / METADATA).write_bytes(broken)
        report = repair_episode(partial)
        assert read_info(report.folder) == info()
        messages_of(report.folder)
        shutil.rmtree(report.folder)


def test_a_label_that_a_partial_episode_claims_is_not_kept(whole: Path, tmp_path: Path) -> None:
    partial = unfinished(whole, tmp_path, bag_file(whole).read_bytes())
    labelled = tmp_path / "labelled"
    partial.rename(labelled)
    label_episode(labelled, SUCCESS)
    labelled.rename(partial)
    assert read_info(repair_episode(partial).folder).outcome == UNLABELLED


def test_an_interrupted_repair_can_be_repeated_and_still_tells_what_was_wrong(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "minidiffuser_ros.episodes.repair"
    content = bag_file(whole).read_bytes()[:-3000]
    for step in ("BagFile.finish", "write_metadata", "os.replace", "write_audit", "finish_folder"):
        partial = unfinished(whole, tmp_path, content)
        with monkeypatch.context() as patch:
            patch.setattr(f"{module}.{step}", _interrupt)
            with pytest.raises(KeyboardInterrupt):
                repair_episode(partial)
        assert partial_episodes(tmp_path) == [partial]
        report = repair_episode(partial)
        assert report.audit.problems[0].startswith("its end is missing")
        assert "repaired" in read_custom_data(report.folder)
        assert sorted(path.suffix for path in report.folder.iterdir()) == [".json", ".mcap", ".yaml"]
        shutil.rmtree(report.folder)


def _interrupt(*args: object, **kwargs: object) -> None:
    raise KeyboardInterrupt


def test_an_episode_that_is_still_being_recorded_is_left_alone(tmp_path: Path) -> None:
    writer = written(tmp_path, SENT)
    with pytest.raises(EpisodeError, match="still being recorded"):
        repair_episode(writer.folder)
    assert len(messages_of(writer.save())) == len(SENT)


def test_only_unfinished_recordings_are_repaired(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(EpisodeError, match="no unfinished recording"):
        repair_episode(whole)
    with pytest.raises(EpisodeError, match="no unfinished recording"):
        repair_episode(tmp_path / "nothing.partial")
    empty = tmp_path / "empty.partial"
    empty.mkdir()
    with pytest.raises(EpisodeError, match="0 MCAP files"):
        repair_episode(empty)


def test_flipped_bytes_never_change_a_message_and_cost_little_more_than_their_chunks(
    whole: Path, tmp_path: Path
) -> None:
    content, rng, expected = bag_file(whole).read_bytes(), random.Random(1), set(as_written(SENT))
    lost = []
    with memory_below(64_000_000):
        for flips in [1] * 12 + [8] * 3:
            broken = bytearray(content[: rng.choice([len(content), len(content) - 2000])])
            for _ in range(flips):
                broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
            try:
                report = repair_episode(unfinished(whole, tmp_path, bytes(broken)))
            except EpisodeError as error:  # a length in front of everything
                assert "no message that is whole" in str(error)  # noqa: PT017
                lost.append(len(SENT))
                continue
            found = messages_of(report.folder)
            assert set(found) <= expected
            lost.append(len(SENT) - len(found))
            shutil.rmtree(report.folder)
    assert sorted(lost)[9] < len(SENT) / 3


def test_a_chunk_of_other_times_than_it_says_is_damaged_and_loses_nothing(whole: Path, tmp_path: Path) -> None:
    content = bytearray(bag_file(whole).read_bytes())
    walk = records(lambda at, length: bytes(content[at : at + length]), len(MAGIC), len(content) - len(MAGIC))
    start = next(start for opcode, start, _ in walk if opcode == CHUNK)
    content[start + 8] ^= 1
    report = repair_episode(unfinished(whole, tmp_path, bytes(content)))
    assert "other times" in report.damage
    assert report.messages == len(SENT)


def record(opcode: int, length: int, body: bytes = b"") -> bytes:
    return struct.pack("<BQ", opcode, length) + body


def chunk(compression: bytes, packed: bytes, size: int) -> bytes:
    body = struct.pack("<QQQI", 0, 0, size, 0) + struct.pack("<I", len(compression)) + compression
    body += struct.pack("<Q", len(packed)) + packed
    return record(0x06, len(body), body)


HOSTILE = {
    "a message as long as the sky": record(0x05, 2**63),
    "a chunk as long as the sky": record(0x06, 2**63),
    "a chunk that says it unpacks to the sky": chunk(b"zstd", zstandard.compress(b"x"), 2**62),
    "a bomb": chunk(b"zstd", zstandard.compress(bytes(2**31)), MAX_CHUNK),
    "a bomb that says it is small": chunk(b"zstd", zstandard.compress(bytes(2**29)), 100),
    "an unknown compression": chunk(b"rar!", b"x", 100),
    "a name of a compression as long as the sky": record(
        0x06, 50, struct.pack("<QQQII", 0, 0, 0, 0, 2**31) + bytes(18)
    ),
    "a metadata record as long as the sky": record(0x0C, 2**40),
    "a schema with a name as long as the sky": record(0x03, 10, struct.pack("<HI", 1, 2**32 - 1) + bytes(4)),
    "a message of no channel": record(0x05, 22, struct.pack("<HIQQ", 9, 0, 0, 0)),
    "a message without a head": record(0x05, 3, b"abc"),
    "nothing": b"",
    "zeros": bytes(1000),
}


@pytest.mark.parametrize("tail", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_bytes_take_no_memory_and_hide_no_message_before_them(tail: bytes, tmp_path: Path) -> None:
    settings = WriterSettings(compression="none", chunk_mb=0.02, min_free_mb=1.0)
    folder = saved(tmp_path / "whole", SENT, settings)
    content = bag_file(folder).read_bytes()
    end = max(content.index(data) for _, _, data in as_written(SENT))
    # A message may be as long as MAX_CHUNK; a bomb that says so is unpacked to that, and no farther.
    with memory_below(3 * MAX_CHUNK if "bomb" in str(HOSTILE) and len(tail) > 10_000 else 64_000_000):
        report = repair_episode(unfinished(folder, tmp_path, content[:end] + tail))
    assert 0 < report.messages < len(SENT)
    for alone in (tail, MAGIC + tail):
        with memory_below(3 * MAX_CHUNK), pytest.raises(EpisodeError) as error:
            repair_episode(unfinished(folder, tmp_path, alone))
        assert "\n" not in str(error.value)


YAML = {
    "code": "!!python/object/apply:os.system ['touch {mark}']",
    "code in a value": "rosbag2_bagfile_information: !!python/object/new:os.system ['touch {mark}']",
    "deep": "[" * 20_000,
    "laughter": "a: &a [x]\n"
    + "".join(f"{c}: &{c} [{', '.join([f'*{b}'] * 9)}]\n" for b, c in zip("abcdefgh", "bcdefghi", strict=True)),
    "a list": "[1, 2]",
    "no bag": "a: 1",
    "a foreign bag": "rosbag2_bagfile_information: {{version: 9, custom_data: {{a: b}}}}",
    "no custom data": "rosbag2_bagfile_information: {{version: 9}}",
    "custom data of numbers": "rosbag2_bagfile_information: {{custom_data: {{task: 3}}}}",
    "too long": "#" * 2**21,
    "binary": "\0\1\2",
}


@pytest.mark.parametrize("text", YAML.values(), ids=YAML.keys())
def test_a_foreign_description_is_one_sentence_and_runs_nothing(text: str, tmp_path: Path) -> None:
    folder, mark = tmp_path / "episode", tmp_path / "ran"
    folder.mkdir()
    (folder / METADATA).write_text(text.replace("{mark}", str(mark)).replace("{{", "{").replace("}}", "}"))
    with memory_below(64_000_000):
        for read in (read_info, audit_episode, lambda f: label_episode(f, SUCCESS)):
            with pytest.raises(EpisodeError) as error:
                read(folder)
            assert "\n" not in str(error.value)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["/etc/passwd", "../whole.mcap", "a/b.mcap", "missing.mcap", "..", ""])
def test_a_file_elsewhere_is_not_followed(name: str, tmp_path: Path) -> None:
    folder = begun(tmp_path).save()
    (tmp_path / "whole.mcap").write_bytes(bag_file(folder).read_bytes())
    text = (folder / METADATA).read_text()
    (folder / METADATA).write_text(text.replace(f"{folder.name}.mcap", repr(name)))
    with pytest.raises(EpisodeError):
        bag_file(folder)
    assert saved_episodes(tmp_path) == [folder]
    assert TOPICS.keyposes in text
