"""`minidiffuser episodes`: what was recorded or made: look at it, check it, judge it, and make training data of it."""

from __future__ import annotations

import argparse

from minidiffuser_ros.cli import episodes_data, episodes_look, episodes_mend
from minidiffuser_ros.cli.verbs import add_verbs

HELP = """Look at episodes, check, repair and label them, and make training data of them. Most verbs take folders of
recorded episodes, folders of demonstrations (.npz), and caches alike, and single episodes in them."""
EPILOG = """examples:
  minidiffuser episodes list data/lab
  minidiffuser episodes label data/lab/20260131-* success
  minidiffuser episodes cache data/lab data/tabletop_small --out data/mixed
  minidiffuser train data/mixed --out runs/mixed

`minidiffuser episodes VERB --help` shows options and examples. docs/episodes.md tells what the files hold.
exit codes: 0 done, 1 something is wrong with an episode, 2 bad input"""
VERBS = (*episodes_look.VERBS, *episodes_mend.VERBS, *episodes_data.VERBS)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One parser a verb."""
    add_verbs(parser, VERBS)


def run(args: argparse.Namespace) -> int:
    """Run the verb; returns its exit code."""
    return int(args.run_verb(args))
