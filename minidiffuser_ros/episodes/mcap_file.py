"""The messages of an MCAP file, found by its own records and never by what it says of their places.

Recordings come from elsewhere, too. Every length is compared with what is left before anything is read, nothing is
unpacked beyond the sizes below, and at most one chunk and what overlaps it in time is in memory.
"""

from __future__ import annotations

import heapq
import struct
from binascii import crc32
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from minidiffuser_ros.contract.errors import EpisodeError
from minidiffuser_ros.episodes.mcap_records import (
    CHANNEL,
    CHUNK,
    CHUNK_HEAD_BYTES,
    MAGIC,
    MAX_CHUNK,
    MAX_DESCRIPTION,
    MESSAGE,
    MESSAGE_HEAD,
    MESSAGE_INDEX,
    SCHEMA,
    ChunkHead,
    Read,
    chunk_head,
    records,
    text,
    unpack,
)

MEBIBYTE = 1 << 20
MAX_MESSAGE = 64 * MEBIBYTE  # a 4K picture in 32FC1 is 33
MAX_HELD = 1024 * MEBIBYTE  # of messages that must be put in order before the first of them is passed on
MAX_RECORDS = 5_000_000


@dataclass(frozen=True)
class Channel:
    """A topic and the type of its messages."""

    topic: str
    type: str
    encoding: str


@dataclass
class _Chunk:
    """Where what a chunk packs lies in the file; channels: what its index lists, None where it has none."""

    head: ChunkHead
    offset: int
    channels: set[int] | None = None


class McapFile:
    """Reads the messages of one file, in a `with`. Raises EpisodeError for everything that is not as it must be."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.channels: dict[int, Channel] = {}
        self._schemas: dict[int, str] = {}
        self._chunks: list[_Chunk] = []
        # Messages beside chunks: log time and place.
        self._loose: list[tuple[int, int, int, int]] = []
        self._end = 0

    def __enter__(self) -> McapFile:
        try:
            self._file: BinaryIO = self.path.open("rb")
        except OSError as error:
            raise EpisodeError(f"cannot read {self.path} ({error.strerror}): name a recorded episode") from None
        try:
            self._scan()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def messages(self, topics: Collection[str], start_ns: int, stop_ns: int) -> Iterator[tuple[Channel, int, bytes]]:
        """Channel, log time and content of every message on `topics` with start_ns <= log time < stop_ns, by time."""
        wanted = {number for number, channel in self.channels.items() if channel.topic in topics}
        # First messages beside chunks; numbers break ties in the order of the file.
        held: list[tuple[int, int, int, bytes]] = []
        loose = [entry for entry in self._loose if entry[1] in wanted and start_ns <= entry[0] < stop_ns]
        chunks = [
            chunk
            for chunk in self._chunks
            if chunk.head.end_ns >= start_ns
            and chunk.head.start_ns < stop_ns
            and (chunk.channels is None or chunk.channels & wanted)
        ]
        sources: list[tuple[int, _Chunk | tuple[int, int, int, int]]] = [(entry[0], entry) for entry in loose]
        sources += [(chunk.head.start_ns, chunk) for chunk in chunks]
        sources.sort(key=lambda source: source[0])
        count, size = 0, 0
        for start, source in sources:
            while held and held[0][0] < start:
                log_ns, _, number, content = heapq.heappop(held)
                size -= len(content)
                yield self.channels[number], log_ns, content
            for log_ns, number, content in self._read(source, wanted, start_ns, stop_ns):
                heapq.heappush(held, (log_ns, count, number, content))
                count, size = count + 1, size + len(content)
                if size > MAX_HELD:
                    raise self._broken(f"more than {MAX_HELD // MEBIBYTE} MiB of its messages overlap in time")
        while held:
            log_ns, _, number, content = heapq.heappop(held)
            yield self.channels[number], log_ns, content

    def _scan(self) -> None:
        """Walk the records of the whole file without reading what chunks hold."""
        self._end = self._file.seek(0, 2)
        if self._at(0, min(len(MAGIC), self._end)) != MAGIC:
            raise self._broken("it does not begin as an MCAP file does")
        if self._end < 2 * len(MAGIC) or self._at(self._end - len(MAGIC), len(MAGIC)) != MAGIC:
            raise self._broken("it ends early, as when recording was interrupted: repair it first")
        last = self._end - len(MAGIC)
        for count, (code, start, length) in enumerate(self._records(self._at, len(MAGIC), last, False)):
            if count > MAX_RECORDS:
                raise self._broken("it has too many records")
            try:
                self._note(code, start, length)
            except (struct.error, UnicodeDecodeError):
                raise self._broken(f"the record at byte {start - 9} is not what the format asks for") from None

    def _records(self, read: Read, start: int, end: int, in_chunk: bool) -> Iterator[tuple[int, int, int]]:
        """Opcode, place and length of each record, all of which must end where they should."""
        try:
            for code, at, length in records(read, start, end):
                if at + length > end:
                    raise self._broken(f"a record reaches beyond {'the end of its chunk' if in_chunk else 'its end'}")
                yield code, at, length
        except struct.error:
            raise self._broken(
                f"{'the last record of a chunk' if in_chunk else 'its last record'} is incomplete"
            ) from None

    def _note(self, code: int, start: int, length: int) -> None:
        """Remember one record at the top of the file."""
        if code == CHUNK:
            self._chunks.append(self._chunk(start, length))
        elif code in (SCHEMA, CHANNEL):
            self._define(code, self._small(start, length))
        elif code == MESSAGE_INDEX and self._chunks:
            (number,) = struct.unpack("<H", self._at(start, min(length, 2)))
            self._chunks[-1].channels = {number} | (self._chunks[-1].channels or set())
        elif code == MESSAGE:
            number, log_ns = self._message_head(self._at, start, length)
            self._loose.append((log_ns, number, start, length))

    def _define(self, code: int, content: bytes) -> None:
        """A schema or a channel, at the top or in a chunk; both may come again, as they were."""
        (number,) = struct.unpack_from("<H", content)
        if code == SCHEMA:
            self._schemas[number], _ = text(content, 2)
            return
        (schema,) = struct.unpack_from("<H", content, 2)
        topic, offset = text(content, 4)
        encoding, _ = text(content, offset)
        channel = Channel(topic, self._schemas.get(schema, ""), encoding)
        if self.channels.setdefault(number, channel) != channel:
            raise self._broken(f"two topics share its channel {number}")

    def _chunk(self, start: int, length: int) -> _Chunk:
        head = chunk_head(self._at(start, min(length, CHUNK_HEAD_BYTES)))
        if (
            head.length + head.size != length
            or head.compression not in ("", "zstd", "lz4")
            or (not head.compression and head.unpacked != head.size)
        ):
            raise self._broken(f"the chunk at byte {start - 9} is not what the format asks for")
        if head.unpacked > MAX_CHUNK:
            raise self._broken(
                f"a chunk unpacks to {head.unpacked // MEBIBYTE} MiB, at most {MAX_CHUNK // MEBIBYTE} MiB are read at "
                "once"
            )
        return _Chunk(head, start + head.length)

    def _read(
        self, source: _Chunk | tuple[int, int, int, int], wanted: set[int], start_ns: int, stop_ns: int
    ) -> Iterator[tuple[int, int, bytes]]:
        """Log time, channel and content of the wanted messages of a chunk, or of one beside the chunks."""
        if not isinstance(source, _Chunk):
            log_ns, number, start, length = source
            yield log_ns, number, self._message(self._at, start, length)
            return
        read = self._content(source)
        for code, start, length in self._records(read, 0, source.head.unpacked, True):
            if code != MESSAGE:
                continue
            number, log_ns = self._message_head(read, start, length)
            if number in wanted and start_ns <= log_ns < stop_ns:
                yield log_ns, number, self._message(read, start, length)

    def _message_head(self, read: Read, start: int, length: int) -> tuple[int, int]:
        """Channel and log time."""
        if length < MESSAGE_HEAD.size:
            raise self._broken("a message is shorter than its own head")
        number, _, log_ns, _ = MESSAGE_HEAD.unpack(read(start, MESSAGE_HEAD.size))
        return number, log_ns

    def _content(self, chunk: _Chunk) -> Read:
        """What gives `length` bytes at an offset of the records; one that is not packed is not read as a whole."""
        head = chunk.head
        if not head.compression:
            return lambda offset, length: self._at(chunk.offset + offset, length)
        try:
            unpacked, whole = unpack(self._at(chunk.offset, head.size), head.compression, head.unpacked)
        except ValueError:
            unpacked, whole = b"", False
        if not whole or len(unpacked) != head.unpacked or (head.crc and crc32(unpacked) != head.crc):
            raise self._broken("a chunk cannot be unpacked to what it declares: it is damaged")
        return lambda offset, length: unpacked[offset : offset + length]

    def _message(self, read: Read, start: int, length: int) -> bytes:
        if length > MAX_MESSAGE:
            raise self._broken(
                f"a message has {length // MEBIBYTE} MiB, at most {MAX_MESSAGE // MEBIBYTE} MiB are read at once"
            )
        return bytes(read(start + MESSAGE_HEAD.size, length - MESSAGE_HEAD.size))

    def _small(self, start: int, length: int) -> bytes:
        if length > MAX_DESCRIPTION:
            raise self._broken("the definition of a message type or topic is too long to be one")
        return self._at(start, length)

    def _at(self, offset: int, length: int) -> bytes:
        """`length` bytes of the file. Raises EpisodeError where it has not so many or cannot be read."""
        try:
            self._file.seek(offset)
            content = self._file.read(length)
        except OSError as error:
            raise self._broken(f"it cannot be read ({error.strerror})") from None
        if len(content) != length:
            raise self._broken("it became shorter while it was read")
        return content

    def _broken(self, problem: str) -> EpisodeError:
        return EpisodeError(f"{self.path} is no readable recording: {problem}")
