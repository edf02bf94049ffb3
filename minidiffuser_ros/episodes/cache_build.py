"""Build a cache from recorded episodes, demonstrations' files and other caches.

Each episode is made ready once (`cache_parts`), in several processes; then all are written behind each other. Until
all is done everything stands in `OUT.partial`, from where the same command goes on.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import IO

import numpy as np

from minidiffuser_ros.contract.episode import SUCCESS
from minidiffuser_ros.contract.errors import BusyError, ConfigurationError, EpisodeError
from minidiffuser_ros.contract.workers import over_processes
from minidiffuser_ros.episodes.cache import INDEX, CacheEntry, CacheIndex
from minidiffuser_ros.episodes.cache_parts import Part, make_part, part_of
from minidiffuser_ros.episodes.catalog import Choice, Listed, Unreadable, catalog, order
from minidiffuser_ros.episodes.demonstration import ARRAYS

SUCCESSES = Choice(outcomes=(SUCCESS,))


@dataclass(frozen=True)
class BuildReport:
    """What became of the sources: names of what is in the cache, (name, name of the same one) of duplicates, sentences
    about what could not be read, and how many were not chosen, by outcome."""

    names: tuple[str, ...]
    steps: int
    duplicates: tuple[tuple[str, str], ...]
    unreadable: tuple[str, ...]
    not_chosen: dict[str, int]


def build_cache(
    sources: Sequence[Path], out: Path, workers: int = 1, keep: Choice = SUCCESSES, skip_unreadable: bool = False
) -> BuildReport:
    """Write the chosen episodes of the source folders to a new cache.

    Raises EpisodeError for sources that cannot be read (or are left out, with skip_unreadable), for episodes of
    different observation specs, where nothing is left, and where the cache cannot be written; ConfigurationError where
    `out` exists. Whatever it raises, what is done is kept, and the same call goes on.
    """
    if workers < 1:
        raise ConfigurationError(f"the number of workers must be at least 1, got {workers}")
    if out.exists():
        raise ConfigurationError(f"{out} exists, and a cache is never overwritten: name another folder")
    found = [episode for source in dict.fromkeys(map(Path, sources)) for episode in catalog(source)]
    episodes = [e for e in found if isinstance(e, Listed)]
    chosen = keep.of(episodes)
    problems = [e.problem for e in found if isinstance(e, Unreadable) and keep.names_fit(e.name)]
    not_chosen = dict(Counter(e.outcome for e in episodes) - Counter(e.outcome for e in chosen))
    _require_one_spec(chosen)
    try:
        with _partial_folder(out) as partial:
            problems += _make_parts(chosen, partial, workers)
            if problems and not skip_unreadable:
                raise EpisodeError(
                    f"{len(problems)} of {len(found)} episodes cannot be read, the first: {problems[0]}; mend or "
                    "remove them, or leave them out with --skip-unreadable"
                )
            ready = [part for e in chosen if (part := part_of(e, partial)) is not None]
            parts, duplicates = _without_duplicates(ready)
            if not parts:
                raise EpisodeError(f"none of {len(found)} episodes is left for the cache{_why_not(not_chosen)}")
            _write_cache(parts, partial / "cache")
            (partial / "cache").rename(out)
            shutil.rmtree(partial)
    except OSError as error:
        raise EpisodeError(
            f"cannot write the cache {out} ({error.strerror}): make room or name another folder; what is done is "
            "kept, and the same command goes on"
        ) from None
    names = tuple(part.episode.name for part in parts)
    return BuildReport(names, sum(p.steps for p in parts), tuple(duplicates), tuple(problems), not_chosen)


def _why_not(not_chosen: dict[str, int]) -> str:
    listed = ", ".join(f"{count} {outcome}" for outcome, count in not_chosen.items())
    return f" ({listed}, not chosen): label them, or choose other tasks, names or outcomes" if listed else ""


def _require_one_spec(episodes: Sequence[Listed]) -> None:
    for other in episodes:
        if differences := episodes[0].spec.differences(other.spec):
            raise EpisodeError(
                f"{episodes[0].name} and {other.name} have different observation specs ({'; '.join(differences)}): "
                "a cache holds one, choose the episodes of one by task or name"
            )


@contextmanager
def _partial_folder(out: Path) -> Iterator[Path]:
    """The folder that is worked in, for this process alone; it stays where the work was not finished."""
    partial = out.with_name(f"{out.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    with (partial / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(f"another process is building {out}: wait for it, or name another folder") from None
        yield partial


def _make_parts(episodes: Sequence[Listed], partial: Path, workers: int) -> list[str]:
    """Make what is missing; returns a sentence for each episode that cannot be read."""
    from tqdm import tqdm

    missing = [(episode, partial) for episode in episodes if part_of(episode, partial) is None]
    if not missing:
        return []
    results = over_processes(make_part, missing, min(workers, len(missing)))
    done = len(episodes) - len(missing)
    return [problem for problem in tqdm(results, "reading", len(episodes), initial=done, unit="episode") if problem]


def _without_duplicates(parts: Sequence[Part]) -> tuple[list[Part], list[tuple[str, str]]]:
    """Those of different content in the order of their names, which are made unique, and pairs of the others."""
    kept: dict[str, Part] = {}
    duplicates, taken = [], set()
    for part in sorted(parts, key=lambda p: (order(p.episode.name), p.content_sha256)):
        if part.content_sha256 in kept:
            duplicates.append((part.episode.name, kept[part.content_sha256].episode.name))
            continue
        name, number = part.episode.name, 1
        while name in taken:
            number += 1
            name = f"{part.episode.name}-{number}"
        taken.add(name)
        kept[part.content_sha256] = replace(part, episode=replace(part.episode, name=name))
    return list(kept.values()), duplicates


def _write_cache(parts: Sequence[Part], folder: Path) -> None:
    """All files of the cache, whole and on the disk; the parts are loaded one at a time."""
    from tqdm import tqdm

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    ends = accumulate(((p.steps, p.points) for p in parts), lambda a, b: (a[0] + b[0], a[1] + b[1]))
    entries = [_entry(part, *end) for part, end in zip(parts, ends, strict=True)]
    index = CacheIndex(parts[0].episode.spec, tuple(entries), {})
    with ExitStack() as stack:
        files = {name: _ArrayFile(stack.enter_context((folder / f"{name}.npy").open("wb"))) for name in ARRAYS}
        for name, file in files.items():
            file.begin(index.shape_of(name), np.dtype(ARRAYS[name]))
        for part in tqdm(parts, "writing", unit="episode"):
            demonstration = part.load()
            for name, file in files.items():
                file.write(np.ascontiguousarray(getattr(demonstration, name)).tobytes())
        index = replace(index, array_sha256={name: file.finish() for name, file in files.items()})
        text = stack.enter_context((folder / INDEX).open("w"))
        text.write(index.to_json())
        text.flush()
        os.fsync(text.fileno())


def _entry(part: Part, end_step: int, end_point: int) -> CacheEntry:
    e, first = part.episode, (end_step - part.steps, end_point - part.points)
    return CacheEntry(
        e.name, e.task, e.variation, e.seed, e.instructions, e.outcome, part.steps, part.points, *first,
        part.source_sha256, part.content_sha256,
    )  # fmt: skip


class _ArrayFile:
    """A .npy file of known shape, written piece by piece and hashed on the way."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._digest = file, hashlib.sha256()

    def begin(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self, header)

    def write(self, content: bytes) -> int:
        self._digest.update(content)
        return self._file.write(content)

    def finish(self) -> str:
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._digest.hexdigest()
