"""Success and latency of every way to draw candidates, side by side: whole and pruned walks, few steps, schedules.

python benchmarks/inference.py models/tabletop_small
python benchmarks/inference.py runs/mine --also runs/flow --json out/inference.json --plot out/inference.png

Every method plays the same scenes with the same seeds; its latency is that of its own decisions, all in one run, the
order of methods turned around from scene to scene. `speedup` is against the whole DDPM walk with the condition encoded
once; `naive` encodes it at every step, as where samples and points share one sequence, and is timed on two scenes.
`lost/won`: scenes that only the whole walk, or only this method did.

methods: ddpm-100 (also naive), ddim-STEPS, uniform-7, uniform-11, bac-10-5, random-91; sag and sag-fixed where a pruner
lies beside the weights; NAME-STEPS for every policy NAME of --also, such as one trained with flow matching.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from inference_harness import compare
from inference_report import plot, rows_of, table, write_json
from inference_tabletop import Choice, default_tasks, tabletop_subject


def main() -> None:
    """Print the table."""
    args = _arguments()
    torch.set_num_threads(args.threads)
    choice = Choice(
        args.tasks or default_tasks(args.policy), args.episodes, args.seed, args.calibration, args.methods or ()
    )
    rows = []
    for device in args.device:
        subject = tabletop_subject(args.policy, args.also, device, choice)
        rows += rows_of(subject, compare(subject, args.log))
    print(table(rows))
    if args.json:
        write_json(rows, args.json)
    if args.plot:
        plot(rows, args.plot)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policy", type=Path, help="folder of a trained policy")
    parser.add_argument("--also", type=Path, action="append", default=[], help="another policy of the same tasks")
    parser.add_argument("--tasks", nargs="+", help="default: those of its demonstrations")
    parser.add_argument("--episodes", type=int, default=50, help="scenes a task (default: 50)")
    parser.add_argument("--seed", type=int, default=200_000, help="first test seed")
    parser.add_argument("--methods", nargs="+", help="only these, and ddpm-100")
    parser.add_argument("--calibration", type=int, default=16, help="scenes that fixed schedules are made from")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", nargs="+", default=["cpu"], help="cpu, cuda, or both (default: cpu)")
    parser.add_argument("--log", type=Path, help="keep every play here; the same command then goes on where it stopped")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
