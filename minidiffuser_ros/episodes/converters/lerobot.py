"""LeRobot datasets, version 3.0: out of recorded episodes and demonstrations, and back.

Pictures are written as PNG files in the rows, which LeRobot calls features of type `image`: nothing is lost, and no
video encoder is needed. Depth is written in its own counts, as PNG files of 16 bits.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from minidiffuser_ros.contract.episode import SUCCESS
from minidiffuser_ros.contract.errors import ConfigurationError, EpisodeError, MinidiffuserError
from minidiffuser_ros.contract.observation import ObservationSpec
from minidiffuser_ros.episodes.converters import lerobot_format as lerobot
from minidiffuser_ros.episodes.converters.lerobot_clips import clip_of, clip_sources, outcome_of
from minidiffuser_ros.episodes.converters.lerobot_demonstrations import DemonstrationSource
from minidiffuser_ros.episodes.converters.lerobot_reader import LeRobotReader
from minidiffuser_ros.episodes.converters.lerobot_writer import STAGED, about_staged, assemble, stage
from minidiffuser_ros.episodes.converters.outputs import Job, checked_name, existing_folder, write_missing


@dataclass(frozen=True)
class LeRobotOptions:
    """How a dataset becomes demonstrations.

    spec: how observations are made; None: as the dataset says, which those written here do. keep_pictures: keep the
    pictures in the demonstrations' files, too. keep_going: leave out what cannot be read instead of stopping.
    """

    spec: ObservationSpec | None = None
    keep_pictures: bool = False
    keep_going: bool = False


@dataclass(frozen=True)
class ExportOptions:
    """How episodes become a dataset.

    outcomes: recorded episodes of other labels are left out. fps: frames per second that the dataset states; None: as
    measured. keep_going: leave out what cannot be read instead of stopping.
    """

    outcomes: Collection[str] = (SUCCESS,)
    fps: int | None = None
    keep_going: bool = False

    def __post_init__(self) -> None:
        if self.fps is not None and not 1 <= self.fps <= 1000:
            raise ConfigurationError(f"fps must lie between 1 and 1000, got {self.fps}")


def export_lerobot(source: Path, out: Path, options: ExportOptions | None = None) -> int:
    """Write everything in `source` as the dataset `out`; how many episodes it has.

    source: a demonstration that keeps pictures, a recorded episode, or a folder of them. A dataset that exists is
    kept as it is; one that was interrupted goes on. Raises EpisodeError naming what cannot be read.
    """
    from tqdm import tqdm

    options = options or ExportOptions()
    if (out / lerobot.INFO).is_file():
        episodes = LeRobotReader(out).episodes
        print(f"{out} exists and is kept as it is: name another folder to write it anew", file=sys.stderr)
        return len(episodes)
    if out.exists():
        raise ConfigurationError(f"{out} exists and is no LeRobot dataset: name a folder that does not exist")
    unfinished = out.with_name(f"{out.name}.partial")
    staged, failed = [], 0
    for name, path in tqdm(clip_sources(source).items(), unit="episode"):
        file = unfinished / STAGED / f"{checked_name(name, str(path))}.parquet"
        if not _is_staged(file, options.fps):
            try:
                if (outcome := outcome_of(path)) not in options.outcomes:
                    tqdm.write(f"left out: {path} is labelled '{outcome}'", file=sys.stderr)
                    continue
                stage(clip_of(name, path, options.fps), file)
            except MinidiffuserError as error:
                problem = EpisodeError(f"{path}: {error}")
                if not options.keep_going:
                    raise problem from None
                failed += 1
                tqdm.write(f"left out: {problem}", file=sys.stderr)
                continue
        staged.append(file)
    if not staged:
        raise EpisodeError(f"none of the episodes in {source} was to be written ({failed} could not be read)")
    assemble(staged, unfinished, out)
    return len(staged)


def _is_staged(file: Path, fps: int | None) -> bool:
    """Whether a stopped export has left this episode, and at this rate where one is stated."""
    return file.exists() and (fps is None or about_staged(file)["shape"]["fps"] == fps)


def import_lerobot(source: Path, out: Path, options: LeRobotOptions | None = None) -> int:
    """Write `out`/TASK/NAME.npz for every episode of the dataset `source`; how many are there afterwards.

    Those that exist are kept. Where a dataset does not say which frames come before keyposes, they are discovered.
    Raises EpisodeError naming the episode that cannot be read, ConfigurationError where there is no dataset, or where
    it lacks what demonstrations are made of.
    """
    options = options or LeRobotOptions()
    reader = LeRobotReader(existing_folder(source, "a LeRobot dataset"))
    dataset = DemonstrationSource.of(reader, options.spec, options.keep_pictures)
    jobs = []
    for rows in reader.episodes:
        about = reader.extras.get(rows.episode, {})
        name = checked_name(
            str(about.get("name", f"episode_{rows.episode:06d}")), f"episode {rows.episode} of {source}"
        )
        task = checked_name(str(about.get("task") or _slug(rows.sentence)), f"the task of episode {rows.episode}")
        jobs.append(
            Job(out / task / f"{name}.npz", f"{source}, episode {rows.episode}", partial(dataset.make, rows, task))
        )
    if len({job.path for job in jobs}) < len(jobs):
        raise EpisodeError(f"{source} has two episodes of one name: it is damaged")
    return write_missing(jobs, options.keep_going)


def _slug(sentence: str) -> str:
    """A sentence as a name of a task."""
    return re.sub(r"[^a-z0-9]+", "_", sentence.lower()).strip("_")[:60] or "task"
