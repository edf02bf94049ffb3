"""`minidiffuser episodes list`, `show` and `stats`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from minidiffuser_ros.cli.episodes_verb import add_choice, choice_of, episodes_at, table
from minidiffuser_ros.cli.verbs import Verb

if TYPE_CHECKING:
    from minidiffuser_ros.episodes.catalog import Listed
    from minidiffuser_ros.episodes.statistics import TaskStatistics


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths", nargs="+", type=Path, metavar="FOLDER", help="recorded episodes, .npz files, or a cache"
    )
    add_choice(parser)


def _list(args: argparse.Namespace) -> int:
    """A line an episode."""
    from minidiffuser_ros.episodes.catalog import Listed, unfinished

    found = list(episodes_at(args.paths))
    choice = choice_of(args)
    chosen = choice.of(e for e in found if isinstance(e, Listed))
    rows = [["name", "task", "seconds", "keyposes", "outcome", "audit", "sentence"], *(_row(e) for e in chosen)]
    print(table(rows, right=(2, 3)))
    problems = [e for e in found if not isinstance(e, Listed) and choice.names_fit(e.name)]
    for broken in problems:
        print(f"{broken.name}: cannot be read: {broken.problem}", file=sys.stderr)
    if partial := [name for path in args.paths for name in unfinished(path)]:
        print(
            f"never finished, or still being recorded: {', '.join(partial)}; `minidiffuser episodes repair` saves "
            "what is in them", file=sys.stderr,
        )  # fmt: skip
    others = len(found) - len(chosen) - len(problems)
    print(f"{len(chosen)} episodes{f', {others} not chosen' if others else ''}")
    return 0


def _row(episode: Listed) -> list[str]:
    from minidiffuser_ros.episodes.details import audit_words, keyposes_words

    seconds = "" if episode.duration_s is None else f"{episode.duration_s:.1f}"
    return [
        episode.name, episode.task, seconds, keyposes_words(episode), episode.outcome, audit_words(episode),
        episode.instructions[0] if episode.instructions else "",
    ]  # fmt: skip


def _add_show(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths", nargs="+", type=Path, metavar="EPISODE", help="a recorded episode's folder, a .npz file, CACHE/NAME"
    )
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw it there, too (one recorded episode)")


def _show(args: argparse.Namespace) -> int:
    """Everything about each episode."""
    from minidiffuser_ros.contract.errors import ConfigurationError
    from minidiffuser_ros.episodes.catalog import RECORDED
    from minidiffuser_ros.episodes.details import details_of

    if args.picture and len(args.paths) > 1:
        raise ConfigurationError(f"--picture draws one episode, {len(args.paths)} were named: name one")
    for path in args.paths:
        episode = _episode(path)
        if args.picture and episode.kind != RECORDED:
            raise ConfigurationError(f"{path} keeps points and no pictures: draw the recorded episode it came from")
        print("\n".join(details_of(episode)) + ("\n" if path != args.paths[-1] else ""))
        if args.picture:
            _draw(episode, args.picture)
    return 0


def _episode(path: Path) -> Listed:
    """What lies there. Raises EpisodeError where it is no episode or cannot be read."""
    from minidiffuser_ros.contract.errors import EpisodeError
    from minidiffuser_ros.episodes.catalog import Unreadable, single

    episode = single(path)
    if episode is None:
        raise EpisodeError(f"{path} is no episode: name a recorded episode's folder, a .npz file, or CACHE/NAME")
    if isinstance(episode, Unreadable):
        raise EpisodeError(episode.problem)
    return episode


def _draw(episode: Listed, file: Path) -> None:
    from minidiffuser_ros.evaluation.episode_picture import save_episode_picture

    file.parent.mkdir(parents=True, exist_ok=True)
    save_episode_picture(episode.path, file)
    print(f"picture: {file}")


def _add_stats(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths", nargs="+", type=Path, metavar="FOLDER", help="recorded episodes, .npz files, or a cache"
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    add_choice(parser)


def _stats(args: argparse.Namespace) -> int:
    """A line a task, or JSON."""
    from minidiffuser_ros.contract.errors import EpisodeError
    from minidiffuser_ros.episodes.catalog import Listed
    from minidiffuser_ros.episodes.statistics import statistics_of

    found = list(episodes_at(args.paths))
    chosen = choice_of(args).of(e for e in found if isinstance(e, Listed))
    if not chosen:
        raise EpisodeError(f"none of {len(found)} episodes is chosen: choose other tasks, names or outcomes")
    tasks, problems = statistics_of(chosen, args.workers)
    for sentence in [*problems, *(e.problem for e in found if not isinstance(e, Listed))]:
        print(f"left out: {sentence}", file=sys.stderr)
    if args.json:
        print(json.dumps([task.to_dict() for task in tasks], indent=2))
        return 0
    head = [
        "task",
        "episodes",
        "success",
        "failure",
        "unlabelled",
        "steps",
        "s",
        "points",
        "closed",
        "x m",
        "y m",
        "z m",
    ]
    print(table([[*head, "sentences"], *(_statistics_row(task) for task in tasks)], right=range(1, 9)))
    return 0


def _statistics_row(task: TaskStatistics) -> list[str]:
    def mean(values: tuple[float, float, float] | None, digits: int) -> str:
        return "" if values is None else f"{values[1]:.{digits}f}"

    extents = ["", "", ""]
    if task.keypose_min is not None and task.keypose_max is not None:
        extents = [f"{low:.2f}…{high:.2f}" for low, high in zip(task.keypose_min, task.keypose_max, strict=True)]
    closed = "" if task.closed_fraction is None else f"{task.closed_fraction:.0%}"
    outcomes = [str(task.outcomes.get(name, 0)) for name in ("success", "failure", "unlabelled")]
    return [
        task.task, str(task.episodes), *outcomes, mean(task.steps, 1), mean(task.duration_s, 1), mean(task.points, 0),
        closed, *extents, str(len(task.sentences)),
    ]  # fmt: skip


VERBS = (
    Verb(
        "list", "a line an episode, without reading pictures or points", _add_list, _list,
        """examples:
  minidiffuser episodes list data/lab
  minidiffuser episodes list data/lab --outcomes unlabelled --tasks open_drawer""",
        "Keyposes are counted where they were marked; 'auto' are found in the motion.",
    ),
    Verb(
        "show", "everything about an episode", _add_show, _show,
        """examples:
  minidiffuser episodes show data/lab/20260131-142500-open_drawer --picture out/episode.png
  minidiffuser episodes show data/tabletop_small/push_button/000042.npz
  minidiffuser episodes show data/mixed/push_button/000042     (an episode of the cache data/mixed)""",
    ),
    Verb(
        "stats", "numbers of each task: outcomes, steps, extents, gripper, points, sentences", _add_stats, _stats,
        """examples:
  minidiffuser episodes stats data/lab
  minidiffuser episodes stats data/mixed --json > out/mixed.json""",
        "Points of recorded episodes are counted\nonce they are in a cache.",
    ),
)  # fmt: skip
