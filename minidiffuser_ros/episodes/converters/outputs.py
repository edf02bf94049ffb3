"""What every converter does with its demonstrations: write the missing ones, show progress, stop at the first bad one.

A demonstration's file is written under a temporary name and renamed, so one that exists is complete; starting the
same conversion again goes on where it was.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from minidiffuser_ros.contract.errors import ConfigurationError, EpisodeError, MinidiffuserError
from minidiffuser_ros.episodes.demonstration import Demonstration, save_demonstration
from minidiffuser_ros.episodes.recording import Recording

Made = tuple[Demonstration, Recording | None]

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}")
TASK_VARIATION = re.compile(r"(.+)\+(\d{1,6})")


@dataclass(frozen=True)
class Job:
    """One demonstration to come: its file, where it is from (for messages), and what makes it."""

    path: Path
    source: str
    make: Callable[[], Made]


def write_missing(jobs: Sequence[Job], keep_going: bool = False) -> int:
    """Make and write each demonstration whose file is not there; how many of `jobs` are there afterwards.

    Raises EpisodeError naming the source of the first that cannot be made; with `keep_going` says so and goes on.
    """
    from tqdm import tqdm

    missing = [job for job in jobs if not job.path.exists()]
    failed = 0
    for job in tqdm(missing, total=len(jobs), initial=len(jobs) - len(missing), unit="demo"):
        try:
            demonstration, recording = job.make()
        except MinidiffuserError as error:
            problem = EpisodeError(f"{job.source}: {error}")
            if not keep_going:
                raise problem from None
            failed += 1
            tqdm.write(f"left out: {problem}", file=sys.stderr)
            continue
        save_demonstration(demonstration, job.path, recording)
    return len(jobs) - failed


def checked_name(name: str, what: str) -> str:
    """`name` where it can be part of a path and leaves no folder. Raises EpisodeError for one that cannot."""
    if not NAME.fullmatch(name) or ".." in name:
        raise EpisodeError(
            f"{what} is called {name!r:.60}: names are made of letters, digits and _ . + -, so rename it first"
        )
    return name


def task_and_variation(name: str) -> tuple[str, int]:
    """`close_jar+3` is variation 3 of close_jar; a name without a number its variation 0."""
    match = TASK_VARIATION.fullmatch(name)
    return (match[1], int(match[2])) if match else (name, 0)


def number_at_end(name: str, otherwise: int) -> int:
    """The digits that a name ends on."""
    digits = re.search(r"\d{1,9}$", name)
    return int(digits[0]) if digits else otherwise


def existing_folder(path: Path, what: str) -> Path:
    """`path` where it is a folder. Raises ConfigurationError where it is none."""
    if not path.is_dir():
        raise ConfigurationError(f"{path} is no folder: name {what}")
    return path
