"""How many of two equally right targets each sampler's candidates keep, and how often the chosen one is right.

python benchmarks/two_targets.py models/tabletop_small --also runs/flow --scenes 50

Scenes of `push_button` and `stack_pair` in which a second button, or a second block to pick up, has the colour that the
sentence names (the shift `doubles`). Only the first keypose is asked for, above one of the two.
`both`: scenes in which some candidate lies within 2 cm of each goal; `right`: candidates that lie at a goal; `chosen`:
scenes in which the chosen one does. `picked`: of the same scenes before the colour was doubled, those in which the
chosen one lies at the goal that the sentence names, and not at the other one.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from inference_tabletop import ALSO_STEPS, DDPM, REFERENCE, Plan, steady, whole_walk
from numpy.typing import NDArray
from tqdm import tqdm

from minidiffuser_ros.contract.errors import CheckpointError
from minidiffuser_ros.contract.files import replace_file
from minidiffuser_ros.diffusion.sampler import SamplerConfig
from minidiffuser_ros.evaluation.rollout import Scene
from minidiffuser_ros.evaluation.statistics import wilson_interval
from minidiffuser_ros.policy.policy import Policy
from minidiffuser_ros.policy.pruned import PrunedWalks
from minidiffuser_ros.policy.sampling import Walk
from minidiffuser_ros.simulation.tabletop import Tabletop, shared_world
from minidiffuser_ros.simulation.tasks.base import FINGERTIP_BELOW_TOOL
from minidiffuser_ros.simulation.tasks.objects import BUTTON_CAP_TOP
from minidiffuser_ros.simulation.tasks.push_button import BUTTONS
from minidiffuser_ros.simulation.tasks.push_button import HOVER as ABOVE_BUTTON
from minidiffuser_ros.simulation.tasks.stack_pair import BLOCKS
from minidiffuser_ros.simulation.tasks.stack_pair import HOVER as ABOVE_BLOCK

NEAR = 0.02  # m
STEPS = (1, 2, 3, 5, 10)
# Of each task: the things to choose from, and how far above the chosen one's origin to go first.
DOUBLES = {
    "push_button": (BUTTONS, BUTTON_CAP_TOP + FINGERTIP_BELOW_TOOL + ABOVE_BUTTON),
    "stack_pair": (BLOCKS, ABOVE_BLOCK),
}


@dataclass
class Seen:
    """What a method's candidates covered, a number for each scene."""

    both: list[bool]
    right: list[float]
    chosen: list[bool]
    picked: list[bool]


@dataclass(frozen=True)
class Row:
    """One method on one task. low, high: Wilson's 95 % interval of `both`; those of the others bear their names."""

    task: str
    method: str
    scenes: int
    both: float
    low: float
    high: float
    right: float
    chosen: float
    chosen_low: float
    chosen_high: float
    picked: float
    picked_low: float
    picked_high: float


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policy", type=Path, help="folder of a policy trained on push_button and stack_pair")
    parser.add_argument("--also", type=Path, action="append", default=[], help="another policy of the same tasks")
    parser.add_argument("--scenes", type=int, default=50, help="of each task (default: 50)")
    parser.add_argument("--seed", type=int, default=210_000, help="first seed")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    ways = ways_of(args.policy, args.also)
    world = shared_world(next(iter(ways.values()))[0].spec)
    rows = [row for task in DOUBLES for row in measured(world, ways, task, args.seed, args.scenes)]
    print(f"{'task':<13}{'method':<12}{'both':>17}{'candidates right':>18}{'chosen right':>18}{'picked':>18}")
    for row in rows:
        both = f"{row.both:.0%} {row.low:.0%}-{row.high:.0%}"
        chosen = f"{row.chosen:.0%} {row.chosen_low:.0%}-{row.chosen_high:.0%}"
        picked = f"{row.picked:.0%} {row.picked_low:.0%}-{row.picked_high:.0%}"
        print(f"{row.task:<13}{row.method:<12}{both:>17}{row.right:>18.1%}{chosen:>18}{picked:>18}")
    if args.json:
        text = json.dumps([asdict(row) for row in rows], indent=2) + "\n"
        replace_file(args.json, lambda path: path.write_text(text))


def ways_of(folder: Path, also: list[Path]) -> dict[str, tuple[Policy, Plan]]:
    """Policy and plan of every method; a hundred steps of DDPM only where its noise is that of diffusion."""
    policy = Policy.load(folder)
    ways: dict[str, tuple[Policy, Plan]] = {}
    if whole_walk(policy) == DDPM:
        ways[REFERENCE] = (policy, steady(Walk(DDPM)))
    ways |= {f"ddim-{steps}": (policy, steady(Walk(SamplerConfig("ddim", steps)))) for steps in STEPS}
    try:
        ways["sag"] = (policy, PrunedWalks.load(folder, policy).walk)
    except CheckpointError as error:
        print(f"without the pruner: {error}")
    for other in also:
        beside = Policy.load(other)
        for steps in ALSO_STEPS:
            ways[f"{other.name}-{steps}"] = (beside, steady(Walk(SamplerConfig("ddim", steps))))
    return ways


def measured(world: Tabletop, ways: Mapping[str, tuple[Policy, Plan]], task: str, seed: int, scenes: int) -> list[Row]:
    """A row for each method, all from the same first views with the same seeds."""
    seen = {name: Seen([], [], [], []) for name in ways}
    for number in tqdm(range(seed, seed + scenes), unit="scene", desc=task):
        instruction = Scene(task, number).lay_out(world)
        alone = world.observe()
        Scene(task, number, "doubles").lay_out(world)
        observation, goals = world.observe(), above_both(world, task)
        for name, (policy, plan) in ways.items():
            policy.plan = plan
            decision = policy.decide(observation, instruction, number)
            near = np.linalg.norm(decision.candidates[:, None] - goals[None], axis=-1) < NEAR
            seen[name].both.append(bool(near.any(0).all()))
            seen[name].right.append(float(near.any(1).mean()))
            seen[name].chosen.append(bool(near[decision.chosen].any()))
            told = policy.decide(alone, instruction, number).keypose.position
            meant, other = np.linalg.norm(goals - told, axis=-1)
            seen[name].picked.append(bool(meant < min(NEAR, other)))
    return [_row(task, name, of) for name, of in seen.items()]


def above_both(world: Tabletop, task: str) -> NDArray[np.float64]:
    """Where the hand may go first [2, 3] m: above the thing that was meant, and above its double."""
    things, height = DOUBLES[task]
    return np.stack([world.stage.position(things[index]) for index in world.task.right]) + np.array([0.0, 0.0, height])


def _row(task: str, name: str, seen: Seen) -> Row:
    count = len(seen.both)
    both, chosen, picked = (
        (sum(found) / count, *wilson_interval(sum(found), count)) for found in (seen.both, seen.chosen, seen.picked)
    )
    return Row(task, name, count, *both, statistics.fmean(seen.right), *chosen, *picked)


if __name__ == "__main__":
    main()
