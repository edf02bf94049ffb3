"""What the recorder writes is what the reader reads, whatever compressed it, and after a repair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mcap.reader import make_reader

from minidiffuser_ros.contract.episode import SUCCESS, UNLABELLED
from minidiffuser_ros.contract.errors import EpisodeError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.episodes.bag import END_OF_TIME, EpisodeReader
from minidiffuser_ros.episodes.demonstration import ARRAYS
from minidiffuser_ros.episodes.library import label_episode
from minidiffuser_ros.episodes.mcap_file import McapFile
from minidiffuser_ros.episodes.metadata import bag_file
from minidiffuser_ros.episodes.repair import repair_episode
from minidiffuser_ros.episodes.samples import demonstration_from_episode
from minidiffuser_ros.episodes.writer import EpisodeWriter, WriterSettings


@pytest.mark.parametrize("compression", ["zstd", "lz4", "none"])
def test_an_episode_from_the_writer_gives_the_same_demonstration(
    recorded: tuple[Path, list[Keypose]], tmp_path: Path, compression: str
) -> None:
    source = EpisodeReader(recorded[0])
    settings = WriterSettings(compression=compression, chunk_mb=0.3, min_free_mb=1.0)
    episode = EpisodeWriter(tmp_path, source.info.labelled(UNLABELLED), settings)
    with McapFile(bag_file(recorded[0])) as file:
        topics = [channel.topic for channel in file.channels.values()]
        for channel, log_ns, content in file.messages(topics, 0, END_OF_TIME):
            assert episode.write(channel.topic, log_ns, content)
    folder = episode.save()
    with pytest.raises(EpisodeError, match="is labelled 'unlabelled'"):
        demonstration_from_episode(folder)
    label_episode(folder, SUCCESS)
    assert EpisodeReader(folder).info == source.info
    found, expected = demonstration_from_episode(folder), demonstration_from_episode(recorded[0])
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_joints_are_read_without_unpacking_pictures(recorded: tuple[Path, list[Keypose]], tmp_path: Path) -> None:
    source = EpisodeReader(recorded[0])
    episode = EpisodeWriter(tmp_path, source.info, WriterSettings(chunk_mb=0.3, min_free_mb=1.0))
    with McapFile(bag_file(recorded[0])) as file:
        for channel, log_ns, content in file.messages(source.info.topics.all(), 0, END_OF_TIME):
            assert episode.write(channel.topic, log_ns, content)
    folder = episode.save()
    pictures = {topic for camera in source.info.topics.cameras.values() for topic in (camera.color, camera.depth)}
    with bag_file(folder).open("rb+") as mcap:
        summary = make_reader(mcap).get_summary()
        assert summary is not None
        for chunk in summary.chunk_indexes:
            if {summary.channels[channel].topic for channel in chunk.message_index_offsets} & pictures:
                mcap.seek(chunk.chunk_start_offset + chunk.chunk_length - 100)
                mcap.write(bytes(100))
    reader, expected = EpisodeReader(folder), source.traces()
    for name, values in vars(reader.traces()).items():
        np.testing.assert_array_equal(values, getattr(expected, name))
    assert reader.marks() == source.marks()
    with pytest.raises(EpisodeError, match="damaged"):
        list(reader.messages(pictures))


def test_what_is_left_of_a_killed_recording_is_read_once_it_is_repaired(
    recorded: tuple[Path, list[Keypose]], tmp_path: Path
) -> None:
    partial = tmp_path / f"{recorded[0].name}.partial"
    partial.mkdir()
    content = next(recorded[0].glob("*.mcap")).read_bytes()
    (partial / f"{recorded[0].name}.mcap").write_bytes(content[: int(0.7 * len(content))])
    (partial / "metadata.yaml").write_bytes((recorded[0] / "metadata.yaml").read_bytes())
    with pytest.raises(EpisodeError, match="repair it first"):
        demonstration_from_episode(partial)
    folder = repair_episode(partial).folder
    label_episode(folder, SUCCESS)
    counts = demonstration_from_episode(folder).counts
    assert 3 <= len(counts) < 7
