"""Success and latency of every way to draw candidates, side by side: whole and pruned walks, few steps, schedules.

python benchmarks/inference.py models/tabletop_small
python benchmarks/inference.py runs/push_t --episodes 100
python benchmarks/inference.py runs/mine --also runs/flow --json out/inference.json --plot out/inference.png

Every method plays the same scenes with the same seeds; its latency is that of its own decisions, all in one run, the
order of methods turned around from scene to scene. `speedup` is against the whole DDPM walk with the condition encoded
once, for flow matching against the policy's own walk (and schedules are made for that one); `naive` encodes it at every
step, as where samples and points share one sequence, and is timed on two scenes.
`lost/won`: scenes that only the whole walk, or only this method did.

methods: ddpm-100 (also naive), ddim-STEPS, uniform-7, uniform-11, bac-10-5, random-91 (of flow matching ddim-10 for
ddpm-100, and with it uniform-2, uniform-3, bac-4-5, random-60); sag and sag-fixed where a pruner lies beside the
weights; NAME-STEPS for every policy NAME of --also, such as one trained with flow matching.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from inference_harness import Subject, compare
from inference_push_t import PushTChoice, push_t_subject
from inference_report import plot, rows_of, table, write_json
from inference_tabletop import Choice, default_tasks, tabletop_subject

from minidiffuser_ros.policy.pruned import is_sequence_policy

FIRST_TEST_SEED = 200_000  # of the table's scenes


def main() -> None:
    """Print the table."""
    args = _arguments()
    torch.set_num_threads(args.threads)
    rows = []
    for device in args.device:
        subject = _subject(args, device)
        rows += rows_of(subject, compare(subject, args.log))
    print(table(rows))
    if args.json:
        write_json(rows, args.json)
    if args.plot:
        plot(rows, args.plot)


def _subject(args: argparse.Namespace, device: str) -> Subject:
    """Push-T for a policy over action sequences, else the table."""
    if is_sequence_policy(args.policy):
        push_t = PushTChoice(args.episodes, args.seed, args.calibration, args.methods or ())
        return push_t_subject(args.policy, args.also, device, push_t)
    tasks, seed = args.tasks or default_tasks(args.policy), FIRST_TEST_SEED if args.seed is None else args.seed
    tabletop = Choice(tasks, args.episodes, seed, args.calibration, args.methods or ())
    return tabletop_subject(args.policy, args.also, device, tabletop)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policy", type=Path, help="folder of a trained policy")
    parser.add_argument("--also", type=Path, action="append", default=[], help="another policy of the same tasks")
    parser.add_argument("--tasks", nargs="+", help="of the table; default: those of its demonstrations")
    parser.add_argument("--episodes", type=int, default=50, help="scenes a task (default: 50)")
    parser.add_argument("--seed", type=int, help="of the first scene (default: that of tests)")
    parser.add_argument("--methods", nargs="+", help="only these, and the whole walk")
    parser.add_argument("--calibration", type=int, default=16, help="scenes that fixed schedules are made from")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", nargs="+", default=["cpu"], help="cpu, cuda, or both (default: cpu)")
    parser.add_argument("--log", type=Path, help="keep every play here; the same command then goes on where it stopped")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
