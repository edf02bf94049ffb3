"""How many demonstrations a minute the simulation makes, two cameras' RGB-D at every keypose, and where the time goes.

    python benchmarks/demonstrations.py
    python benchmarks/demonstrations.py --tasks push_button stack_pair --per-task 20 --workers 2 --no-rgbd

The rate is that of `minidiffuser demos --all --rgbd` into an empty folder, start of the workers included. The shares
are of one process that makes a quarter of them again.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minidiffuser_ros.cli.main import main as minidiffuser
from minidiffuser_ros.episodes.demonstration import packed
from minidiffuser_ros.episodes.recording import Recorder
from minidiffuser_ros.simulation.shifts import NONE
from minidiffuser_ros.simulation.tabletop import Tabletop
from minidiffuser_ros.simulation.tasks import TASKS
from minidiffuser_ros.training.demonstrations import Disturbance, demonstrate

PARTS = {
    "reset": "lay out and compile", "views": "draw two cameras", "execute": "plan and step",
    "observe": "points of the observation", "pack": "compress",
}  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--per-task", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rgbd", action=argparse.BooleanOptionalAction, default=True)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        words = ["demos", "--out", folder, "--per-task", str(args.per_task), "--workers", str(args.workers)]
        start = time.perf_counter()
        minidiffuser([*words, "--tasks", *args.tasks, *(["--rgbd"] if args.rgbd else [])])
        minutes = (time.perf_counter() - start) / 60.0
        count = len(list(Path(folder).glob("*/*.npz")))
    print(f"{count / minutes:.0f} demonstrations a minute ({count} in {minutes:.2f} minutes, {args.workers} workers)")
    _print_shares(args.tasks, args.rgbd, max(1, args.per_task // 4))


def _print_shares(tasks: list[str], rgbd: bool, per_task: int) -> None:
    """A line a task: seconds a demonstration, keyposes, and what share of the time each part took."""
    print(f"{'task':<24}{'s':>7}{'keyposes':>10}" + "".join(f"{name:>27}" for name in PARTS.values()))
    world = Tabletop()
    for task in tasks:
        spent: defaultdict[str, float] = defaultdict(float)
        for name in ("reset", "views", "execute", "observe"):
            setattr(world, name, _timed(getattr(type(world), name).__get__(world), name, spent))
        start, keyposes = time.perf_counter(), 0
        for seed in range(per_task):
            recorder = Recorder() if rgbd else None
            made = demonstrate(world, task, seed, Disturbance(), NONE, recorder)
            if made is not None:
                keyposes += len(made.counts)
                _timed(packed, "pack", spent)(made, recorder and recorder.recording())
        total = time.perf_counter() - start
        shares = "".join(f"{spent[name] / total:>27.0%}" for name in PARTS)
        print(f"{task:<24}{total / per_task:>7.2f}{keyposes / per_task:>10.1f}{shares}")
    world.close()


def _timed(function: Callable[..., Any], name: str, spent: defaultdict[str, float]) -> Callable[..., Any]:
    def timed(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            spent[name] += time.perf_counter() - start

    return timed


if __name__ == "__main__":
    main()
