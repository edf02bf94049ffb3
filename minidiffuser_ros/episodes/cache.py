"""The training cache: many demonstrations in seven flat arrays that are mapped into memory, not read.

docs/episodes.md states the format. `cache_build` makes caches.
"""

from __future__ import annotations

import hashlib
import io
import json
import mmap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.contract.episode import OUTCOMES
from minidiffuser_ros.contract.errors import ConfigurationError, EpisodeError
from minidiffuser_ros.contract.observation import ObservationSpec
from minidiffuser_ros.episodes.demonstration import ARRAYS, Demonstration, problem_of

FORMAT = 1
INDEX = "cache.json"
# Numbers of each row, behind the rows: one row a step, but for `points` and `colors` one a point.
ROWS: dict[str, tuple[int, ...]] = {
    "counts": (), "points": (3,), "colors": (3,), "tool": (7,), "openings": (), "joints": (7,), "targets": (8,),
}  # fmt: skip
PER_POINT = ("points", "colors")
MAX_INDEX_BYTES = 1 << 28  # some 400 000 episodes
MAX_HEADER_BYTES = 1 << 12  # numpy's own take 128
MAX_ROWS = 1 << 40


@dataclass(frozen=True)
class CacheEntry:
    """One episode: rows [first_step, first_step + steps) and [first_point, first_point + points) of the arrays.

    name: unique in its cache. source_sha256: of the file or recording that it was made from; content_sha256: of what
    training reads, see `content_sha256`.
    """

    name: str
    task: str
    variation: int
    seed: int
    instructions: tuple[str, ...]
    outcome: str
    steps: int
    points: int
    first_step: int
    first_point: int
    source_sha256: str
    content_sha256: str


@dataclass(frozen=True)
class CacheIndex:
    """What `cache.json` says; array_sha256: of each array's file, by the array's name."""

    spec: ObservationSpec
    entries: tuple[CacheEntry, ...]
    array_sha256: Mapping[str, str]

    def shape_of(self, array: str) -> tuple[int, ...]:
        """The shape that the array has when it fits the entries."""
        rows = sum(e.points if array in PER_POINT else e.steps for e in self.entries)
        return (rows, *ROWS[array])

    def to_json(self) -> str:
        """The content of `cache.json`."""
        values = {
            "format": FORMAT,
            "spec": self.spec.to_dict(),
            "arrays": {name: {"sha256": self.array_sha256[name]} for name in ARRAYS},
            "episodes": [asdict(entry) for entry in self.entries],
        }
        return json.dumps(values, indent=1) + "\n"


def is_cache(folder: Path) -> bool:
    """Whether the folder calls itself a cache."""
    return (folder / INDEX).is_file()


def content_sha256(demonstration: Demonstration) -> str:
    """Hash of what training reads: task, sentences and every number. Equal demonstrations have equal hashes."""
    text = json.dumps([demonstration.task, *demonstration.instructions])
    digest = hashlib.sha256(text.encode())
    for name in ARRAYS:
        array = np.ascontiguousarray(getattr(demonstration, name))
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """Hash of a file, read piece by piece."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def read_index(folder: Path) -> CacheIndex:
    """What a cache holds. Raises EpisodeError where `cache.json` is missing, foreign or contradicts itself."""
    path = folder / INDEX
    try:
        if path.stat().st_size > MAX_INDEX_BYTES:
            raise EpisodeError(f"{path} is larger than {MAX_INDEX_BYTES >> 20} MiB: it is no cache of this package")
        values = json.loads(path.read_bytes())
        if values["format"] != FORMAT:
            raise EpisodeError(
                f"{path} has format {values['format']!r:.20}, this version reads {FORMAT}: build it again"
            )
        arrays = {name: _text(values["arrays"][name]["sha256"]) for name in ARRAYS}
        entries = tuple(_entry(entry) for entry in values["episodes"])
        index = CacheIndex(ObservationSpec.from_dict(values["spec"]), entries, arrays)
    except OSError as error:
        raise EpisodeError(f"cannot read {path} ({error.strerror}): name a folder made by `episodes cache`") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ConfigurationError) as error:
        raise EpisodeError(f"{path} does not hold what a cache does ({error!s:.200}): build it again") from None
    if problem := _disorder(entries):
        raise EpisodeError(f"{path}: {problem}: build it again")
    return index


class Cache:
    """An open cache: its index, and its arrays as read-only maps."""

    def __init__(self, folder: Path, index: CacheIndex, maps: Mapping[str, NDArray[Any]]) -> None:
        self.folder, self.index, self._maps = folder, index, maps
        self._entries = {entry.name: entry for entry in index.entries}

    def demonstration(self, name: str, verify: bool = False) -> Demonstration:
        """One episode as views into the maps. Raises EpisodeError where it is not there or not as it should be."""
        entry = self._entries.get(name)
        if entry is None:
            raise EpisodeError(f"{self.folder} has no episode {name!r:.80}: `minidiffuser episodes list` shows them")
        steps = slice(entry.first_step, entry.first_step + entry.steps)
        points = slice(entry.first_point, entry.first_point + entry.points)
        # Plain arrays: slices of numpy's memmap cost several times as much.
        rows = {n: array[points if n in PER_POINT else steps].view(np.ndarray) for n, array in self._maps.items()}
        demonstration = Demonstration(
            entry.task, entry.variation, entry.seed, entry.instructions, self.index.spec, **rows
        )
        problem = problem_of(demonstration)
        if not problem and verify and content_sha256(demonstration) != entry.content_sha256:
            problem = "its content is not what was written, the hash differs"
        if problem:
            raise EpisodeError(f"{self.folder}, episode {name}: {problem}: build it again")
        return demonstration

    def verify_files(self) -> None:
        """Raises EpisodeError naming the first array file whose hash differs."""
        for name, expected in self.index.array_sha256.items():
            path = self.folder / f"{name}.npy"
            if file_sha256(path) != expected:
                raise EpisodeError(f"{path} is not what was written, its hash differs: build the cache again")

    def release_pages(self) -> None:
        """Give back the memory of everything that was looked at; the views stay valid."""
        for array in self._maps.values():
            if isinstance(array.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
                array.base.madvise(mmap.MADV_DONTNEED)


def open_cache(folder: Path) -> Cache:
    """Map the arrays of a cache after a look at their headers. Raises EpisodeError."""
    index = read_index(folder)
    return Cache(folder, index, {name: _mapped(folder / f"{name}.npy", name, index) for name in ARRAYS})


def load_cache(folder: Path, verify: bool = False) -> list[Demonstration]:
    """The demonstrations of a cache, in its order, as read-only views into its files.

    Everything is checked as for single files, which reads each number once and keeps none. verify: compare the hashes,
    too. Raises EpisodeError naming the file and what is wrong; never unpickles, and allocates nothing that a header
    claims.
    """
    cache = open_cache(folder)
    if verify:
        cache.verify_files()
    demonstrations = [cache.demonstration(entry.name, verify) for entry in cache.index.entries]
    cache.release_pages()
    return demonstrations


def _mapped(path: Path, name: str, index: CacheIndex) -> NDArray[Any]:
    """An array file as a map. Its header and size are compared with what the index says before numpy opens it."""
    expected = (index.shape_of(name), False, np.dtype(ARRAYS[name]))
    wanted = f"{expected[2]} {expected[0]}"
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = io.BytesIO(file.read(MAX_HEADER_BYTES))
        if np.lib.format.read_magic(head) != (1, 0):
            raise ValueError("another version of numpy's format")
        found = np.lib.format.read_array_header_1_0(head)
        if found != expected:
            raise EpisodeError(f"{path} must be {wanted}, its header says {found[2]} {found[0]}: build the cache again")
        needed = head.tell() + int(np.prod(expected[0], dtype=object)) * expected[2].itemsize
        if size != needed:
            raise EpisodeError(f"{path} has {size} bytes, {wanted} takes {needed}: build the cache again")
        mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        return mapped
    except OSError as error:
        raise EpisodeError(f"cannot read {path} ({error.strerror}): build the cache again") from None
    except EpisodeError:
        raise
    except Exception as error:  # a foreign header makes numpy's parser raise almost anything
        raise EpisodeError(f"{path} is no array of a cache ({error!s:.100}): build the cache again") from None


def _disorder(entries: Sequence[CacheEntry]) -> str:
    """What keeps the entries from lying one behind the other; empty where they do."""
    if not entries:
        return "it lists no episodes"
    if (entries[0].first_step, entries[0].first_point) != (0, 0):
        return "its first episode does not begin at 0"
    for before, after in pairwise(entries):
        ends = (before.first_step + before.steps, before.first_point + before.points)
        if (after.first_step, after.first_point) != ends:
            return f"episode {after.name!r:.60} begins at {after.first_step, after.first_point}, expected {ends}"
    if len({entry.name for entry in entries}) != len(entries):
        return "two of its episodes have the same name"
    return ""


def _entry(values: Mapping[str, Any]) -> CacheEntry:
    """One episode of `cache.json`; ValueError, TypeError or KeyError for anything else."""
    unknown = set(values) ^ {field.name for field in fields(CacheEntry)}
    if unknown:
        raise ValueError(f"an episode lacks or does not know {sorted(unknown)}")
    instructions = values["instructions"]
    if not isinstance(instructions, list) or values["outcome"] not in OUTCOMES:
        raise ValueError(f"instructions {instructions!r:.60}, outcome {values['outcome']!r:.60}")
    for name, low in (("steps", 1), ("points", 1), ("first_step", 0), ("first_point", 0)):
        if type(values[name]) is not int or not low <= values[name] <= MAX_ROWS:
            raise ValueError(f"'{name}' must be a whole number from {low}, is {values[name]!r:.60}")
    if type(values["variation"]) is not int or type(values["seed"]) is not int:
        raise ValueError("variation and seed must be whole numbers")
    for name in ("name", "task", "source_sha256", "content_sha256"):
        _text(values[name])
    return CacheEntry(**{**values, "instructions": tuple(_text(sentence) for sentence in instructions)})


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"text was expected, not {value!r:.60}")
    return value
