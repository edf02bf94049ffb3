"""How often the scripted experts succeed, and how often keyposes at random do.

python benchmarks/suite.py
python benchmarks/suite.py --tasks sort_shape --seed 0 --expert 200 --random 50 --shift looks
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable

import numpy as np

from minidiffuser_ros.contract.errors import MotionError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.evaluation.rollout import Rollout, Scene, roll_out_expert
from minidiffuser_ros.simulation.shifts import SHIFTS, shift_named
from minidiffuser_ros.simulation.tabletop import Tabletop
from minidiffuser_ros.simulation.tasks import TASKS
from minidiffuser_ros.simulation.tasks.base import down


def main() -> None:
    """A line a task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--seed", type=int, default=200_000, help="the first one")
    parser.add_argument("--expert", type=int, default=200, help="episodes of the expert")
    parser.add_argument("--random", type=int, default=50, help="episodes of keyposes at random")
    parser.add_argument("--shift", choices=SHIFTS, default="none")
    args = parser.parse_args()
    world = Tabletop()
    print(f"{'task':<24}{'expert':>12}{'keyposes':>10}{'s of CPU':>10}{'random':>10}  failures of the expert")
    for task in args.tasks:
        start = time.process_time()
        seeds = range(args.seed, args.seed + args.expert)
        rollouts = [roll_out_expert(world, Scene(task, seed, args.shift)) for seed in seeds]
        seconds = (time.process_time() - start) / max(1, args.expert)
        print(f"{task:<24}{_described(rollouts, seconds)}{_at_random(world, task, args):>10}  {_failures(rollouts)}")


def _described(rollouts: list[Rollout], seconds: float) -> str:
    counts = [rollout.keyposes for rollout in rollouts]
    done = f"{sum(r.success for r in rollouts)}/{len(rollouts)}"
    return f"{done:>12}{f'{min(counts, default=0)}-{max(counts, default=0)}':>10}{seconds:>10.2f}"


def _failures(rollouts: list[Rollout]) -> str:
    return ", ".join(f"{r.seed}: {r.failure}" for r in rollouts if not r.success)


def _at_random(world: Tabletop, task: str, args: argparse.Namespace) -> str:
    """Uniform in the workspace, the hand pointing down at any yaw, the gripper open or closed."""
    done = 0
    for seed in range(args.seed, args.seed + args.random):
        world.reset(task, seed, shift=shift_named(args.shift))
        rng = np.random.default_rng([seed, 1])
        low, high = world.builder.spec.workspace_min, world.builder.spec.workspace_max
        places = rng.uniform(low, high, (world.task.max_keyposes, 3))
        done += succeeds(
            world,
            (down(*place, float(rng.integers(2)), rng.uniform(-np.pi / 2, np.pi / 2)) for place in places),
        )
    return f"{done}/{args.random}"


def succeeds(world: Tabletop, keyposes: Iterable[Keypose]) -> bool:
    """Whether the rule ever holds on the way; goals that are refused are left out."""
    for keypose in keyposes:
        try:
            world.execute(keypose)
        except MotionError:
            continue
        if world.success():
            return True
    return False


if __name__ == "__main__":
    main()
