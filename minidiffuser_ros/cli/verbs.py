"""Subcommands that have verbs of their own, such as `minidiffuser episodes list`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Verb:
    """One verb: its options, what runs it and returns the exit code, and its help."""

    name: str
    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    examples: str
    more: str = ""


def add_verbs(parser: argparse.ArgumentParser, verbs: Iterable[Verb]) -> None:
    """One parser a verb; `run_verb` of the parsed arguments is what it runs."""
    parsers = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in verbs:
        options = parsers.add_parser(
            verb.name,
            help=verb.summary,
            description=f"{verb.summary[0].upper()}{verb.summary[1:]}. {verb.more}".strip(),
            epilog=verb.examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        verb.add_arguments(options)
        options.set_defaults(run_verb=verb.run)
