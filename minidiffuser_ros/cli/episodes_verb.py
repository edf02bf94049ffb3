"""What the verbs of `minidiffuser episodes` share: the options that choose episodes, and tables."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minidiffuser_ros.episodes.catalog import Choice, Listed, Unreadable

FOUND_PROBLEMS = 1
MAX_CELL = 60


def add_choice(parser: argparse.ArgumentParser, outcomes: Sequence[str] = ()) -> None:
    """Options that choose among episodes; `outcomes` are chosen where none are named."""
    default = f" (default: {' '.join(outcomes) or 'all'})"
    parser.add_argument("--tasks", nargs="+", default=[], metavar="TASK", help="only these tasks")
    parser.add_argument(
        "--outcomes", nargs="+", default=list(outcomes), metavar="OUTCOME",
        help=f"only these: success, failure, unlabelled{default}",
    )  # fmt: skip
    parser.add_argument("--names", nargs="+", default=[], metavar="PATTERN", help="only names like these, as '2026*'")


def choice_of(args: argparse.Namespace, per_task: int = 0) -> Choice:
    """What `add_choice` asked for."""
    from minidiffuser_ros.episodes.catalog import Choice

    return Choice(tuple(args.tasks), tuple(args.outcomes), tuple(args.names), per_task)


def episodes_at(paths: Iterable[Path]) -> Iterator[Listed | Unreadable]:
    """The episodes that paths mean: all of a folder, or a single one. Raises EpisodeError for what is neither."""
    from minidiffuser_ros.episodes.catalog import catalog, single

    for path in paths:
        found = single(path)
        if found is not None:
            yield found
        else:
            yield from catalog(path)


def table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Rows with the head first as aligned columns; `right` are those with numbers."""
    cells = [[_short(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = []
    for row in cells:
        padded = (c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def _short(cell: str) -> str:
    """What a recording says of itself may hold anything: one line of it, without control characters."""
    plain = "".join(letter if letter.isprintable() else "?" for letter in cell)
    return plain if len(plain) <= MAX_CELL else f"{plain[: MAX_CELL - 1]}…"
