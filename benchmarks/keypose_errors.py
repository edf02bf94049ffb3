"""Where in a task a policy errs: its decisions on held-out demonstrations, keypose by keypose, on what the expert saw.

python benchmarks/keypose_errors.py models/tabletop --data data/tabletop --episodes 20

Medians over the episodes of the chosen candidate's distance to the expert's keypose and angle between them; how many
are off by more than 1 cm or 5 degrees; how often the gripper is wrong; and how often the policy holds where the expert
moves. Of the held-out demonstrations, as training splits them, only those without disturbances show the usual order.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from minidiffuser_ros.policy.policy import Policy, holds
from minidiffuser_ros.policy.sampling import Walk
from minidiffuser_ros.training.dataset import Batch, DemonstrationSet, load_split


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
    parser.add_argument("--data", type=Path, required=True, help="demonstrations that it was trained on")
    parser.add_argument("--tasks", nargs="+", help="only these")
    parser.add_argument("--episodes", type=int, default=5, help="held-out ones a task (default: 5)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    policy = Policy.load(args.policy)
    _, held_out = load_split(args.data, policy.config.model.rotation_bins)
    chosen = {
        task: steps for task, steps in steps_of(held_out, args.episodes).items() if task in (args.tasks or [task])
    }
    print(f"{'task':<24}{'keypose':>8}{'n':>4}{'mm':>8}{'> 1 cm':>8}{'deg':>7}{'> 5 deg':>9}{'grip':>6}{'holds':>7}")
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
    expert = batch.positions[0].double().numpy(), batch.quats_wxyz[0].double().numpy()
    distance, angle = keypose.distance_to(*expert)
    wrong_grip = keypose.is_open != bool(batch.openings[0] > 0.5)
    return Error(distance, angle, wrong_grip, holds(keypose, data.tool_of(index)))


def _line(task: str, step: int, errors: list[Error]) -> str:
    distances, angles = np.array([e.distance for e in errors]), np.array([e.angle_deg for e in errors])
    return (
        f"{task:<24}{step:>8}{len(errors):>4}{1e3 * np.median(distances):>8.1f}{np.mean(distances > 0.01):>8.0%}"
        f"{np.median(angles):>7.1f}{np.mean(angles > 5.0):>9.0%}{sum(e.wrong_grip for e in errors):>6}"
        f"{sum(e.holds for e in errors):>7}"
    )


if __name__ == "__main__":
    main()
