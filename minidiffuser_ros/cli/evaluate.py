"""`minidiffuser evaluate`: success of a policy in simulation, with intervals, and the expert beside it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

HELP = "Measure a policy in the directly stepped simulation. With --json a stopped run goes on where it was."
EPILOG = """examples:
  minidiffuser evaluate models/tabletop_small --episodes 50 --seed 100000 --json out/eval.json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the subcommand."""
    parser.add_argument("checkpoint", type=Path, help="folder of a trained policy")
    parser.add_argument(
        "--tasks", nargs="+", default=["push_button", "stack_pair"], help="tasks to evaluate (default: both)"
    )
    parser.add_argument("--episodes", type=int, default=50, help="episodes per task (default: 50)")
    parser.add_argument("--seed", type=int, default=100000, help="first seed; test seeds start at 100000 (the default)")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--card", action="store_true", help="write the figures into the checkpoint's README.md, too")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")


def run(args: argparse.Namespace) -> int:
    """Evaluate; prints a table and returns 0."""
    from minidiffuser_ros.contract.errors import ConfigurationError
    from minidiffuser_ros.contract.files import replace_file
    from minidiffuser_ros.policy.checkpoint import load_checkpoint
    from minidiffuser_ros.simulation.tasks import make_task

    if args.episodes < 1 or args.workers < 1 or args.seed < 0:
        raise ConfigurationError(
            f"--episodes and --workers must be at least 1 and --seed at least 0, "
            f"got {args.episodes}, {args.workers} and {args.seed}"
        )
    load_checkpoint(args.checkpoint)
    args.tasks = list(dict.fromkeys(args.tasks))
    for task in args.tasks:
        make_task(task)
    report = _report(args.tasks, _pairs(args))
    _print(report)
    if args.json:
        text = json.dumps(report, indent=2) + "\n"
        replace_file(args.json, lambda path: path.write_text(text))
    if args.card:
        from minidiffuser_ros.evaluation.model_card import write_model_card

        print(f"card: {write_model_card(args.checkpoint, report, args.seed)}")
    return 0


def _pairs(args: argparse.Namespace) -> list[tuple[Any, Any]]:
    """All rollouts; with --json those of a stopped run are kept beside it until the report is whole."""
    from contextlib import ExitStack
    from tempfile import TemporaryDirectory

    from tqdm import tqdm

    from minidiffuser_ros.cli.jobs import results_of
    from minidiffuser_ros.evaluation.rollout_log import RolloutLog

    scenes = [(task, seed) for seed in range(args.seed, args.seed + args.episodes) for task in args.tasks]
    with ExitStack() as stack:
        path = args.json or Path(stack.enter_context(TemporaryDirectory())) / "report.json"
        log = RolloutLog(path.with_suffix(".rollouts.jsonl"), args.checkpoint)
        missing = [(args.checkpoint, *scene) for scene in scenes if scene not in log.pairs]
        done = len(scenes) - len(missing)
        for pair in tqdm(results_of(_episode, missing, args.workers), total=len(scenes), initial=done, unit="episode"):
            log.add(pair)
        log.close()
    return [log.pairs[scene] for scene in scenes]


def _episode(job: tuple[Path, str, int]) -> tuple[Any, Any]:
    """The policy's rollout and the expert's from the same seed."""
    from minidiffuser_ros.evaluation.rollout import roll_out, roll_out_expert, shared_policy
    from minidiffuser_ros.simulation.tabletop import shared_world

    checkpoint, task, seed = job
    world = shared_world()
    return roll_out(world, shared_policy(checkpoint), task, seed), roll_out_expert(world, task, seed)


def _report(tasks: list[str], pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    from minidiffuser_ros.evaluation.statistics import wilson_interval

    def rates(rollouts: list[Any]) -> dict[str, dict[str, float]]:
        out = {}
        for task in tasks:
            results = [r.success for r in rollouts if r.task == task]
            low, high = wilson_interval(sum(results), len(results))
            out[task] = {"success": sum(results) / len(results), "low": low, "high": high, "n": len(results)}
        return out

    policy = rates([p for p, _ in pairs])
    failures = sorted((p.task, p.seed, p.instruction, p.reason) for p, _ in pairs if not p.success)
    return {
        "tasks": policy,
        "mean": sum(r["success"] for r in policy.values()) / len(policy),
        "expert": rates([e for _, e in pairs]),
        "failures": [dict(zip(("task", "seed", "instruction", "reason"), f, strict=True)) for f in failures],
    }


def _print(report: dict[str, Any]) -> None:
    print(f"{'task':<16}{'success':>9}{'95 % interval':>18}{'n':>5}{'expert':>9}")
    for task, rate in report["tasks"].items():
        interval = f"{rate['low']:.1%} - {rate['high']:.1%}"
        print(f"{task:<16}{rate['success']:>9.1%}{interval:>18}{rate['n']:>5}{report['expert'][task]['success']:>9.1%}")
    print(f"{'mean':<16}{report['mean']:>9.1%}")
