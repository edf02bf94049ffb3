"""One MCAP file as rosbag2 keeps it: opened once, filled with serialised messages, finished.

Small messages and pictures go into chunks of their own, so that reading the small ones does not unpack pictures. Both
chunks are in progress side by side, and those of a file overlap in time.

Records are those of the library; its `Writer` is not used because it fixes the level of zstd at 3, where level 1 takes
a third of the time for 48 instead of 44 % of the size (benchmarks/recording.py). Layout: https://mcap.dev/spec
"""

from __future__ import annotations

import fcntl
import json
import os
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import lz4.frame
import zstandard
from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from mcap.records import (
    Channel,
    Chunk,
    ChunkIndex,
    DataEnd,
    Footer,
    Header,
    McapRecord,
    Message,
    MessageIndex,
    Metadata,
    MetadataIndex,
    Schema,
    Statistics,
    SummaryOffset,
)
from mcap.writer import MCAP0_MAGIC

from minidiffuser_ros.contract.version import VERSION
from minidiffuser_ros.episodes.timeline import SMALL, STAMPED, Timeline
from minidiffuser_ros.episodes.typestore import message_definition

LEVEL = 1
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    "lz4": lz4.frame.compress,
    "zstd": zstandard.ZstdCompressor(level=LEVEL).compress,
}
# Name of the metadata record that repeats `custom_data`, so that the file alone says what it is; and its key for topic
# and type of each channel with a checksum, which are in the first chunks only.
RECORD, CHANNELS = "minidiffuser_episode", "channels"


class _OpenChunk:
    """A chunk in progress, which begins with `definitions`. index: channel → log time and place of its messages."""

    def __init__(self, definitions: Iterable[McapRecord] = ()) -> None:
        self.records = RecordBuilder()
        self.index: dict[int, list[tuple[int, int]]] = {}
        for record in definitions:
            record.write(self.records)


class BagFile:
    """Written in chunks, each of which can be read without the ones after it. Only one thread may use it."""

    def __init__(
        self, path: Path, types: Mapping[str, str], about: Mapping[str, str], compression: str, chunk_bytes: int
    ) -> None:
        """Make the file and lock it for as long as this process lives.

        types: topic → message type. about: kept in a record at the beginning. compression: a key of COMPRESSIONS.
        Raises FileExistsError rather than overwrite, other OSError if the file cannot be written, EpisodeError for a
        message type that is unknown.
        """
        kinds = list(dict.fromkeys(types.values()))
        texts = [message_definition(kind)[0].encode() for kind in kinds]
        self.timelines = {topic: Timeline(kind in STAMPED) for topic, kind in types.items()}
        self._schemas = [Schema(n, text, "ros2msg", k) for n, (k, text) in enumerate(zip(kinds, texts, strict=True), 1)]
        self._channels = {
            topic: Channel(n, topic, "cdr", {"offered_qos_profiles": ""}, kinds.index(kind) + 1)
            for n, (topic, kind) in enumerate(types.items(), 1)
        }
        self._compression, self._chunk_bytes = compression, chunk_bytes
        self._counts = dict.fromkeys((channel.id for channel in self._channels.values()), 0)
        self._chunks: list[ChunkIndex] = []
        self._small = {topic for topic, kind in types.items() if kind in SMALL}
        # Each describes all, so that one that is lost or never begun takes no topic with it.
        self._open = {small: _OpenChunk((*self._schemas, *self._channels.values())) for small in (True, False)}
        self._file = path.open("xb")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._file.write(MCAP0_MAGIC)
            self._put(Header("ros2", f"minidiffuser_ros-{VERSION}"))
            channels = json.dumps(list(types.items()))
            checked = f"{zlib.crc32(channels.encode())} {channels}"
            self._about = MetadataIndex(*self._put(Metadata(RECORD, {**about, CHANNELS: checked})), RECORD)
            self._file.flush()
        except BaseException:
            self.abandon()
            raise

    def add(self, topic: str, log_ns: int, data: bytes | memoryview, sequence: int) -> None:
        """Append one message. Raises OSError."""
        channel, small = self._channels[topic].id, topic in self._small
        chunk = self._open[small]
        chunk.index.setdefault(channel, []).append((log_ns, chunk.records.count))
        # The format has room for 32 bits of the publisher's count.
        Message(channel, log_ns, data, log_ns, sequence & 0xFFFFFFFF).write(chunk.records)
        self.timelines[topic].add(log_ns, data, sequence)
        if chunk.records.count >= self._chunk_bytes:
            self._end(small)

    def flush(self) -> None:
        """End the chunks in progress and hand everything to the operating system. Raises OSError."""
        for small in self._open:
            self._end(small)

    def finish(self) -> None:
        """Write the index, put everything on the disk and close. Raises OSError."""
        self.flush()
        self._put(DataEnd(0))
        start = self._file.tell()
        groups: dict[Opcode, list[McapRecord]] = {
            Opcode.SCHEMA: [*self._schemas],
            Opcode.CHANNEL: [*self._channels.values()],
            Opcode.STATISTICS: [self._statistics()],
            Opcode.CHUNK_INDEX: [*self._chunks],
            Opcode.METADATA_INDEX: [self._about],
        }
        summary, offsets = RecordBuilder(), []
        for opcode, records in groups.items():
            began = summary.count
            for record in records:
                record.write(summary)
            offsets.append(SummaryOffset(opcode, start + began, summary.count - began))
        offset_start = start + summary.count
        for offset in offsets:
            offset.write(summary)
        # The checksum covers the footer up to itself.
        Footer(start, offset_start, 0).write(summary)
        covered = summary.end()[:-4]
        self._file.write(covered + zlib.crc32(covered).to_bytes(4, "little") + MCAP0_MAGIC)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def abandon(self) -> None:
        """Close without an index."""
        with suppress(OSError):
            self._file.close()

    def _end(self, small: bool) -> None:
        """Write one of the chunks in progress with its index, and begin the next."""
        index = self._open[small].index
        if not index:
            return
        data = self._open[small].records.end()
        packed = COMPRESSIONS[self._compression](data)
        times = [log_ns for entries in index.values() for log_ns, _ in entries]
        first, last, size = min(times), max(times), len(data)
        start, length = self._put(Chunk(self._compression, packed, last, first, zlib.crc32(data), size))
        offsets = {channel: self._put(MessageIndex(channel, entries))[0] for channel, entries in index.items()}
        after = self._file.tell() - start - length
        self._chunks.append(
            ChunkIndex(length, start, self._compression, len(packed), last, after, offsets, first, size)
        )
        self._file.flush()
        for channel, entries in index.items():
            self._counts[channel] += len(entries)
        self._open[small] = _OpenChunk()

    def _put(self, record: McapRecord) -> tuple[int, int]:
        """Write a record; returns where it begins and how long it is."""
        builder, start = RecordBuilder(), self._file.tell()
        record.write(builder)
        data = builder.end()
        self._file.write(data)
        return start, len(data)

    def _statistics(self) -> Statistics:
        return Statistics(
            attachment_count=0,
            channel_count=len(self._channels),
            channel_message_counts={channel: count for channel, count in self._counts.items() if count},
            chunk_count=len(self._chunks),
            message_count=sum(self._counts.values()),
            message_end_time=max((chunk.message_end_time for chunk in self._chunks), default=0),
            message_start_time=min((chunk.message_start_time for chunk in self._chunks), default=0),
            metadata_count=1,
            schema_count=len(self._schemas),
        )


def is_being_written(path: Path) -> bool:
    """Whether a process that lives holds the lock of a `BagFile`."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
