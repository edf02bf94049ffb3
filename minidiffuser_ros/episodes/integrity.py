"""Is everything as it was written? Audits of recordings, checks of demonstrations' files, hashes of caches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from minidiffuser_ros.contract.errors import EpisodeError
from minidiffuser_ros.episodes.cache import is_cache, load_cache
from minidiffuser_ros.episodes.catalog import CACHED, NPZ, RECORDED, cache_of, nothing_in, npz_files, recordings
from minidiffuser_ros.episodes.demonstration import load_demonstration


@dataclass(frozen=True)
class Checkable:
    """Something that is checked as a whole: a recording, a demonstration's file, or a cache."""

    kind: str
    name: str
    path: Path


@dataclass(frozen=True)
class Checked:
    """What was found; problems: a sentence each, none where all is well."""

    name: str
    problems: tuple[str, ...]


def checkables(paths: Iterable[Path]) -> list[Checkable]:
    """What is to be checked in folders and single files, each once. Raises EpisodeError where a path holds nothing."""
    found: dict[Path, Checkable] = {}
    for path in paths:
        here = _in(path)
        if not here:
            raise nothing_in(path)
        found |= {c.path.resolve(): c for c in here}
    return list(found.values())


def _in(path: Path) -> list[Checkable]:
    if is_cache(path):
        return [Checkable(CACHED, path.name, path)]
    if path.is_file():
        return [Checkable(NPZ, path.stem, path)]
    if not path.exists() and (inside := cache_of(path)) is not None:
        return [Checkable(CACHED, inside[0].name, inside[0])]
    files = [Checkable(NPZ, name, file) for name, file in npz_files(path).items()]
    return [*(Checkable(RECORDED, folder.name, folder) for folder in recordings(path)), *files]


def check(what: Checkable) -> Checked:
    """Read all of it."""
    try:
        if what.kind == CACHED:
            load_cache(what.path, verify=True)
        elif what.kind == NPZ:
            load_demonstration(what.path)
        else:
            # Here, as machines that only train have no rosbags.
            from minidiffuser_ros.episodes.audit import audit_episode

            return Checked(what.name, audit_episode(what.path).problems)
    except EpisodeError as error:
        return Checked(what.name, (str(error),))
    return Checked(what.name, ())
