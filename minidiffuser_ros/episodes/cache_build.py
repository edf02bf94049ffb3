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
from pathlib import Path
from typing import IO

import numpy as np

from minidiffuser_ros.contract.episode import SUCCESS
from minidiffuser_ros.contract.errors import BusyError, ConfigurationError, EpisodeError
from minidiffuser_ros.contract.files import replace_file, sync_folder
from minidiffuser_ros.contract.workers import over_processes
from minidiffuser_ros.episodes.cache import INDEX, PER_POINT, ROWS, CacheEntry, CacheIndex
from minidiffuser_ros.episodes.cache_parts import Part, make_part, part_of
from minidiffuser_ros.episodes.catalog import Choice, Listed, Unreadable, catalog, order
from minidiffuser_ros.episodes.demonstration import ARRAYS, Demonstration

SUCCESSES = Choice(outcomes=(SUCCESS,))


@dataclass(frozen=True)
class BuildReport:
    """What became of the sources: names of what is in the cache, (place, place of the same one) of duplicates,
    sentences about what could not be read, and how many the choice left out, by outcome."""

    names: tuple[str, ...]
    steps: int
    duplicates: tuple[tuple[str, str], ...]
    unreadable: tuple[str, ...]
    not_chosen: dict[str, int]


def build_cache(
    sources: Sequence[Path], out: Path, workers: int = 1, keep: Choice = SUCCESSES, keep_going: bool = False
) -> BuildReport:
    """Write the chosen episodes of the source folders to a new cache.

    Raises EpisodeError for sources that cannot be read (or are left out, with keep_going), for episodes of
    different observation specs, where nothing is left, and where the cache cannot be written; ConfigurationError where
    `out` exists. Whatever it raises, what is done is kept, and the same call goes on.
    """
    if workers < 1:
        raise ConfigurationError(f"the number of workers must be at least 1, got {workers}")
    if out.exists():
        raise ConfigurationError(f"{out} exists, and a cache is never overwritten: name another folder")
    found = [episode for source in dict.fromkeys(map(Path, sources)) for episode in catalog(source)]
    episodes = [e for e in found if isinstance(e, Listed)]
    candidates = replace(keep, per_task=0).of(episodes)
    problems = {e.path: e.problem for e in found if isinstance(e, Unreadable) and keep.names_fit(e.name)}
    _require_one_spec(candidates)
    try:
        with _partial_folder(out) as partial:
            parts, duplicates = _ready_parts(candidates, keep.per_task, partial, workers, problems)
            if problems and not keep_going:
                raise EpisodeError(
                    f"{len(problems)} of {len(found)} episodes cannot be read, the first: {min(problems.values())}; "
                    "mend or remove them, or leave them out with --keep-going"
                )
            not_chosen = dict(Counter(e.outcome for e in episodes) - Counter(e.outcome for e in candidates))
            if not parts:
                raise EpisodeError(f"none of {len(found)} episodes is left for the cache{_why_not(not_chosen)}")
            _write_cache(parts, partial / "cache")
            (partial / "cache").rename(out)
            sync_folder(out.parent)
            shutil.rmtree(partial)
    except OSError as error:
        raise EpisodeError(
            f"cannot write the cache {out} ({error.strerror}): make room or name another folder; what is done is "
            "kept, and the same command goes on"
        ) from None
    names = tuple(part.name for part in parts)
    sentences = tuple(sorted(problems.values()))
    return BuildReport(names, sum(p.steps for p in parts), tuple(duplicates), sentences, not_chosen)


def _ready_parts(
    candidates: Sequence[Listed], per_task: int, partial: Path, workers: int, problems: dict[Path, str]
) -> tuple[list[Part], list[tuple[str, str]]]:
    """Parts of different content, up to `per_task` of each task, and pairs of duplicates; adds to `problems`.

    Where duplicates and unreadable ones make a task fall short, more of its episodes are read.
    """
    wanted = Counter({e.task: per_task or len(candidates) for e in candidates})
    while True:
        chosen = _first_of_each(candidates, wanted)
        problems |= _make_parts([e for e in chosen if e.path not in problems], partial, workers)
        ready = [p for e in chosen if e.path not in problems and (p := part_of(e, partial)) is not None]
        parts, duplicates = _without_duplicates(ready)
        have, seen = Counter(p.episode.task for p in parts), Counter(e.task for e in chosen)
        more = {task for task in wanted if per_task and have[task] < per_task and seen[task] == wanted[task]}
        if not more:
            return parts, duplicates
        for task in more:
            wanted[task] += per_task - have[task]


def _first_of_each(candidates: Sequence[Listed], wanted: Counter[str]) -> list[Listed]:
    left = wanted.copy()
    chosen = []
    for episode in candidates:
        if left[episode.task] > 0:
            left[episode.task] -= 1
            chosen.append(episode)
    return chosen


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
        try:
            yield partial
        finally:
            if partial.is_dir() and [path.name for path in partial.iterdir()] == ["lock"]:
                shutil.rmtree(partial)  # nothing was done that would be worth to keep


def _make_parts(episodes: Sequence[Listed], partial: Path, workers: int) -> dict[Path, str]:
    """Make what is missing; returns a sentence for each episode that cannot be read, by its path."""
    from tqdm import tqdm

    missing = [(episode, partial) for episode in episodes if part_of(episode, partial) is None]
    if not missing:
        return {}
    results = over_processes(make_part, missing, min(workers, len(missing)))
    done = len(episodes) - len(missing)
    bar = tqdm(results, "reading", len(episodes), initial=done, unit="episode")
    return {path: problem for path, problem in bar if problem}


def _without_duplicates(parts: Sequence[Part]) -> tuple[list[Part], list[tuple[str, str]]]:
    """Those of different content in the order of their names, which are made unique, and pairs of the others."""
    kept: dict[str, Part] = {}
    duplicates, taken = [], set()
    for part in sorted(parts, key=lambda p: (order(p.name), p.content_sha256)):
        if part.content_sha256 in kept:
            duplicates.append((part.episode.place, kept[part.content_sha256].episode.place))
            continue
        name, number = part.name, 1
        while name in taken:
            number += 1
            name = f"{part.name}-{number}"
        taken.add(name)
        kept[part.content_sha256] = replace(part, name=name)
    return list(kept.values()), duplicates


def _write_cache(parts: Sequence[Part], folder: Path) -> None:
    """All files of the cache, whole and on the disk; the parts are loaded one at a time."""
    from tqdm import tqdm

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    spec, entries = parts[0].episode.spec, []
    steps, points = sum(p.steps for p in parts), sum(p.points for p in parts)
    with ExitStack() as stack:
        files = {name: _ArrayFile(stack.enter_context((folder / f"{name}.npy").open("wb"))) for name in ARRAYS}
        for name, file in files.items():
            file.begin((points if name in PER_POINT else steps, *ROWS[name]), np.dtype(ARRAYS[name]))
        step = point = 0
        for part in tqdm(parts, "writing", unit="episode"):
            demonstration = part.load()
            if differences := spec.differences(demonstration.spec):
                raise EpisodeError(f"{part.name} is not of the spec that it announced: {'; '.join(differences)}")
            for name, file in files.items():
                file.write(np.ascontiguousarray(getattr(demonstration, name)).tobytes())
            entries.append(_entry(part, demonstration, step, point))
            step, point = step + part.steps, point + part.points
        index = CacheIndex(spec, tuple(entries), {name: file.finish() for name, file in files.items()})
    replace_file(folder / INDEX, lambda path: path.write_text(index.to_json()))
    sync_folder(folder)


def _entry(part: Part, d: Demonstration, first_step: int, first_point: int) -> CacheEntry:
    return CacheEntry(
        part.name, d.task, d.variation, d.seed, d.instructions, part.episode.outcome, part.steps, part.points,
        first_step, first_point, part.source_sha256, part.content_sha256,
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
