"""Where in a task a policy errs, keypose by keypose: on what the expert saw, or on its own way.

python benchmarks/keypose_errors.py models/tabletop --data data/tabletop --episodes 20
python benchmarks/keypose_errors.py models/tabletop --tasks insert_ring_on_peg --episodes 20

Medians over the episodes of the chosen candidate's distance to the expert's keypose and angle between them; how many
are off by more than 1 cm or 5 degrees; how often the gripper is wrong; and how often the policy holds where the expert
moves. With --data the policy looks at held-out demonstrations, as training splits them; only those without disturbances
show the usual order. Without it acts in test scenes, and at every step is held against what the expert would do there.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from minidiffuser_ros.contract.errors import MotionError, ObservationError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.policy.policy import Policy, holds
from minidiffuser_ros.policy.sampling import Walk
from minidiffuser_ros.simulation.shifts import SPLITS
from minidiffuser_ros.simulation.tabletop import shared_world
from minidiffuser_ros.training.dataset import Batch, DemonstrationSet, load_split

FIRST_SEED = SPLITS["test"].start


@dataclass(frozen=True)
class Error:
    """Of one decision: m, degrees, whether the gripper is wrong, whether it stays where the tool is."""

    distance: float
    angle_deg: float
    wrong_grip: bool
    holds: bool


def main() -> None:
    """A line for each keypose of each task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policy", type=Path)
    parser.add_argument("--data", type=Path, help="demonstrations that it was trained on (default: act in test scenes)")
    parser.add_argument("--tasks", nargs="+", help="only these; needed without --data")
    parser.add_argument("--episodes", type=int, default=5, help="held-out ones, or test scenes, a task (default: 5)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    policy = Policy.load(args.policy)
    if args.data is None and not args.tasks:
        parser.error("without --data name the --tasks")
    print(f"{'task':<24}{'keypose':>8}{'n':>4}{'mm':>8}{'> 1 cm':>8}{'deg':>7}{'> 5 deg':>9}{'grip':>6}{'holds':>7}")
    if args.data is None:
        _on_its_own_way(policy, args.tasks, args.episodes)
    else:
        _on_demonstrations(policy, args)


def _on_its_own_way(policy: Policy, tasks: Sequence[str], episodes: int) -> None:
    """The policy acts; a scene ends where a keypose cannot be reached or nothing is seen."""
    world = shared_world(policy.spec)
    for task in tasks:
        found: dict[int, list[Error]] = defaultdict(list)
        for seed in tqdm(range(FIRST_SEED, FIRST_SEED + episodes), desc=task, leave=False):
            sentence = world.reset(task, seed)
            with suppress(MotionError, ObservationError):
                for step, expert in enumerate(world.expert()):
                    decision = policy.decide(world.observe(), sentence, 100 * seed + step)
                    found[step].append(error_between(decision.keypose, expert, decision.holds))
                    world.execute(decision.keypose)
        for step, errors in found.items():
            print(_line(task, step, errors), flush=True)


def _on_demonstrations(policy: Policy, args: argparse.Namespace) -> None:
    """What the expert saw, and what it did."""
    _, held_out = load_split(args.data, policy.config.model.rotation_bins)
    chosen = {
        task: steps for task, steps in steps_of(held_out, args.episodes).items() if task in (args.tasks or [task])
    }
    for task, steps in chosen.items():
        for step, indices in tqdm(steps.items(), desc=task, leave=False):
            tqdm.write(_line(task, step, [error_of(policy, held_out, index) for index in indices]))


def steps_of(data: DemonstrationSet, episodes: int) -> dict[str, dict[int, list[int]]]:
    """Samples of the first episodes of each task, by the keypose that they ask for."""
    found: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    seen: dict[str, set[int]] = defaultdict(set)
    for index, (episode, step) in enumerate(data.samples):
        task = data.task_of(index)
        seen[task].add(episode)
        if len(seen[task]) <= episodes:
            found[task][step].append(index)
    return found


@torch.inference_mode()
def error_of(policy: Policy, data: DemonstrationSet, index: int) -> Error:
    """The policy's decision for one sample, against the expert's."""
    batch: Batch = data.batch([index])
    proposal = policy.propose(policy.network.encode(batch.inputs), Walk(policy.config.sampler), index)
    keypose = proposal.keyposes[proposal.chosen]
    position, quat, opening = (part[0].double().numpy() for part in (batch.positions, batch.quats_wxyz, batch.openings))
    return error_between(keypose, Keypose(position, quat, float(opening)), holds(keypose, data.tool_of(index)))


def error_between(keypose: Keypose, expert: Keypose, stays: bool) -> Error:
    """Of one decision, beside the expert's at the same moment."""
    distance, angle = keypose.distance_to(expert.position, expert.quat_wxyz)
    return Error(distance, angle, keypose.is_open != expert.is_open, stays)


def _line(task: str, step: int, errors: list[Error]) -> str:
    distances, angles = np.array([e.distance for e in errors]), np.array([e.angle_deg for e in errors])
    return (
        f"{task:<24}{step:>8}{len(errors):>4}{1e3 * np.median(distances):>8.1f}{np.mean(distances > 0.01):>8.0%}"
        f"{np.median(angles):>7.1f}{np.mean(angles > 5.0):>9.0%}{sum(e.wrong_grip for e in errors):>6}"
        f"{sum(e.holds for e in errors):>7}"
    )


if __name__ == "__main__":
    main()
