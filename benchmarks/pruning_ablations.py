"""What each part of Sparse ActionGen brings: the ablations of its table 4, each pruner trained here.

python benchmarks/pruning_ablations.py models/tabletop_small --data data/tabletop_small --out out/ablations

`sag`: as the paper has it; `sag-fixed`: the same pruner's mean schedule for all observations; `own-buffers`: a buffer
for each branch instead of each kind; `rate-per-branch`: the loss asks for the rate of every branch instead of all
together; `evenly`: no pruner, all branches at evenly spread steps, which is where training begins. All with the same
batches and steps of training, and the whole walk beside them. Success is that of the same scenes; error is the distance
of the chosen keypose from that of the whole walk, which begins with the same noise and meets the same on its way, over
held-out demonstrations; `expert` is the share of candidates within 1 cm of the demonstration's keypose. A stopped run
goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from ablated_pruners import ABLATIONS, trained_pruner
from inference_harness import Method, compare
from inference_report import Row, percentile, rows_of
from inference_tabletop import (
    DDPM,
    REFERENCE,
    TabletopSubject,
    Way,
    calibration,
    default_tasks,
    densest,
    fixed_walk,
    steady,
)
from tqdm import tqdm

from minidiffuser_ros.contract.files import replace_file
from minidiffuser_ros.evaluation.rollout import Scene
from minidiffuser_ros.policy.policy import Policy
from minidiffuser_ros.policy.pruned import fingerprint
from minidiffuser_ros.policy.sampling import Walk
from minidiffuser_ros.pruning.schedules import evenly_computed
from minidiffuser_ros.training.dataset import DemonstrationSet, load_split
from minidiffuser_ros.training.metrics import spread_over_tasks

NEAR = 0.01  # m


@dataclass(frozen=True)
class Errors:
    """Distances in mm of chosen keyposes from those of the whole walk, and the share of candidates at the expert's."""

    compared: int
    error_mm_p50: float
    error_mm_p95: float
    expert: float


def main() -> None:
    """Train what is missing, play, print the table."""
    args = _arguments()
    torch.set_num_threads(args.threads)
    policy = Policy.load(args.policy)
    training, held_out = load_split(args.data, policy.config.model.rotation_bins)
    ways = ways_of(args, policy, training)
    scenes = [Scene(task, args.seed + i) for i in range(args.episodes) for task in default_tasks(args.policy)]
    identity = [fingerprint(args.policy), args.steps]
    subject = TabletopSubject(args.policy.name, "cpu", identity, scenes, ways)
    errors = errors_of(policy, ways, held_out, args.held_out, range(args.noises))
    rows = rows_of(subject, compare(subject, args.out / "plays.jsonl"))
    print(table(rows, errors))
    if args.json:
        values = [{**asdict(row), **asdict(errors[row.method])} for row in rows]
        text = json.dumps(values, indent=2) + "\n"
        replace_file(args.json, lambda path: path.write_text(text))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policy", type=Path, help="folder of a trained policy")
    parser.add_argument("--data", type=Path, required=True, help="demonstrations that it was trained on")
    parser.add_argument("--out", type=Path, required=True, help="folder of the pruners and of what was played")
    parser.add_argument("--rates", nargs="+", type=float, default=[0.91, 0.97], help="default: 0.91 and 0.97")
    parser.add_argument("--steps", type=int, default=60, help="of each training (default: 60)")
    parser.add_argument("--episodes", type=int, default=25, help="scenes of each task (default: 25)")
    parser.add_argument("--seed", type=int, default=200_000, help="first test seed")
    parser.add_argument("--held-out", type=int, default=64, help="keyposes of held-out demonstrations (default: 64)")
    parser.add_argument("--noises", type=int, default=3, help="seeds of the noise for each of them (default: 3)")
    parser.add_argument("--calibration", type=int, default=16, help="scenes that fixed schedules are made from")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def ways_of(args: argparse.Namespace, policy: Policy, training: DemonstrationSet) -> dict[str, Way]:
    """The whole walk, and the ablations at every rate."""
    of_policy = Method(args.policy.name)
    ways = {REFERENCE: Way(policy, steady(Walk(DDPM)), of_policy)}
    conditions = calibration(policy, default_tasks(args.policy), args.calibration)
    for rate in args.rates:
        evenly = Walk(DDPM, evenly_computed(policy.sampler.units(DDPM), rate))
        ways[f"evenly {rate:g}"] = Way(policy, steady(evenly), of_policy)
        for ablation in ABLATIONS:
            walks = trained_pruner(ablation, rate, args.steps, args.policy, training, args.out)
            ways[f"{ablation.name} {rate:g}"] = Way(policy, walks.walk, of_policy)
            if ablation.name == "sag":
                ways[f"sag-fixed {rate:g}"] = Way(policy, steady(fixed_walk(walks, conditions)), of_policy)
    return ways


@torch.inference_mode()
def errors_of(
    policy: Policy, ways: Mapping[str, Way], held_out: DemonstrationSet, limit: int, seeds: Sequence[int]
) -> dict[str, Errors]:
    """What every way makes of the same held-out observations with the same noise."""
    gaps: dict[str, list[float]] = {name: [] for name in ways}
    near: dict[str, list[float]] = {name: [] for name in ways}
    indices = [index for of_task in spread_over_tasks(held_out, limit).values() for index in of_task]
    for index in tqdm(indices, unit="keypose"):
        batch = held_out.batch([index])
        condition = policy.network.encode(batch.inputs)
        for seed in seeds:
            found = {
                name: policy.sampler.positions(condition, seed, way.plan(condition))[0] for name, way in ways.items()
            }
            chosen = {name: densest(positions) for name, positions in found.items()}
            for name, positions in found.items():
                gaps[name].append(1e3 * float((chosen[name] - chosen[REFERENCE]).norm()))
                near[name].append(float(((positions - batch.positions).norm(dim=-1) < NEAR).float().mean()))
    return {
        name: Errors(
            len(gaps[name]), statistics.median(gaps[name]), percentile(gaps[name], 95), statistics.fmean(near[name])
        )
        for name in ways
    }


def table(rows: Iterable[Row], errors: Mapping[str, Errors]) -> str:
    """For a terminal."""
    lines = [
        f"{'':<22}{'reused':>8}{'success, 95 %':>18}{'lost/won':>10}{'error mm p50/p95':>19}{'expert':>9}{'speedup':>9}"
    ]
    for row in sorted(rows, key=lambda row: list(errors).index(row.method)):
        error = errors[row.method]
        lines.append(
            f"{row.method:<22}{row.pruned:>8.1%}{f'{row.success:.1%} {row.low:.0%}-{row.high:.0%}':>18}"
            f"{f'{row.lost}/{row.won}':>10}{f'{error.error_mm_p50:.2f} / {error.error_mm_p95:.2f}':>19}"
            f"{error.expert:>9.1%}{row.speedup:>9.2f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
