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
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import lz4.frame
import zstandard

from minidiffuser_ros.contract.errors import StorageError
from minidiffuser_ros.episodes.bag_file import CHANNELS, RECORD
from minidiffuser_ros.episodes.timeline import STAMPED, Timeline

MAGIC = b"\x89MCAP0\r\n"
# The header of the file begins with its profile.
PROFILE = b"\x04\x00\x00\x00ros2"
FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, METADATA, DATA_END = 0x02, 0x03, 0x04, 0x05, 0x06, 0x0C, 0x0F
_FOOTER = struct.Struct("<BQQQI8s")
FOOTER_BYTES = _FOOTER.size
# A chunk of the recorder has at most 64 MB and one message more; descriptions are short; 10 million messages are
# seven hours of an episode.
MAX_CHUNK, MAX_DESCRIPTION, MAX_MESSAGES, MAX_WINDOW = 2**28, 2**20, 10_000_000, 2**26
_RECORD, _CHUNK, _MESSAGE = struct.Struct("<BQ"), struct.Struct("<QQQI"), struct.Struct("<HIQQ")
_U16, _U32, _U64 = struct.Struct("<H"), struct.Struct("<I"), struct.Struct("<Q")


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
        if file.read(_RECORD.size + len(PROFILE))[_RECORD.size :] != PROFILE:
            self._note("it does not say that it is a recording of ROS 2")
        file.seek(len(MAGIC))
        while True:
            head = file.read(_RECORD.size)
            if len(head) < _RECORD.size:
                self._note("it was cut off")
                return
            opcode, length = _RECORD.unpack(head)
            left = size - file.tell()
            try:
                if opcode == DATA_END:
                    file.seek(length, 1)
                    self._check_end(file, size)
                    return
                if opcode == CHUNK:
                    yield from self._chunk(file, min(length, left), length > left)
                elif length > left:
                    raise _Damage("it was cut off")
                elif opcode in (SCHEMA, CHANNEL, METADATA) and length <= MAX_DESCRIPTION:
                    self._describe(opcode, memoryview(file.read(length)))
                elif opcode == MESSAGE and length <= MAX_CHUNK:
                    yield from self._message(memoryview(file.read(length)))
                else:
                    file.seek(length, 1)
            except _Damage as damage:
                self._note(str(damage))
                if opcode == DATA_END or length > left or self._count >= MAX_MESSAGES:
                    return

    def _note(self, damage: str) -> None:
        self.damage = self.damage or damage

    def _check_end(self, file: BinaryIO, size: int) -> None:
        """Is the index whole? Readers trust it more than the messages."""
        summary = file.tell()
        file.seek(max(size - FOOTER_BYTES, 0))
        opcode, length, start, _, crc, magic = _FOOTER.unpack(file.read().rjust(FOOTER_BYTES, b"\0"))
        if (opcode, length, magic, start) != (FOOTER, 20, MAGIC, summary):
            raise _Damage("its index is cut off or damaged")
        file.seek(summary)
        # The checksum ends before itself and the magic behind it.
        left, found = size - summary - _U32.size - len(MAGIC), 0
        while left > 0 and (block := file.read(min(left, 2**20))):
            found, left = zlib.crc32(block, found), left - len(block)
        if crc and found != crc:
            raise _Damage("its index is damaged")

    def _chunk(self, file: BinaryIO, length: int, cut: bool) -> Iterator[ScannedMessage]:
        """Messages of the chunk whose next `length` bytes are there; `cut`: more of them should be."""
        end = file.tell() + length
        head = file.read(min(length, _CHUNK.size + _U32.size + 8))
        if len(head) < _CHUNK.size + _U32.size:
            raise _Damage("it was cut off")
        _, _, unpacked_size, crc = _CHUNK.unpack_from(head)
        (name_length,) = _U32.unpack_from(head, _CHUNK.size)
        start = end - length + _CHUNK.size + _U32.size + name_length + _U64.size
        if name_length > 4 or unpacked_size > MAX_CHUNK or end - start > MAX_CHUNK:
            file.seek(end)
            raise _Damage("a chunk of it cannot be as long as it says")
        name = head[_CHUNK.size + _U32.size :][:name_length].decode("ascii", "replace")
        file.seek(start)
        packed = file.read(max(end - start, 0))
        unpacked = _unpacked(packed, name, unpacked_size)
        whole = not cut and len(unpacked) == unpacked_size and (not crc or zlib.crc32(unpacked) == crc)
        if not whole and not cut:
            raise _Damage("a chunk of it is damaged")
        yield from self._records(memoryview(unpacked))
        if cut:
            raise _Damage("it was cut off")

    def _records(self, data: memoryview) -> Iterator[ScannedMessage]:
        at = 0
        while at + _RECORD.size <= len(data):
            opcode, length = _RECORD.unpack_from(data, at)
            at += _RECORD.size
            if length > len(data) - at:
                raise _Damage("it was cut off")
            if opcode == MESSAGE:
                yield from self._message(data[at : at + length])
            elif opcode in (SCHEMA, CHANNEL):
                self._describe(opcode, data[at : at + length])
            at += length

    def _message(self, record: memoryview) -> Iterator[ScannedMessage]:
        if len(record) < _MESSAGE.size:
            raise _Damage("a message of it is too short")
        channel, sequence, log_ns, _ = _MESSAGE.unpack_from(record)
        if channel not in self._channels:
            self._recall(channel)
        if channel not in self._channels or log_ns >= 2**63:
            raise _Damage("a message of it belongs to no topic")
        if self._count >= MAX_MESSAGES:
            raise _Damage(f"it has more than {MAX_MESSAGES} messages")
        self._count += 1
        yield ScannedMessage(self._channels[channel], log_ns, sequence, record[_MESSAGE.size :])

    def _describe(self, opcode: int, record: memoryview) -> None:
        try:
            if opcode == SCHEMA:
                self._schemas[_U16.unpack_from(record)[0]], _ = _text(record, 2)
            elif opcode == CHANNEL:
                channel, schema = struct.unpack_from("<HH", record)
                topic, _ = _text(record, 4)
                self._channels[channel] = topic
                self.types[topic] = self._schemas.get(schema, "")
            else:
                name, at = _text(record, 0)
                if name == RECORD:
                    self._read_about(record, at)
        except (struct.error, UnicodeDecodeError):
            raise _Damage("a description in it cannot be read") from None

    def _read_about(self, record: memoryview, at: int) -> None:
        (length,) = _U32.unpack_from(record, at)
        at += _U32.size
        end = at + length
        while at < min(end, len(record)):
            key, at = _text(record, at)
            self.about[key], at = _text(record, at)

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


def _text(record: memoryview, at: int) -> tuple[str, int]:
    (length,) = _U32.unpack_from(record, at)
    at += _U32.size
    if length > len(record) - at:
        raise struct.error
    return bytes(record[at : at + length]).decode("utf-8"), at + length


def _unpacked(packed: bytes, compression: str, size: int) -> bytes:
    """At most `size` bytes (and one more, if there are too many) of a chunk; of a chunk cut off, what can be had."""
    try:
        if compression == "zstd":
            reader = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).stream_reader(BytesIO(packed))
            return _read_all(reader, size + 1)
        if compression == "lz4":
            return lz4.frame.LZ4FrameDecompressor().decompress(packed, max_length=size + 1) if packed else b""
    except (zstandard.ZstdError, RuntimeError, EOFError):
        raise _Damage("a chunk of it is damaged") from None
    if compression:
        raise _Damage(f"a chunk of it is compressed in an unknown way ({compression!r})")
    return packed[: size + 1]


def _read_all(reader: zstandard.ZstdDecompressionReader, limit: int) -> bytes:
    parts, total = [], 0
    while total < limit and (part := reader.read(min(limit - total, 2**20))):
        parts.append(part)
        total += len(part)
    return b"".join(parts)
