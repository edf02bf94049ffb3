"""The messages of an MCAP file (mcap.dev/spec), found by its own records and never by what it says of their places.

Recordings come from elsewhere, too. Every length is compared with what is left before anything is read, nothing is
unpacked beyond the sizes below, and at most one chunk and what overlaps it in time is in memory.
"""

from __future__ import annotations

import heapq
import struct
import sys
from binascii import crc32
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from lz4.frame import LZ4FrameDecompressor

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from minidiffuser_ros.contract.errors import EpisodeError

MAGIC = b"\x89MCAP0\r\n"
SCHEMA, CHANNEL, MESSAGE, CHUNK, MESSAGE_INDEX = 0x03, 0x04, 0x05, 0x06, 0x07
MEBIBYTE = 1 << 20
MAX_CHUNK = 256 * MEBIBYTE  # unpacked; recorders close a chunk after a few
MAX_MESSAGE = 64 * MEBIBYTE  # a 4K picture in 32FC1 is 33
MAX_HELD = 1024 * MEBIBYTE  # of messages that must be put in order before the first of them is passed on
MAX_SMALL = MEBIBYTE  # a schema or a channel
MAX_RECORDS = 5_000_000
RECORD_HEAD, MESSAGE_HEAD = 9, 22  # bytes of code and length; of channel, sequence and two times


@dataclass(frozen=True)
class Channel:
    """A topic and the type of its messages."""

    topic: str
    type: str
    encoding: str


@dataclass
class _Chunk:
    """Where the messages of a chunk lie: `size` bytes from `offset` of the file, packed by `compression`.

    channels: what its index lists, None where it has none.
    """

    start_ns: int
    end_ns: int
    unpacked: int
    crc: int
    compression: str
    offset: int
    size: int
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
            if chunk.end_ns >= start_ns
            and chunk.start_ns < stop_ns
            and (chunk.channels is None or chunk.channels & wanted)
        ]
        sources: list[tuple[int, _Chunk | tuple[int, int, int, int]]] = [(entry[0], entry) for entry in loose]
        sources += [(chunk.start_ns, chunk) for chunk in chunks]
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
        offset, last, records = len(MAGIC), self._end - len(MAGIC), 0
        while offset < last:
            if last - offset < RECORD_HEAD:
                raise self._broken("its last record is incomplete")
            code, length = struct.unpack("<BQ", self._at(offset, RECORD_HEAD))
            start, offset, records = offset + RECORD_HEAD, offset + RECORD_HEAD + length, records + 1
            if offset > last or records > MAX_RECORDS:
                raise self._broken("a record reaches beyond its end" if offset > last else "it has too many records")
            try:
                self._note(code, start, length)
            except (struct.error, UnicodeDecodeError, IndexError):
                raise self._broken(f"the record at byte {start - 9} is not what the format asks for") from None

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
            if length < MESSAGE_HEAD:
                raise self._broken("a message is shorter than its own head")
            number, _, log_ns = struct.unpack("<HIQ", self._at(start, 14))
            self._loose.append((log_ns, number, start, length))

    def _define(self, code: int, content: bytes) -> None:
        """A schema or a channel, at the top or in a chunk; both may come again, as they were."""
        (number,) = struct.unpack_from("<H", content)
        if code == SCHEMA:
            self._schemas[number], _ = _text(content, 2)
            return
        (schema,) = struct.unpack_from("<H", content, 2)
        topic, offset = _text(content, 4)
        encoding, _ = _text(content, offset)
        channel = Channel(topic, self._schemas.get(schema, ""), encoding)
        if self.channels.setdefault(number, channel) != channel:
            raise self._broken(f"two topics share its channel {number}")

    def _chunk(self, start: int, length: int) -> _Chunk:
        head = self._at(start, min(length, 128))
        start_ns, end_ns, unpacked, crc = struct.unpack_from("<QQQI", head)
        compression, offset = _text(head, 28)
        (size,) = struct.unpack_from("<Q", head, offset)
        if (
            offset + 8 + size != length
            or compression not in ("", "zstd", "lz4")
            or (not compression and unpacked != size)
        ):
            raise self._broken(f"the chunk at byte {start - 9} is not what the format asks for")
        if unpacked > MAX_CHUNK:
            raise self._broken(
                f"a chunk unpacks to {unpacked // MEBIBYTE} MiB, at most {MAX_CHUNK // MEBIBYTE} MiB are read at once"
            )
        return _Chunk(start_ns, end_ns, unpacked, crc, compression, start + offset + 8, size)

    def _read(
        self, source: _Chunk | tuple[int, int, int, int], wanted: set[int], start_ns: int, stop_ns: int
    ) -> Iterator[tuple[int, int, bytes]]:
        """Log time, channel and content of the wanted messages of a chunk, or of one beside the chunks."""
        if not isinstance(source, _Chunk):
            log_ns, number, start, length = source
            yield log_ns, number, self._message(self._at, start, length)
            return
        read, offset = self._content(source), 0
        while offset < source.unpacked:
            if source.unpacked - offset < RECORD_HEAD:
                raise self._broken("the last record of a chunk is incomplete")
            code, length = struct.unpack("<BQ", read(offset, RECORD_HEAD))
            start, offset = offset + RECORD_HEAD, offset + RECORD_HEAD + length
            if offset > source.unpacked:
                raise self._broken("a record reaches beyond the end of its chunk")
            if code != MESSAGE:
                continue
            if length < MESSAGE_HEAD:
                raise self._broken("a message is shorter than its own head")
            number, _, log_ns = struct.unpack("<HIQ", read(start, 14))
            if number in wanted and start_ns <= log_ns < stop_ns:
                yield log_ns, number, self._message(read, start, length)

    def _content(self, chunk: _Chunk) -> Callable[[int, int], bytes]:
        """What gives `length` bytes at an offset of the records; one that is not packed is not read as a whole."""
        if not chunk.compression:
            return lambda offset, length: self._at(chunk.offset + offset, length)
        unpacked = unpack(self._at(chunk.offset, chunk.size), chunk.compression, chunk.unpacked)
        if unpacked is None or len(unpacked) != chunk.unpacked or (chunk.crc and crc32(unpacked) != chunk.crc):
            raise self._broken("a chunk cannot be unpacked to what it declares: it is damaged")
        return lambda offset, length: unpacked[offset : offset + length]

    def _message(self, read: Callable[[int, int], bytes], start: int, length: int) -> bytes:
        if length > MAX_MESSAGE:
            raise self._broken(
                f"a message has {length // MEBIBYTE} MiB, at most {MAX_MESSAGE // MEBIBYTE} MiB are read at once"
            )
        return read(start + MESSAGE_HEAD, length - MESSAGE_HEAD)

    def _small(self, start: int, length: int) -> bytes:
        if length > MAX_SMALL:
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


def unpack(packed: bytes, compression: str, limit: int) -> bytes | None:
    """What `packed` holds, at most `limit` bytes of it; None where it cannot be unpacked or holds more."""
    machine = zstd.ZstdDecompressor() if compression == "zstd" else LZ4FrameDecompressor()
    try:
        content = bytes(machine.decompress(packed, limit + 1))
    except (zstd.ZstdError, RuntimeError, ValueError, EOFError, MemoryError):
        return None
    return content if len(content) <= limit and machine.eof else None


def _text(content: bytes, offset: int) -> tuple[str, int]:
    """The text at `offset` and where it ends. Raises IndexError where it reaches beyond the content."""
    (length,) = struct.unpack_from("<I", content, offset)
    end = offset + 4 + length
    if end > len(content):
        raise IndexError
    return content[offset + 4 : end].decode(), end
