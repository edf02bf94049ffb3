"""How far a pruned walk can be trusted: wrong decisions, unfamiliar scenes, the rate that is kept, the pruner's cost.

python benchmarks/pruning_trust.py models/tabletop_small --json out/trust.json --plot out/trust.png

1. One decision of the mask is turned over, computed to reused or reused to computed, and the chosen keypose compared
   with that of the mask as it was, with the same noise: by the step and the kind of branch. `pruned` against whole
   beside it says how much all the reuse together changes.
2. The whole walk, SAG and DDIM play the same scenes of every shift of the table-top suite.
3. The share that is reused in every decision of those plays, against the rate asked for.
4. Operations of the pruner and of the walk, counted by torch.

A pruner must lie beside the weights (`minidiffuser prune`). A stopped run goes on where it was with --log.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from inference_harness import Method, compare
from inference_report import rows_of, table
from inference_tabletop import DDPM, REFERENCE, TabletopSubject, Way, default_tasks, steady
from trust_flips import Flip, flips_of, plot, summaries
from trust_operations import operations_of

from minidiffuser_ros.contract.files import replace_file
from minidiffuser_ros.diffusion.sampler import SamplerConfig
from minidiffuser_ros.evaluation.rollout import Scene
from minidiffuser_ros.policy.policy import Policy
from minidiffuser_ros.policy.pruned import PRUNER, PrunedWalks, fingerprint
from minidiffuser_ros.policy.sampling import Walk
from minidiffuser_ros.simulation.tabletop import shared_world

SHIFTS = ("none", "paraphrases", "camera", "lighting", "distractors", "looks")
DDIM_STEPS = (10, 1)


def main() -> None:
    """Measure, print, write."""
    args = _arguments()
    torch.set_num_threads(args.threads)
    policy = Policy.load(args.policy)
    walks, world = PrunedWalks.load(args.policy, policy), shared_world(policy.spec)
    tasks = args.tasks or default_tasks(args.policy)
    result: dict[str, object] = {"operations": (operations := operations_of(policy, walks, world, tasks))}
    print("operations of one decision: " + ", ".join(f"{name} {value:.3g}" for name, value in operations.items()))
    if args.observations:
        flips: list[Flip] = flips_of(policy, walks, world, tasks, args.observations, args.flips)
        print("\n".join(summaries(flips)))
        result["flips"] = [asdict(flip) for flip in flips]
        if args.plot:
            plot(flips, args.plot)
    for shift in args.shifts:
        result[f"shift {shift}"] = played(args, policy, walks, tasks, shift)
    if args.json:
        text = json.dumps(result, indent=2) + "\n"
        replace_file(args.json, lambda path: path.write_text(text))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policy", type=Path, help="folder of a policy with its pruner")
    parser.add_argument("--tasks", nargs="+", help="default: those of its demonstrations")
    parser.add_argument("--shifts", nargs="*", default=SHIFTS, help=f"default: {' '.join(SHIFTS)}")
    parser.add_argument("--episodes", type=int, default=25, help="scenes of each task and shift (default: 25)")
    parser.add_argument("--seed", type=int, default=200_000, help="first test seed")
    parser.add_argument(
        "--observations", type=int, default=8, help="whose masks are turned over, 0 for none (default: 8)"
    )
    parser.add_argument("--flips", type=int, default=60, help="decisions turned over of each of them (default: 60)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--log", type=Path, help="keep every play here; the same command then goes on where it stopped")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    return parser.parse_args()


def played(
    args: argparse.Namespace, policy: Policy, walks: PrunedWalks, tasks: Sequence[str], shift: str
) -> dict[str, object]:
    """Success of whole, pruned and short walks under a shift, and the realised rate."""
    of_policy = Method(args.policy.name)
    ways = {REFERENCE: Way(policy, steady(Walk(DDPM)), of_policy), "sag": Way(policy, walks.walk, of_policy)}
    ways |= {f"ddim-{n}": Way(policy, steady(Walk(SamplerConfig("ddim", n))), of_policy) for n in DDIM_STEPS}
    scenes = [Scene(task, args.seed + i, shift) for i in range(args.episodes) for task in tasks]
    identity = [fingerprint(args.policy), fingerprint(args.policy / PRUNER)]
    subject = TabletopSubject(f"{args.policy.name}, {shift}", "cpu", identity, scenes, ways)
    log = args.log.with_name(f"{args.log.stem}-{shift}{args.log.suffix}") if args.log else None
    tallies = compare(subject, log)
    rows, rates = rows_of(subject, tallies), tallies["sag"].pruned
    rate = {"target": walks.config.rate, "decisions": len(rates), "min": min(rates), "max": max(rates)}
    rate["mean"] = sum(rates) / len(rates)
    print(f"\n{subject.name}: " + ", ".join(f"{name} {value:.4g}" for name, value in rate.items()))
    print(table(rows))
    return {"rate": rate, "rows": [asdict(row) for row in rows]}


if __name__ == "__main__":
    main()
