"""Demonstrations of Push-T by the planner, and how often it succeeds on the scenes of tests.

    python benchmarks/push_t_demonstrations.py data/push_t --count 600
    python benchmarks/push_t_demonstrations.py data/push_t --seed 200600 --count 300 --near
    python benchmarks/push_t_demonstrations.py --test 100

A run that was stopped goes on where it was: each demonstration is a whole file or none. Scenes that the planner does
not master in time are left out.
"""

from __future__ import annotations

import argparse
import statistics
import time
from functools import cache
from pathlib import Path

from tqdm import tqdm

from minidiffuser_ros.contract.files import make_folder
from minidiffuser_ros.contract.workers import over_processes
from minidiffuser_ros.evaluation.statistics import wilson_interval
from minidiffuser_ros.simulation.push_t import PushT
from minidiffuser_ros.simulation.push_t_demonstrations import (
    FIRST_SEED,
    FIRST_TEST_SEED,
    DisturbanceSettings,
    demonstrate,
    file_of,
)
from minidiffuser_ros.simulation.push_t_planner import PushTPlanner
from minidiffuser_ros.training.sequence_data import load_sequences


def main() -> None:
    """Make, or test."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?", help="folder of the demonstrations")
    parser.add_argument("--count", type=int, default=600, help="scenes (default: 600)")
    parser.add_argument("--seed", type=int, default=FIRST_SEED, help=f"of the first scene (default: {FIRST_SEED})")
    parser.add_argument("--near", action="store_true", help="scenes with the block close to its mark")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--test", type=int, default=0, metavar="N", help="play N test scenes undisturbed instead")
    args = parser.parse_args()
    if args.test:
        return _test(args.test, args.workers)
    if args.out is None:
        parser.error("name a folder, or --test N")
    make_folder(args.out)
    jobs = [(args.out, seed, args.near) for seed in range(args.seed, args.seed + args.count)]
    missing = [job for job in jobs if not file_of(*job[:2]).exists()]
    progress = tqdm(over_processes(_make, missing, args.workers), total=len(jobs), initial=len(jobs) - len(missing))
    failed = [seed for seed in progress if seed is not None]
    steps = [len(episode.actions) for episode in load_sequences(args.out)]
    print(
        f"{len(steps)} demonstrations of {statistics.mean(steps):.0f} steps on average; not in time: {failed or 'none'}"
    )
    return None


def _test(count: int, workers: int) -> None:
    started = time.perf_counter()
    jobs = range(FIRST_TEST_SEED, FIRST_TEST_SEED + count)
    steps = list(tqdm(over_processes(_steps, jobs, workers), total=count))
    done = [n for n in steps if n]
    low, high = wilson_interval(len(done), count)
    print(
        f"planner: {len(done)} of {count} succeed, {low:.1%} - {high:.1%}; steps to success: median "
        f"{statistics.median(done):.0f}, most {max(done)}; {(time.perf_counter() - started) / count:.1f} s a scene"
    )


@cache
def _field_and_planner() -> tuple[PushT, PushTPlanner]:
    return PushT(), PushTPlanner()


def _make(job: tuple[Path, int, bool]) -> int | None:
    """The seed, where the planner does not master it."""
    folder, seed, near = job
    made = demonstrate(*_field_and_planner(), seed, DisturbanceSettings(), near)
    if made is None:
        return seed
    made.save(file_of(folder, seed))
    return None


def _steps(seed: int) -> int:
    """Until the task's own rule holds; 0 where it never does."""
    field, planner = _field_and_planner()
    demonstrate(field, planner, seed)
    return field.succeeded_after


if __name__ == "__main__":
    main()
