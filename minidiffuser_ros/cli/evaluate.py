"""`minidiffuser evaluate`: success of a policy in simulation, with intervals, and the expert beside it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from minidiffuser_ros.evaluation.rollout import Scene
    from minidiffuser_ros.evaluation.rollout_log import Pair

HELP = """Measure a policy in the directly stepped simulation, or through the graph on the simulated arm. With --json
a stopped run goes on where it was."""
EPILOG = """examples:
  minidiffuser evaluate models/tabletop_small --episodes 50 --json out/eval.json --sheets out/sheets
  minidiffuser evaluate models/tabletop_small --tasks push_button --shift camera
  minidiffuser evaluate models/tabletop_small --live --episodes 5 --json out/live.json

Seeds from 200000 are for tests; validation has those from 100000, training those below. Shifts change what training
keeps: combinations, paraphrases, camera, lighting, distractors, looks, doubles (docs/simulation.md)."""
SHEET_EPISODES = 6
FAILED_LIVE = "failed"  # the graph says why in a sentence; what went wrong in the world nobody looks up there


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the subcommand."""
    parser.add_argument("checkpoint", type=Path, help="folder of a trained policy")
    parser.add_argument("--tasks", nargs="+", help="tasks to evaluate (default: those the policy was trained on)")
    parser.add_argument("--episodes", type=int, default=50, help="episodes per task (default: 50)")
    parser.add_argument("--seed", type=int, default=200000, help="first seed (default: 200000)")
    parser.add_argument("--shift", default="none", help="what differs from training (default: none)")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--live", action="store_true", help="through the whole graph, franky and rclpy, in real time")
    parser.add_argument("--speed", type=float, default=0.6, help="of the arm, with --live (default: 0.6 of its own)")
    parser.add_argument("--sheets", type=Path, metavar="FOLDER", help="write a contact sheet for each task there, too")
    parser.add_argument(
        "--card", action="store_true",
        help="write the checkpoint's README.md from the figures of all evaluations that lie in it as eval*.json",
    )  # fmt: skip
    parser.add_argument("--recipe", default="", help="the command that makes the policy, to be quoted in the card")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--ray", metavar="ADDRESS", help="spread over a Ray cluster, 'local' or HOST:PORT")


def run(args: argparse.Namespace) -> int:
    """Evaluate; prints a table and returns 0."""
    from minidiffuser_ros.contract.errors import ConfigurationError
    from minidiffuser_ros.contract.files import replace_file
    from minidiffuser_ros.evaluation.report import report_of, table_of
    from minidiffuser_ros.evaluation.rollout import Scene
    from minidiffuser_ros.policy.checkpoint import load_checkpoint
    from minidiffuser_ros.simulation.shifts import shift_named
    from minidiffuser_ros.simulation.tasks import make_task

    if args.episodes < 1 or args.workers < 1 or args.seed < 0:
        raise ConfigurationError(
            f"--episodes and --workers must be at least 1 and --seed at least 0, "
            f"got {args.episodes}, {args.workers} and {args.seed}"
        )
    if args.live and (args.shift != "none" or args.sheets):
        raise ConfigurationError("--live plays scenes as they are and draws none: leave --shift and --sheets out")
    load_checkpoint(args.checkpoint)
    tasks = list(dict.fromkeys(args.tasks or _trained_on(args.checkpoint)))
    for task in tasks:
        make_task(task).check_variation(None, shift_named(args.shift))
    scenes = [Scene(task, seed, args.shift) for task in tasks for seed in range(args.seed, args.seed + args.episodes)]
    pairs = _pairs(args, scenes)
    report = report_of(pairs, args.shift, args.live)
    print(table_of(report))
    if args.json:
        text = json.dumps(report, indent=2) + "\n"
        replace_file(args.json, lambda path: path.write_text(text))
    if args.sheets:
        _draw_sheets(args, tasks, pairs)
    if args.card:
        from minidiffuser_ros.evaluation.model_card import reports_in, write_model_card

        print(f"card: {write_model_card(args.checkpoint, reports_in(args.checkpoint, report), args.recipe)}")
    return 0


def _trained_on(checkpoint: Path) -> list[str]:
    """The tasks of the policy's demonstrations; all tasks where its folder does not say."""
    from minidiffuser_ros.simulation.tasks import TASKS

    try:
        named = json.loads((checkpoint / "training.json").read_text())["demonstrations"]
        return [task for task in named if task in TASKS] or list(TASKS)
    except (OSError, ValueError, KeyError, TypeError):
        return list(TASKS)


def _pairs(args: argparse.Namespace, scenes: list[Scene]) -> list[Pair]:
    """All rollouts; with --json those of a stopped run are kept beside it until the report is whole."""
    from contextlib import ExitStack
    from tempfile import TemporaryDirectory

    from tqdm import tqdm

    from minidiffuser_ros.cli.jobs import results_of
    from minidiffuser_ros.evaluation.rollout_log import RolloutLog

    with ExitStack() as stack:
        path = args.json or Path(stack.enter_context(TemporaryDirectory())) / "report.json"
        log = RolloutLog(path.with_suffix(".rollouts.jsonl"), args.checkpoint, args.shift, args.live)
        missing = [(args.checkpoint, scene) for scene in scenes if (scene.task, scene.seed) not in log.pairs]
        results = _live(args, missing) if args.live else results_of(_episode, missing, args.workers, args.ray)
        for pair in tqdm(results, total=len(scenes), initial=len(scenes) - len(missing), unit="episode"):
            log.add(pair)
        log.close()
    return [log.pairs[scene.task, scene.seed] for scene in scenes]


def _episode(job: tuple[Path, Scene]) -> Pair:
    """The policy's rollout and the expert's from the same seed."""
    from minidiffuser_ros.evaluation.rollout import roll_out, roll_out_expert, shared_policy
    from minidiffuser_ros.simulation.tabletop import shared_world

    checkpoint, scene = job
    policy = shared_policy(checkpoint)
    world = shared_world(policy.spec)
    return roll_out(world, policy, scene), roll_out_expert(world, scene)


def _live(args: argparse.Namespace, jobs: Sequence[tuple[Path, Scene]]) -> Iterator[Pair]:
    """The policy's scenes through a graph of their own, the expert's in the directly stepped world."""
    from minidiffuser_ros.cli.graph import StopRequest, require_ros
    from minidiffuser_ros.evaluation.rollout import Rollout, roll_out_expert
    from minidiffuser_ros.policy.checkpoint import load_checkpoint
    from minidiffuser_ros.simulation.tabletop import shared_world

    if not jobs:
        return
    require_ros()
    from minidiffuser_ros.cli.live import LiveTable

    world = shared_world(load_checkpoint(args.checkpoint)[0].spec)
    log = (args.json or Path("out/live.json")).with_suffix(".graph.log")
    with (
        StopRequest() as stop,
        LiveTable(str(args.checkpoint), args.speed, log, stop.asked) as table,
    ):
        for _, scene in jobs:
            report = table.play(scene.task, scene.seed).report
            if stop.asked():
                raise KeyboardInterrupt
            failure, reason = ("", "") if report.success else (FAILED_LIVE, report.message)
            played = Rollout(
                scene.task, scene.seed, report.instruction, report.success, len(report.decisions), failure, reason
            )
            yield played, roll_out_expert(world, scene)


def _draw_sheets(args: argparse.Namespace, tasks: list[str], pairs: list[Pair]) -> None:
    """Some episodes of each task again, failures first: they go as they went."""
    from minidiffuser_ros.contract.files import replace_file
    from minidiffuser_ros.evaluation.rollout import Scene, shared_policy
    from minidiffuser_ros.evaluation.rollout_pictures import sheet_of
    from minidiffuser_ros.simulation.tabletop import shared_world

    for task in tasks:
        rollouts = sorted((p for p, _ in pairs if p.task == task), key=lambda r: (r.success, r.seed))
        scenes = [Scene(task, rollout.seed, args.shift) for rollout in rollouts[:SHEET_EPISODES]]
        policy = shared_policy(args.checkpoint)
        sheet = sheet_of(shared_world(policy.spec), policy, scenes)
        replace_file(args.sheets / f"{task}.png", lambda path, sheet=sheet: sheet.save(path, format="PNG"))  # type: ignore[misc]
    print(f"contact sheets: {args.sheets}")
