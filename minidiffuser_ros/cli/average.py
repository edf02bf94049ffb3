"""`minidiffuser average`: weights between those of two policies, to train one task more without losing the others."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = """Write a policy whose weights lie between those of a policy and those that it was trained on to. What was
trained on for one task alone has forgotten the others; halfway back it can some of both, and a little more training on
the demonstrations of all tasks does the rest."""
EPILOG = """examples:
  minidiffuser train data/mine --from models/tabletop --out runs/mine --steps 400 --schedule flow_matching
  minidiffuser average models/tabletop runs/mine --out runs/both
  minidiffuser train data/all --from runs/both --out runs/all --steps 2000 --schedule flow_matching"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the subcommand."""
    parser.add_argument("base", type=Path, help="folder of the policy that was trained first")
    parser.add_argument("tuned", type=Path, help="folder of the one that was trained on from it")
    parser.add_argument("--out", type=Path, required=True, help="folder for the policy between them")
    parser.add_argument("--share", type=float, default=0.5, help="0: the first, 1: the second (default: 0.5)")


def run(args: argparse.Namespace) -> int:
    """Write it; returns 0."""
    from minidiffuser_ros.contract.errors import ConfigurationError
    from minidiffuser_ros.policy.average import average
    from minidiffuser_ros.policy.checkpoint import CONFIG, save_checkpoint
    from minidiffuser_ros.training.state import keep_record

    if (args.out / CONFIG).exists():
        raise ConfigurationError(f"{args.out} already holds a policy: name a new folder, or remove that one")
    config, weights = average(args.base, args.tuned, args.share)
    args.out.mkdir(parents=True, exist_ok=True)
    save_checkpoint(args.out, config, weights)
    keep_record(args.tuned, args.out, averaged={"with": args.base.name, "share": args.share})
    print(f"wrote {args.out}, {args.share:.0%} of the way from {args.base} to {args.tuned}")
    return 0
