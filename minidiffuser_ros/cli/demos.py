"""`minidiffuser demos`: demonstrations in simulation with the scripted experts."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minidiffuser_ros.contract.observation import ObservationSpec

HELP = "Make demonstrations in simulation. Existing ones are kept, so a stopped run goes on where it was."
EPILOG = """examples:
  minidiffuser demos --out data/tabletop_small
  minidiffuser demos --out data/all --all --per-task 20 --rgbd
  minidiffuser demos --out data/fine --all --per-task 100 --points 1024
  minidiffuser demos --out data/stacking --tasks stack_pair --per-task 50 --shift looks"""
SMALL = ("push_button", "stack_pair")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the subcommand."""
    parser.add_argument("--out", type=Path, required=True, help="folder for the demonstrations, one .npz file each")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--tasks", nargs="+", default=list(SMALL), help=f"tasks (default: {' '.join(SMALL)})")
    which.add_argument("--all", action="store_true", help="every task")
    parser.add_argument("--per-task", type=int, default=800, help="seeds per task (default: 800)")
    parser.add_argument("--seed", type=int, default=0, help="first seed; training seeds lie below 100000 (default: 0)")
    parser.add_argument("--shift", default="none", help="draw more from the seed, such as 'looks' (default: none)")
    parser.add_argument(
        "--points",
        type=int,
        default=512,
        help="most points of an observation, which the policy will see (default: 512)",
    )
    parser.add_argument(
        "--disturbed",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="of the demonstrations in which the arm arrives beside where it was sent (default: 0.5)",
    )
    parser.add_argument("--rgbd", action="store_true", help="keep pictures, depths and the arm's trajectory, too")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--ray", metavar="ADDRESS", help="spread over a Ray cluster, 'local' or HOST:PORT")


def run(args: argparse.Namespace) -> int:
    """Make what is missing; returns 0."""
    from dataclasses import replace

    from tqdm import tqdm

    from minidiffuser_ros.cli.jobs import results_of
    from minidiffuser_ros.contract.errors import ConfigurationError
    from minidiffuser_ros.episodes.demonstration import write_demonstration
    from minidiffuser_ros.simulation.shifts import SPLITS, shift_named
    from minidiffuser_ros.simulation.tabletop import DEFAULT_SPEC
    from minidiffuser_ros.simulation.tasks import TASKS, make_task

    end = SPLITS["training"].stop
    if args.per_task < 1 or args.workers < 1 or args.seed < 0 or args.seed + args.per_task > end:
        raise ConfigurationError(
            f"--per-task and --workers must be at least 1 and all seeds below {end}, "
            f"got {args.per_task}, {args.workers} and first seed {args.seed}"
        )
    if not 0.0 <= args.disturbed <= 1.0:
        raise ConfigurationError(f"--disturbed must lie between 0 and 1, got {args.disturbed}")
    spec = replace(DEFAULT_SPEC, max_points=args.points)
    tasks = list(TASKS) if args.all else list(dict.fromkeys(args.tasks))
    for task in tasks:
        make_task(task).check_variation(None, shift_named(args.shift))
    # Task by task, as a worker keeps few scenes compiled.
    seeds = range(args.seed, args.seed + args.per_task)
    jobs = [
        (args.out / task / f"{seed:06d}.npz", task, seed, args.shift, args.disturbed, args.rgbd, spec)
        for task in tasks
        for seed in seeds
    ]
    missing = [job for job in jobs if not job[0].exists()]
    failed = 0
    results = results_of(_make, missing, args.workers, args.ray)
    for path, content in tqdm(results, total=len(jobs), initial=len(jobs) - len(missing), unit="demo"):
        if content is None:
            failed += 1
        else:
            write_demonstration(content, path)
    print(f"{len(jobs) - failed} demonstrations in {args.out}; the expert failed in {failed}")
    return 0


def _make(job: tuple[Path, str, int, str, float, bool, ObservationSpec]) -> tuple[Path, bytes | None]:
    """The content of a file, or None where the expert failed. Only the caller writes: a worker may be far away."""
    from minidiffuser_ros.episodes.demonstration import packed
    from minidiffuser_ros.episodes.recording import Recorder
    from minidiffuser_ros.simulation.shifts import shift_named
    from minidiffuser_ros.simulation.tabletop import shared_world
    from minidiffuser_ros.training.demonstrations import Disturbance, demonstrate

    path, task, seed, shift, disturbed, rgbd, spec = job
    recorder = Recorder() if rgbd else None
    disturbance = Disturbance(probability=disturbed)
    demonstration = demonstrate(shared_world(spec), task, seed, disturbance, shift_named(shift), recorder)
    if demonstration is None:
        return path, None
    return path, packed(demonstration, None if recorder is None else recorder.recording())
