"""The records of MCAP files (mcap.dev/spec): walked over, taken apart, unpacked; nothing in them is believed.

Whoever reads a file decides what to do about damage: `mcap_file` refuses it, `scan` takes what is whole.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lz4.frame import LZ4FrameDecompressor

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAGIC = b"\x89MCAP0\r\n"
FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, MESSAGE_INDEX = 0x02, 0x03, 0x04, 0x05, 0x06, 0x07
METADATA, DATA_END = 0x0C, 0x0F
# Bytes of a chunk when it is unpacked, where recorders close one after a few MiB; of a schema, a channel or metadata.
MAX_CHUNK, MAX_DESCRIPTION = 2**28, 2**20
HEAD, MESSAGE_HEAD = struct.Struct("<BQ"), struct.Struct("<HIQQ")
# As much of a chunk as is needed to know what it holds.
CHUNK_HEAD_BYTES = 64
_CHUNK_HEAD = struct.Struct("<QQQI")

# Gives so many bytes at an offset.
Read = Callable[[int, int], bytes | memoryview]


@dataclass(frozen=True)
class ChunkHead:
    """Times, size when unpacked, checksum and compression of a chunk; its `size` bytes begin `length` after it does."""

    start_ns: int
    end_ns: int
    unpacked: int
    crc: int
    compression: str
    size: int
    length: int


def records(read: Read, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Opcode, place and length of each record between two places. The last one may reach beyond the end.

    Raises struct.error where the end cuts the head of a record.
    """
    while start < end:
        opcode, length = HEAD.unpack(read(start, min(HEAD.size, end - start)))
        start += HEAD.size
        yield opcode, start, length
        start += length


def chunk_head(content: bytes | memoryview) -> ChunkHead:
    """What a chunk says of itself. Raises struct.error or UnicodeDecodeError."""
    start_ns, end_ns, unpacked, crc = _CHUNK_HEAD.unpack_from(content)
    compression, at = text(content, _CHUNK_HEAD.size)
    (size,) = struct.unpack_from("<Q", content, at)
    return ChunkHead(start_ns, end_ns, unpacked, crc, compression, size, at + 8)


def text(content: bytes | memoryview, at: int) -> tuple[str, int]:
    """The text at a place and where it ends. Raises struct.error or UnicodeDecodeError."""
    (length,) = struct.unpack_from("<I", content, at)
    at += 4
    if length > len(content) - at:
        raise struct.error
    return bytes(content[at : at + length]).decode(), at + length


def unpack(packed: bytes, compression: str, limit: int) -> tuple[bytes, bool]:
    """What `packed` holds, but not much more than `limit` bytes of it, and whether that is all and within the limit.

    Of what was cut off comes the beginning. Raises ValueError for what is damaged or packed in another way.
    """
    if not compression or not packed:
        return packed, not compression and len(packed) <= limit
    if compression not in ("zstd", "lz4"):
        raise ValueError(f"it is compressed in an unknown way ({compression!r:.20})")
    machine = zstd.ZstdDecompressor() if compression == "zstd" else LZ4FrameDecompressor()
    try:
        content = bytes(machine.decompress(packed, limit + 1))
    except (zstd.ZstdError, RuntimeError, EOFError, MemoryError) as error:
        raise ValueError("it is damaged") from error
    return content, len(content) <= limit and bool(machine.eof)
