"""What lies in a folder: recorded episodes, demonstrations in .npz files, or a cache; no arrays are read for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from minidiffuser_ros.contract.episode import METADATA, OUTCOMES, SUCCESS
from minidiffuser_ros.contract.errors import ConfigurationError, EpisodeError
from minidiffuser_ros.contract.observation import ObservationSpec
from minidiffuser_ros.episodes.cache import is_cache, read_index
from minidiffuser_ros.episodes.demonstration import load_outline

RECORDED, NPZ, CACHED = "recorded", "npz", "cache"


@dataclass(frozen=True)
class Listed:
    """One episode of a folder.

    path: of the recording, the .npz file, or the cache. name: unique among its own kind in one folder. steps, points:
    observations and their points, None where only the recording itself would tell; duration_s: None where nothing
    tells. marks: messages that mark keyposes, or take a mark back. sha256: of source and content, where a cache noted
    them.
    """

    kind: str
    name: str
    path: Path
    task: str
    variation: int
    seed: int
    instructions: tuple[str, ...]
    outcome: str
    spec: ObservationSpec
    steps: int | None = None
    points: int | None = None
    duration_s: float | None = None
    marks: int | None = None
    source_sha256: str = ""
    content_sha256: str = ""

    @property
    def place(self) -> str:
        """Where it is: what `single` finds it by."""
        return str(self.path / self.name if self.kind == CACHED else self.path)


@dataclass(frozen=True)
class Unreadable:
    """Something that lies where an episode should; `problem` is a sentence that names it."""

    kind: str
    name: str
    path: Path
    problem: str


@dataclass(frozen=True)
class Choice:
    """Which episodes are meant; an empty tuple and 0 choose all.

    names: patterns as of the shell. per_task: so many of each task, the first ones by name. Raises ConfigurationError.
    """

    tasks: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    per_task: int = 0

    def __post_init__(self) -> None:
        if unknown := [outcome for outcome in self.outcomes if outcome not in OUTCOMES]:
            raise ConfigurationError(f"an outcome is one of {', '.join(OUTCOMES)}, not {unknown[0]!r:.60}")
        if self.per_task < 0:
            raise ConfigurationError(f"the number of episodes per task cannot be negative, got {self.per_task}")

    def of(self, episodes: Iterable[Listed]) -> list[Listed]:
        """Those that are meant, in the order of their names."""
        taken: list[Listed] = []
        number: dict[str, int] = {}
        for episode in sorted(episodes, key=lambda e: order(e.name)):
            if not self._fits(episode) or (self.per_task and number.get(episode.task, 0) >= self.per_task):
                continue
            number[episode.task] = number.get(episode.task, 0) + 1
            taken.append(episode)
        return taken

    def names_fit(self, name: str) -> bool:
        """Whether a name is meant."""
        return not self.names or any(fnmatchcase(name, pattern) for pattern in self.names)

    def _fits(self, episode: Listed) -> bool:
        return (
            (not self.tasks or episode.task in self.tasks)
            and (not self.outcomes or episode.outcome in self.outcomes)
            and self.names_fit(episode.name)
        )


def order(name: str) -> tuple[str, ...]:
    """Sorts names as the files of a folder are: folder by folder."""
    return tuple(name.split("/"))


def npz_files(folder: Path) -> dict[str, Path]:
    """The demonstrations' files in a folder and its subfolders, in order, by name: `push_button/000042`."""
    files = [*folder.glob("*.npz"), *folder.glob("*/*.npz")]
    named = {path.relative_to(folder).with_suffix("").as_posix(): path for path in files}
    return dict(sorted(named.items(), key=lambda item: order(item[0])))


def recordings(folder: Path) -> list[Path]:
    """Recorded and saved episodes: the folder itself, or those in it, in order of their names."""
    found = [folder] if (folder / METADATA).is_file() else [path.parent for path in folder.glob(f"*/{METADATA}")]
    return sorted(path for path in found if not path.name.startswith(".") and path.suffix != ".partial")


def unfinished(folder: Path) -> list[str]:
    """Names of the recordings in a folder that were never finished, or are still being made."""
    return sorted(path.name for path in folder.glob("*.partial") if (path / METADATA).is_file())


def cache_of(path: Path) -> tuple[Path, str] | None:
    """The cache and the episode's name that CACHE/NAME means; None where no cache lies on the way."""
    for folder in path.parents:
        if is_cache(folder):
            return folder, path.relative_to(folder).as_posix()
    return None


def single(path: Path) -> Listed | Unreadable | None:
    """The one episode that a path means: a recording's folder, a .npz file, CACHE/NAME; None for anything else.

    Raises EpisodeError for a cache that has no such episode.
    """
    if path.is_file() and path.suffix == ".npz":
        return next(_one(NPZ, path.stem, path))
    if (path / METADATA).is_file():
        return next(_one(RECORDED, path.resolve().name, path))
    if not path.exists() and (inside := cache_of(path)) is not None:
        cache, name = inside
        for episode in _cached(cache):
            if episode.name == name:
                return episode
        raise EpisodeError(f"{cache} has no episode {name!r:.80}: `minidiffuser episodes list` shows them")
    return None


def nothing_in(folder: Path) -> EpisodeError:
    """What to say of a folder without episodes."""
    if names := unfinished(folder):
        return EpisodeError(
            f"{folder} holds {len(names)} unfinished recordings and nothing else: save what is in them with "
            f"`minidiffuser episodes repair {folder}`"
        )
    return EpisodeError(
        f"{folder} holds no episodes: name a folder of recorded ones, of demonstrations (.npz), or a cache"
    )


def catalog(folder: Path) -> Iterator[Listed | Unreadable]:
    """Everything in a folder, in order of the names. Raises EpisodeError where there is nothing."""
    if is_cache(folder):
        yield from _cached(folder)
        return
    recorded, files = recordings(folder), npz_files(folder)
    if not recorded and not files:
        raise nothing_in(folder)
    for path in recorded:
        yield from _one(RECORDED, path.name, path)
    for name, path in files.items():
        yield from _one(NPZ, name, path)


def _one(kind: str, name: str, path: Path) -> Iterator[Listed | Unreadable]:
    try:
        yield _recorded(path) if kind == RECORDED else _in_file(name, path)
    except EpisodeError as error:
        yield Unreadable(kind, name, path, str(error))


def _cached(folder: Path) -> Iterator[Listed]:
    index = read_index(folder)
    for e in index.entries:
        yield Listed(
            CACHED, e.name, folder, e.task, e.variation, e.seed, e.instructions, e.outcome, index.spec, e.steps,
            e.points, source_sha256=e.source_sha256, content_sha256=e.content_sha256,
        )  # fmt: skip


def _in_file(name: str, path: Path) -> Listed:
    """Experts and importers write successes only: a file has no label."""
    o = load_outline(path)
    return Listed(
        NPZ,
        name,
        path,
        o.task,
        o.variation,
        o.seed,
        o.instructions,
        SUCCESS,
        o.spec,
        len(o.counts),
        int(o.counts.sum()),
    )


def _recorded(folder: Path) -> Listed:
    # Here, as machines that only train need no YAML.
    from minidiffuser_ros.episodes.metadata import custom_data, read_metadata, told_info

    bag = read_metadata(folder)
    info = told_info(folder, custom_data(folder, bag))
    return Listed(
        RECORDED, folder.name, folder, info.task, info.variation, info.seed, (info.instruction,), info.outcome,
        info.spec, duration_s=_seconds(bag), marks=_messages(bag, info.topics.keyposes),
    )  # fmt: skip


def _seconds(bag: Mapping[str, Any]) -> float | None:
    try:
        return float(bag["duration"]["nanoseconds"]) * 1e-9
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _messages(bag: Mapping[str, Any], topic: str) -> int | None:
    """How many messages of a topic the recording says to have."""
    try:
        return sum(
            int(entry["message_count"])
            for entry in bag["topics_with_message_count"]
            if entry["topic_metadata"]["name"] == topic
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
