"""`minidiffuser demos`: demonstrations in simulation with the scripted experts."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "Make demonstrations in simulation. Existing ones are kept, so a stopped run goes on where it was."
EPILOG = """examples:
  minidiffuser demos --out data/tabletop_small
  minidiffuser demos --out data/stacking --tasks stack_pair --per-task 50"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the subcommand."""
    parser.add_argument("--out", type=Path, required=True, help="folder for the demonstrations, one .npz file each")
    parser.add_argument(
        "--tasks", nargs="+", default=["push_button", "stack_pair"], help="tasks to demonstrate (default: both)"
    )
    parser.add_argument("--per-task", type=int, default=800, help="seeds per task (default: 800)")
    parser.add_argument("--seed", type=int, default=0, help="first seed; training seeds lie below 100000 (default: 0)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")


def run(args: argparse.Namespace) -> int:
    """Make what is missing; returns 0."""
    from tqdm import tqdm

    from minidiffuser_ros.cli.jobs import results_of
    from minidiffuser_ros.contract.errors import ConfigurationError
    from minidiffuser_ros.simulation.tasks import make_task

    if args.per_task < 1 or args.workers < 1 or args.seed < 0 or args.seed + args.per_task > 100000:
        raise ConfigurationError(
            f"--per-task and --workers must be at least 1 and all seeds below 100000, "
            f"got {args.per_task}, {args.workers} and first seed {args.seed}"
        )
    args.tasks = list(dict.fromkeys(args.tasks))
    for task in args.tasks:
        make_task(task)
    jobs = [(args.out / task / f"{seed:06d}.npz", task, seed)
            for seed in range(args.seed, args.seed + args.per_task) for task in args.tasks]  # fmt: skip
    missing = [job for job in jobs if not job[0].exists()]
    failed = 0
    results = results_of(_make, missing, args.workers)
    for succeeded in tqdm(results, total=len(jobs), initial=len(jobs) - len(missing), unit="demo"):
        failed += not succeeded
    print(f"{len(jobs) - failed} demonstrations in {args.out}; the expert failed in {failed}")
    return 0


def _make(job: tuple[Path, str, int]) -> bool:
    from minidiffuser_ros.episodes.demonstration import save_demonstration
    from minidiffuser_ros.simulation.tabletop import shared_world
    from minidiffuser_ros.training.demonstrations import Disturbance, demonstrate

    path, task, seed = job
    demonstration = demonstrate(shared_world(), task, seed, Disturbance())
    if demonstration is None:
        return False
    save_demonstration(demonstration, path)
    return True
