"""A folder of episodes: what is in it, what each says of itself, how they are judged and thrown away.

    ROOT/20260131-142500-open_drawer/           a saved episode: metadata.yaml, one MCAP file, audit.json
    ROOT/20260131-143100-open_drawer.partial/   one that is being recorded, or was when its process died
    ROOT/.trash/                                what was discarded

Nothing is ever overwritten: a name that is taken gets a number.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from minidiffuser_ros.contract.episode import METADATA, EpisodeInfo
from minidiffuser_ros.contract.errors import EpisodeError
from minidiffuser_ros.contract.files import sync_folder
from minidiffuser_ros.episodes.metadata import read_custom_data, told_info, write_custom_data

PARTIAL, TRASH = ".partial", ".trash"
MAX_TASK_LETTERS = 60


def saved_episodes(root: Path) -> list[Path]:
    """Folders of the saved episodes, oldest first. Raises EpisodeError if `root` is no folder."""
    return [f for f in _folders(root) if f.suffix != PARTIAL and (f / METADATA).is_file()]


def partial_episodes(root: Path) -> list[Path]:
    """Folders of the recordings that were never finished, oldest first. Raises EpisodeError if `root` is no folder."""
    return [f for f in _folders(root) if f.suffix == PARTIAL]


def read_info(folder: Path) -> EpisodeInfo:
    """What an episode says of itself. Raises EpisodeError for a folder that is none."""
    return told_info(folder, read_custom_data(folder))


def label_episode(folder: Path, outcome: str) -> None:
    """Judge a saved episode: `success`, `failure` or `unlabelled`. Raises EpisodeError."""
    if folder.suffix == PARTIAL:
        raise EpisodeError(f"{folder.name} was never finished: repair it before it is judged")
    write_custom_data(folder, read_info(folder).labelled(outcome))


def discard_episode(folder: Path) -> Path:
    """Move an episode, finished or not, to the trash of its root; returns where it lies now."""
    if not folder.is_dir() or folder.is_symlink():
        raise EpisodeError(f"there is no episode {folder} to discard")
    trash = folder.parent / TRASH
    trash.mkdir(exist_ok=True)
    try:
        return _move(folder, trash, folder.name)
    except OSError as error:
        raise EpisodeError(f"cannot move {folder} to the trash: {error.strerror}") from None


def claim_folder(root: Path, task: str, now_s: float) -> Path:
    """Make the folder of a new recording, `ROOT/NAME.partial`, under a name that nothing has. Raises EpisodeError."""
    letters = re.sub(r"[^A-Za-z0-9_-]+", "_", task).strip("_")[:MAX_TASK_LETTERS] or "task"
    name = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now_s))}-{letters}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        for candidate in _numbered(name):
            folder = root / f"{candidate}{PARTIAL}"
            if not (root / candidate).exists() and not folder.exists():
                folder.mkdir()
                return folder
    except OSError as error:
        raise EpisodeError(f"cannot record to {root}: {error.strerror}; name a folder that can be written to") from None
    raise AssertionError  # the numbers do not end


def finish_folder(partial: Path) -> Path:
    """Rename `NAME.partial` to `NAME`, or to a number after it where that is taken; returns the new folder."""
    folder = _move(partial, partial.parent, partial.name.removesuffix(PARTIAL))
    sync_folder(folder.parent)
    return folder


def _move(folder: Path, parent: Path, name: str) -> Path:
    for candidate in _numbered(name):
        target = parent / candidate
        if not target.exists():
            folder.rename(target)
            return target
    raise AssertionError


def _numbered(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}-{n}" for n in count(2))


def _folders(root: Path) -> list[Path]:
    try:
        entries = sorted(root.iterdir())
    except OSError as error:
        raise EpisodeError(f"cannot list the episodes in {root} ({error.strerror}): name their folder") from None
    return [f for f in entries if f.is_dir() and not f.name.startswith(".")]
