"""Reads an MCAP file from its beginning, without its index, as far as it is whole: what a killed recorder leaves.

Every length is checked against what is there and against a limit before memory is taken for it; whatever the bytes say,
at most one chunk is in memory. Layout: https://mcap.dev/spec
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from minidiffuser_ros.contract.errors import StorageError
from minidiffuser_ros.episodes.bag_file import CHANNELS, RECORD
from minidiffuser_ros.episodes.mcap_records import (
    CHANNEL,
    CHUNK,
    CHUNK_HEAD_BYTES,
    DATA_END,
    FOOTER,
    HEAD,
    MAGIC,
    MAX_CHUNK,
    MAX_DESCRIPTION,
    MESSAGE,
    MESSAGE_HEAD,
    METADATA,
    SCHEMA,
    Read,
    chunk_head,
    records,
    text,
    unpack,
)
from minidiffuser_ros.episodes.timeline import STAMPED, Timeline

# The header of the file begins with its profile.
PROFILE = b"\x04\x00\x00\x00ros2"
# Ten million messages are seven hours of an episode.
MAX_MESSAGES = 10_000_000
_FOOTER, _U32 = struct.Struct("<BQQQI8s"), struct.Struct("<I")


@dataclass(frozen=True)
class ScannedMessage:
    """One message. data: valid until the next message is asked for."""

    topic: str
    log_ns: int
    sequence: int
    data: memoryview


class _Damage(Exception):
    """What is wrong with the bytes, for `BagScan.damage`."""


class BagScan:
    """One pass over a file.

    After `messages` has ended: types: topic → message type. about: what the recorder wrote at the beginning. damage:
    why something is missing, empty if the file is whole.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.types: dict[str, str] = {}
        self.about: dict[str, str] = {}
        self.damage = ""
        self._schemas: dict[int, str] = {}
        self._channels: dict[int, str] = {}
        self._count = 0

    def messages(self) -> Iterator[ScannedMessage]:
        """Every message that is whole, in the order of the file. Raises StorageError if the file cannot be read."""
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(0)
                yield from self._file(file, size)
        except OSError as error:
            raise StorageError(f"cannot read {self.path} ({error.strerror or error})") from None

    def _file(self, file: BinaryIO, size: int) -> Iterator[ScannedMessage]:
        if file.read(len(MAGIC)) != MAGIC:
            self._note("it does not begin as an MCAP file does")
            return
        if file.read(HEAD.size + len(PROFILE))[HEAD.size :] != PROFILE:
            self._note("it does not say that it is a recording of ROS 2")

        def read(start: int, length: int) -> bytes:
            file.seek(start)
            return file.read(length)

        try:
            for opcode, start, length in records(read, len(MAGIC), size):
                cut = length > size - start
                try:
                    if opcode == DATA_END:
                        self._check_end(file, start + length, size)
                        return
                    if opcode == CHUNK:
                        yield from self._chunk(read, start, min(length, size - start), cut)
                    elif cut:
                        raise _Damage("it was cut off")
                    elif opcode in (SCHEMA, CHANNEL, METADATA) and length <= MAX_DESCRIPTION:
                        self._describe(opcode, memoryview(read(start, length)))
                    elif opcode == MESSAGE and length <= MAX_CHUNK:
                        yield self._message(memoryview(read(start, length)))
                except _Damage as damage:
                    self._note(str(damage))
                    if opcode == DATA_END or self._count >= MAX_MESSAGES:
                        return
        except struct.error:
            pass
        self._note("it was cut off")  # before the records that end it

    def _note(self, damage: str) -> None:
        self.damage = self.damage or damage

    def _check_end(self, file: BinaryIO, summary: int, size: int) -> None:
        """Is the index, which begins at `summary`, whole? Readers trust it more than the messages."""
        file.seek(max(size - _FOOTER.size, 0))
        opcode, length, start, _, crc, magic = _FOOTER.unpack(file.read().rjust(_FOOTER.size, b"\0"))
        if (opcode, length, magic, start) != (FOOTER, 20, MAGIC, summary):
            raise _Damage("its index is cut off or damaged")
        file.seek(summary)
        # The checksum ends before itself and the magic behind it.
        left, found = size - summary - _U32.size - len(MAGIC), 0
        while left > 0 and (block := file.read(min(left, 2**20))):
            found, left = zlib.crc32(block, found), left - len(block)
        if crc and found != crc:
            raise _Damage("its index is damaged")

    def _chunk(self, read: Read, start: int, length: int, cut: bool) -> Iterator[ScannedMessage]:
        """Messages of a chunk of which `length` bytes are there; `cut`: more of them should be."""
        try:
            head = chunk_head(read(start, min(length, CHUNK_HEAD_BYTES)))
        except (struct.error, UnicodeDecodeError):
            raise _Damage("it was cut off" if cut else "a chunk of it cannot be read") from None
        if head.unpacked > MAX_CHUNK or length - head.length > MAX_CHUNK:
            raise _Damage("a chunk of it cannot be as long as it says")
        packed = bytes(read(start + head.length, length - head.length))
        try:
            unpacked, whole = unpack(packed, head.compression, head.unpacked)
        except ValueError as error:
            raise _Damage(f"a chunk of it cannot be unpacked: {error}") from None
        whole = whole and len(unpacked) == head.unpacked and (not head.crc or zlib.crc32(unpacked) == head.crc)
        if not whole and not cut:
            raise _Damage("a chunk of it is damaged")
        first, last = 2**64, 0
        for message in self._records(memoryview(unpacked)):
            first, last = min(first, message.log_ns), max(last, message.log_ns)
            yield message
        if cut:
            raise _Damage("it was cut off")
        # Readers that want a part of the time choose chunks by these.
        if first <= last and (head.start_ns, head.end_ns) != (first, last):
            raise _Damage("a chunk of it is of other times than it says")

    def _records(self, data: memoryview) -> Iterator[ScannedMessage]:
        try:
            for opcode, start, length in records(lambda at, count: data[at : at + count], 0, len(data)):
                if length > len(data) - start:
                    raise _Damage("it was cut off")
                if opcode == MESSAGE:
                    yield self._message(data[start : start + length])
                elif opcode in (SCHEMA, CHANNEL):
                    self._describe(opcode, data[start : start + length])
        except struct.error:
            return  # what is left is less than a record

    def _message(self, record: memoryview) -> ScannedMessage:
        if len(record) < MESSAGE_HEAD.size:
            raise _Damage("a message of it is too short")
        channel, sequence, log_ns, _ = MESSAGE_HEAD.unpack_from(record)
        if channel not in self._channels:
            self._recall(channel)
        if channel not in self._channels or log_ns >= 2**63:
            raise _Damage("a message of it belongs to no topic")
        if self._count >= MAX_MESSAGES:
            raise _Damage(f"it has more than {MAX_MESSAGES} messages")
        self._count += 1
        return ScannedMessage(self._channels[channel], log_ns, sequence, record[MESSAGE_HEAD.size :])

    def _describe(self, opcode: int, record: memoryview) -> None:
        try:
            if opcode == SCHEMA:
                (schema,) = struct.unpack_from("<H", record)
                self._schemas[schema], _ = text(record, 2)
            elif opcode == CHANNEL:
                channel, schema = struct.unpack_from("<HH", record)
                topic, _ = text(record, 4)
                self._channels[channel] = topic
                self.types[topic] = self._schemas.get(schema, "")
            else:
                name, at = text(record, 0)
                if name == RECORD:
                    self._read_about(record, at)
        except (struct.error, UnicodeDecodeError):
            raise _Damage("a description in it cannot be read") from None

    def _read_about(self, record: memoryview, at: int) -> None:
        (length,) = _U32.unpack_from(record, at)
        at += _U32.size
        end = at + length
        while at < min(end, len(record)):
            key, at = text(record, at)
            self.about[key], at = text(record, at)

    def _recall(self, channel: int) -> None:
        """The chunk that described the channel is lost: take what the recorder wrote before all chunks."""
        checksum, _, channels = self.about.get(CHANNELS, "").partition(" ")
        try:
            if int(checksum) != zlib.crc32(channels.encode()):
                return
            topic, kind = json.loads(channels)[channel - 1]
        except (KeyError, ValueError, IndexError, TypeError, RecursionError):
            return
        if isinstance(topic, str) and isinstance(kind, str):
            self._channels[channel] = topic
            self.types[topic] = kind


def scan_timelines(scan: BagScan) -> dict[str, Timeline]:
    """Times of every message by topic, the topics without any included."""
    timelines: dict[str, Timeline] = {}
    for message in scan.messages():
        if message.topic not in timelines:
            timelines[message.topic] = Timeline(scan.types[message.topic] in STAMPED)
        timelines[message.topic].add(message.log_ns, message.data, message.sequence)
    return timelines | {t: Timeline(kind in STAMPED) for t, kind in scan.types.items() if t not in timelines}
