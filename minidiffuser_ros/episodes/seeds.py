"""How far a recording session is: which seeds of which tasks have a labelled episode."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from minidiffuser_ros.contract.episode import UNLABELLED
from minidiffuser_ros.contract.errors import EpisodeError
from minidiffuser_ros.episodes.library import read_info, saved_episodes

Seed = tuple[str, int]  # task and seed of its layout


def session_seeds(tasks: Sequence[str], first: int, per_task: int) -> list[Seed]:
    """What a session records: tasks in turn, seed after seed."""
    return [(task, first + index) for index in range(per_task) for task in tasks]


class SessionProgress:
    """Looks into the folder of the episodes again and again; reads each labelled one once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[Path, Seed] = {}

    def recorded(self) -> set[Seed]:
        """Seeds with a labelled episode; one that cannot be read, or that nobody judged, counts as missing."""
        for folder in saved_episodes(self._root) if self._root.is_dir() else []:
            if folder in self._known:
                continue
            try:
                info = read_info(folder)
            except EpisodeError:
                continue
            if info.outcome != UNLABELLED:
                self._known[folder] = info.task, info.seed
        return set(self._known.values())
