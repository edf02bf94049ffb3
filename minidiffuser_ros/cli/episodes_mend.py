"""`minidiffuser episodes check`, `repair` and `label`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from minidiffuser_ros.cli.episodes_verb import FOUND_PROBLEMS
from minidiffuser_ros.cli.verbs import Verb


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="folders or single episodes")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")


def _check(args: argparse.Namespace) -> int:
    """A line a problem; 1 where there is one."""
    from tqdm import tqdm

    from minidiffuser_ros.contract.errors import ConfigurationError
    from minidiffuser_ros.contract.workers import over_processes
    from minidiffuser_ros.episodes.catalog import unfinished
    from minidiffuser_ros.episodes.integrity import Checked, check, checkables

    if args.workers < 1:
        raise ConfigurationError(f"--workers must be at least 1, got {args.workers}")
    jobs = checkables(args.paths)
    partial = [name for path in args.paths for name in unfinished(path)]
    broken: list[Checked] = []
    for result in tqdm(over_processes(check, jobs, min(args.workers, max(1, len(jobs)))), total=len(jobs), unit="file"):
        if result.problems:
            broken.append(result)
            for problem in result.problems:
                tqdm.write(f"{result.name}: {problem}")
    for name in partial:
        print(f"{name}: never finished, or still being recorded: `minidiffuser episodes repair` saves what is in it")
    print(f"{len(jobs) - len(broken)} of {len(jobs) + len(partial)} without a problem")
    return FOUND_PROBLEMS if broken or partial else 0


def _add_repair(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("root", type=Path, metavar="FOLDER", help="of recorded episodes, or one NAME.partial in it")
    parser.add_argument("--discard", action="store_true", help="move those that hold nothing to save to the trash")


def _repair(args: argparse.Namespace) -> int:
    """Finish every .partial; 1 where one stays."""
    from minidiffuser_ros.contract.errors import EpisodeError, StorageError
    from minidiffuser_ros.episodes.bag_file import is_being_written
    from minidiffuser_ros.episodes.library import PARTIAL, discard_episode, partial_episodes
    from minidiffuser_ros.episodes.repair import repair_episode

    root: Path = args.root
    found = [root] if root.suffix == PARTIAL else partial_episodes(root)
    left = 0
    for partial in found:
        try:
            report = repair_episode(partial)
        except EpisodeError as error:
            print(f"{partial.name}: {error}", file=sys.stderr)
            recording = any(is_being_written(file) for file in partial.glob("*.mcap"))
            # A full disk says nothing about what the recording holds.
            hopeless = not isinstance(error, StorageError) and not recording
            if args.discard and hopeless and partial.is_dir():
                print(f"{partial.name} → {discard_episode(partial)}")
            else:
                left += 1
            continue
        damage = f", {report.damage}" if report.damage else ""
        seconds = report.audit.duration_s
        print(f"{partial.name} → {report.folder.name}: {report.messages} messages of {seconds:.1f} s{damage}")
    print(f"{len(found) - left} of {len(found)} unfinished recordings settled")
    return FOUND_PROBLEMS if left else 0


def _add_label(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("episodes", nargs="+", type=Path, metavar="EPISODE", help="folders of recorded episodes")
    parser.add_argument("outcome", metavar="OUTCOME", help="success, failure or unlabelled")


def _label(args: argparse.Namespace) -> int:
    """Label them all; nothing is labelled where one of them is none."""
    from minidiffuser_ros.contract.episode import OUTCOMES
    from minidiffuser_ros.contract.errors import ConfigurationError, EpisodeError
    from minidiffuser_ros.episodes.library import label_episode, read_info

    if args.outcome not in OUTCOMES:
        raise ConfigurationError(f"the last word is one of {', '.join(OUTCOMES)}, not '{args.outcome:.60}'")
    for folder in args.episodes:
        if not folder.is_dir():
            raise EpisodeError(f"{folder} is no recorded episode, and only these have labels: name their folders")
        read_info(folder)
    for folder in args.episodes:
        label_episode(folder, args.outcome)
    print(f"{len(args.episodes)} episodes labelled {args.outcome}")
    return 0


VERBS = (
    Verb(
        "check", "read everything and tell what is wrong: audits, hashes, damaged files", _add_check, _check,
        """examples:
  minidiffuser episodes check data/lab
  minidiffuser episodes check data/mixed data/tabletop_small --workers 4
exit codes: 0 nothing is wrong, 1 something is, 2 bad input""",
    ),
    Verb(
        "repair", "save what is in recordings that were never finished", _add_repair, _repair,
        """examples:
  minidiffuser episodes repair data/lab
  minidiffuser episodes repair data/lab/20260131-143100-open_drawer.partial --discard
exit codes: 0 none is left unfinished, 1 one could not be saved, 2 bad input""",
        "They are unlabelled then. Stop the recorder first.",
    ),
    Verb(
        "label", "judge recorded episodes", _add_label, _label,
        """examples:
  minidiffuser episodes label data/lab/20260131-* success
  minidiffuser episodes label data/lab/20260131-142500-open_drawer failure""",
        "Only successes are taken into a cache.",
    ),
)  # fmt: skip
