"""One episode made ready for a cache: its demonstration and what is to be noted of it, kept until the cache is whole.

A part is two files, written one after the other: KEY.npz and KEY.json; whoever finds the second finds both whole.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from minidiffuser_ros.contract.episode import OUTCOMES
from minidiffuser_ros.contract.errors import EpisodeError
from minidiffuser_ros.contract.version import VERSION
from minidiffuser_ros.episodes.cache import content_sha256, file_sha256, open_cache
from minidiffuser_ros.episodes.catalog import CACHED, RECORDED, Listed
from minidiffuser_ros.episodes.demonstration import Demonstration, load_demonstration, packed

_open_cache = lru_cache(maxsize=16)(open_cache)


@dataclass(frozen=True)
class Part:
    """An episode that is ready: the name it gets, the file of its demonstration or the cache it lies in, numbers."""

    name: str
    episode: Listed
    file: Path
    steps: int
    points: int
    source_sha256: str
    content_sha256: str

    def load(self) -> Demonstration:
        """The demonstration. Raises EpisodeError where it is not what was noted."""
        if self.episode.kind == CACHED:
            demonstration = _open_cache(self.file).demonstration(self.episode.name)
        else:
            demonstration = load_demonstration(self.file)
        if content_sha256(demonstration) == self.content_sha256:
            return demonstration
        if self.episode.kind == CACHED:
            raise EpisodeError(
                f"{self.file}, episode {self.episode.name}: its content has another hash: build it again"
            )
        self.file.with_suffix(".json").unlink(missing_ok=True)
        raise EpisodeError(f"{self.file} is not what was written, its hash differs: run the same command again")


def part_of(episode: Listed, folder: Path) -> Part | None:
    """The part of an episode where it is ready; those of a cache always are. Raises EpisodeError without a source."""
    if episode.kind == CACHED:
        assert episode.steps is not None
        assert episode.points is not None
        hashes = (episode.source_sha256, episode.content_sha256)
        return Part(episode.name, episode, episode.path, episode.steps, episode.points, *hashes)
    file = _file_of(episode, folder)
    try:
        noted = json.loads(file.with_suffix(".json").read_text())
        numbers = (noted[key] for key in ("steps", "points", "source_sha256", "content_sha256"))
        return Part(episode.name, episode, file, *numbers)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not made, or left half done


def make_part(job: tuple[Listed, Path]) -> tuple[Path, str]:
    """Make the part of an episode in a folder; returns its path, and a sentence where it cannot be read.

    Raises OSError where the part cannot be written.
    """
    episode, folder = job
    try:
        demonstration = _read(episode)
        file, source = _file_of(episode, folder), file_sha256(_source_of(episode))
    except EpisodeError as error:
        return episode.path, str(error)
    noted = {
        "steps": len(demonstration.counts),
        "points": int(demonstration.counts.sum()),
        "source_sha256": source,
        "content_sha256": content_sha256(demonstration),
    }
    # No need to wait for the disk: what a loss of power damages has another hash, and is made again.
    _write(file, packed(demonstration, compress=False))
    _write(file.with_suffix(".json"), json.dumps(noted).encode())
    return episode.path, ""


def _read(episode: Listed) -> Demonstration:
    if episode.kind != RECORDED:
        return load_demonstration(episode.path)
    # Here, as machines that only train have no rosbags.
    from minidiffuser_ros.episodes.samples import demonstration_from_episode

    return demonstration_from_episode(episode.path, outcomes=OUTCOMES)  # chosen by outcome already


def _source_of(episode: Listed) -> Path:
    """The file with the data: a label changes the description beside it only."""
    if episode.kind != RECORDED:
        return episode.path
    from minidiffuser_ros.episodes.metadata import bag_file

    return bag_file(episode.path)


def _file_of(episode: Listed, folder: Path) -> Path:
    """Where the part lies: another name as soon as the source or this package is another one."""
    source = _source_of(episode)
    state = source.stat()
    text = json.dumps([VERSION, episode.kind, str(source.resolve()), state.st_size, state.st_mtime_ns])
    return folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.npz"


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(content)
    partial.replace(path)
