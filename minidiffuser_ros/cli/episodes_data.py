"""`minidiffuser episodes cache` and `convert`: training data from episodes, and from and for other projects."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from minidiffuser_ros.cli.episodes_verb import FOUND_PROBLEMS, Verb, add_choice, choice_of

SHOWN_DUPLICATES = 10


def _add_cache(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sources", nargs="+", type=Path, metavar="SOURCE", help="recorded episodes, .npz files, or other caches"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the new cache; never one that exists")
    add_choice(parser, outcomes=("success",))
    parser.add_argument(
        "--per-task", type=int, default=0, metavar="N", help="at most so many of each task (default: all)"
    )
    parser.add_argument(
        "--skip-unreadable", action="store_true", help="leave out what cannot be read instead of stopping"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")


def _cache(args: argparse.Namespace) -> int:
    """Build it; 1 where something was left out because it could not be read."""
    from minidiffuser_ros.episodes.cache_build import build_cache

    report = build_cache(args.sources, args.out, args.workers, choice_of(args, args.per_task), args.skip_unreadable)
    for name, same_as in report.duplicates[:SHOWN_DUPLICATES]:
        print(f"left out: {name} holds the same as {same_as}")
    if len(report.duplicates) > SHOWN_DUPLICATES:
        print(f"left out: {len(report.duplicates) - SHOWN_DUPLICATES} duplicates more")
    for problem in report.unreadable:
        print(f"left out: {problem}", file=sys.stderr)
    for outcome, count in report.not_chosen.items():
        print(f"not chosen: {count} {outcome}")
    print(f"{len(report.names)} episodes of {report.steps} steps in {args.out}")
    return FOUND_PROBLEMS if report.unreadable else 0


VERBS = (
    Verb(
        "cache", "make the cache that training reads, merge caches, or choose from one", _add_cache, _cache,
        """examples:
  minidiffuser episodes cache data/lab --out data/lab_cache
  minidiffuser episodes cache data/lab_cache data/tabletop_small --out data/mixed
  minidiffuser episodes cache data/mixed --out data/few --tasks open_drawer --per-task 20
exit codes: 0 done, 1 done without what could not be read, 2 bad input""",
        "Stopped, it goes on with the same command.\nEpisodes with the same content are taken once. Demonstrations in"
        " .npz files count as successes.",
    ),
)  # fmt: skip
