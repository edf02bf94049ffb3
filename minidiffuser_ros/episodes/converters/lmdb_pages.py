"""Keys and values of an LMDB file, read page by page in Python.

liblmdb maps the file and trusts every number in it: a damaged or cut off file ends the whole process. Here every
number is checked before it is used, nothing is locked or written, and a value is a view of the file.

The layout (OpenLDAP, libraries/liblmdb/mdb.c): pages of equal size; the first two are copies of the meta page, the
one with the higher transaction holds. It names the root of a B+ tree. A page has a header of 16 bytes (its number,
two bytes, flags, where its free space begins and ends) and then offsets of its nodes; a node has 8 bytes (two halves
of a size or of a page number, flags, length of the key), the key, and in a leaf the value, or the number of the page
from which on it lies.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from minidiffuser_ros.contract.errors import EpisodeError

FILE = "data.mdb"
MAGIC, VERSION = 0xBEEFC0DE, 1
PAGE_HEADER, NODE_HEADER = 16, 8
BRANCH, LEAF, OVERFLOW, META = 0x01, 0x02, 0x04, 0x08
BIG_DATA, SUB_DATA, DUPLICATES = 0x01, 0x02, 0x04
NO_PAGE = 2**64 - 1
MAX_DEPTH = 32


class _Meta(NamedTuple):
    """What a meta page says of the main tree."""

    page_size: int
    root: int
    entries: int
    last_page: int
    transaction: int


class LmdbFile:
    """The entries of the main database in a folder written by liblmdb, by key; a context manager."""

    def __init__(self, folder: Path) -> None:
        """Raises EpisodeError where there is no such file, or its first pages are not LMDB's."""
        self._path = folder / FILE
        try:
            with self._path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise EpisodeError(f"cannot read {self._path} ({error!s:.80}): name a folder that holds {FILE}") from None
        self._view = memoryview(self._map)
        try:
            self._meta = self._newest_meta()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> LmdbFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self._meta.entries

    def close(self) -> None:
        """Let go of the file; views of values that are still held keep it open until they are gone."""
        try:
            self._view.release()
            self._map.close()
        except BufferError:
            pass

    def items(self) -> Iterator[tuple[bytes, memoryview]]:
        """Every key and value, sorted by key. Raises EpisodeError at the first number that cannot be."""
        if self._meta.root == NO_PAGE:
            return
        # Pages still to be read, with their depth; a tree visits none twice.
        waiting, seen = [(self._meta.root, 0)], set()
        while waiting:
            number, depth = waiting.pop()
            if number in seen or depth > MAX_DEPTH:
                raise self._damaged(f"page {number} is used twice or lies too deep")
            seen.add(number)
            flags, nodes = self._nodes(number)
            if flags & BRANCH:
                children = [low | high << 16 | more << 32 for low, high, more, _, _ in nodes]
                waiting += [(child, depth + 1) for child in reversed(children)]
            elif flags & LEAF:
                yield from (self._entry(number, *node) for node in nodes)
            else:
                raise self._damaged(f"page {number} is neither branch nor leaf")

    def _entry(self, page: int, low: int, high: int, flags: int, key_size: int, start: int) -> tuple[bytes, memoryview]:
        if flags & (SUB_DATA | DUPLICATES):
            raise self._damaged(f"page {page} has a database in it or several values of a key")
        size, end = low | high << 16, (page + 1) * self._meta.page_size
        value = start + NODE_HEADER + key_size
        key = bytes(self._slice(start + NODE_HEADER, key_size, end))
        if not flags & BIG_DATA:
            return key, self._slice(value, size, end)
        (first,) = struct.unpack("<Q", self._slice(value, 8, end))
        begin = self._page(first)
        (overflow_flags,) = struct.unpack("<H", self._view[begin + 10 : begin + 12])
        if not overflow_flags & OVERFLOW:
            raise self._damaged(f"page {first} does not hold a long value")
        return key, self._slice(begin + PAGE_HEADER, size, len(self._view))

    def _nodes(self, number: int) -> tuple[int, list[tuple[int, int, int, int, int]]]:
        """Flags of a page, and of each node two halves, flags, length of the key, and where it starts in the file."""
        begin, size = self._page(number), self._meta.page_size
        own, _, flags, lower, upper = struct.unpack("<QHHHH", self._view[begin : begin + PAGE_HEADER])
        if own != number or not PAGE_HEADER <= lower <= upper <= size:
            raise self._damaged(f"page {number} contradicts itself")
        offsets = struct.unpack(
            f"<{(lower - PAGE_HEADER) // 2}H", self._slice(begin + PAGE_HEADER, (lower - 16) // 2 * 2)
        )
        nodes = []
        for offset in offsets:
            header = self._slice(begin + offset, NODE_HEADER, begin + size)
            nodes.append((*struct.unpack("<HHHH", header), begin + offset))
        return flags, nodes

    def _page(self, number: int) -> int:
        """Where a page begins in the file."""
        if number > self._meta.last_page:
            raise self._damaged(f"page {number} lies behind the last one, {self._meta.last_page}")
        return number * self._meta.page_size

    def _slice(self, start: int, size: int, end: int | None = None) -> memoryview:
        """Bytes of the file that do not go beyond `end`."""
        if start + size > (len(self._view) if end is None else end):
            raise self._damaged(f"an entry of {size} bytes goes beyond its page or the file")
        return self._view[start : start + size]

    def _newest_meta(self) -> _Meta:
        first = self._read_meta(0)
        metas = [first, self._read_meta(first.page_size)]
        newest = max(metas, key=lambda meta: meta.transaction)
        if newest.page_size != first.page_size or (newest.last_page + 1) * newest.page_size > len(self._view):
            raise EpisodeError(
                f"{self._path} is cut off or damaged: it has {len(self._view)} bytes and says that its "
                f"{newest.last_page + 1} pages have {newest.page_size} bytes each; copy it again"
            )
        return newest

    def _read_meta(self, begin: int) -> _Meta:
        page = bytes(self._view[begin : begin + PAGE_HEADER + 136])
        if len(page) < PAGE_HEADER + 136:
            raise EpisodeError(f"{self._path} is cut off: it has {len(self._view)} bytes")
        flags, magic, version = struct.unpack("<10xH4xII", page[:24])
        size, entries, root, last, transaction = struct.unpack("<24xI76xQQQQ", page[16:])
        if not flags & META or magic != MAGIC or version != VERSION or size not in {2**n for n in range(9, 17)}:
            raise EpisodeError(f"{self._path} is no LMDB file of version {VERSION}: name a keystep store")
        return _Meta(size, root, entries, last, transaction)

    def _damaged(self, what: str) -> EpisodeError:
        return EpisodeError(f"{self._path} is damaged: {what}; copy it again")
