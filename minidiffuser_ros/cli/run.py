"""`minidiffuser run "push the red button"`: perform a sentence on the running graph, and tell what happens."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from minidiffuser_ros.cli.graph import StopRequest, require_ros
from minidiffuser_ros.contract.errors import ConnectionLostError, InstructionError

if TYPE_CHECKING:
    from minidiffuser_ros.bridge.decision_pictures import PruningPictures
    from minidiffuser_ros.bridge.graph_client import Progress
    from minidiffuser_ros.policy.loop import DecisionRecord

HELP = "perform a sentence on the running graph"
EPILOG = """examples:
  minidiffuser run "push the red button"
  minidiffuser run "stack the red block on the blue block" --max-keyposes 8 --seed 3
  minidiffuser run "push the red button" --pruning out/pruning.png

The graph must be running: `minidiffuser bringup policy`, or `ros2 launch minidiffuser_ros policy.launch.py`.
Ctrl-C stops the arm and ends the run; a second one leaves at once.

exit codes: 0 the task is done, 1 the run ended without success, 2 bad input, 3 no policy node answers
"""
EXIT_DONE, EXIT_FAILED, EXIT_NO_GRAPH = 0, 1, 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `minidiffuser run`."""
    parser.add_argument("instruction", help="what to do, one English sentence in quotes")
    parser.add_argument(
        "--max-keyposes", type=int, default=0, metavar="N", help="end after N keyposes (default: the policy node's own)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the sampler, to repeat a run (default: 0)")
    parser.add_argument("--namespace", default="", help="namespace of the graph (default: none)")
    parser.add_argument(
        "--wait", type=float, default=10.0, metavar="S", help="wait so long for the policy node (default: 10)"
    )
    parser.add_argument(
        "--pruning", type=Path, metavar="PNG", help="draw there what each decision by a pruned walk computed and reused"
    )


def run(args: argparse.Namespace) -> int:
    """Returns the exit code; raises MinidiffuserError for bad input."""
    if not args.instruction.strip():
        raise InstructionError("the instruction is empty; say what to do, as in 'push the red button'")
    if args.max_keyposes < 0 or args.seed < 0:
        raise InstructionError(f"--max-keyposes and --seed cannot be negative, got {args.max_keyposes} and {args.seed}")
    require_ros()
    from minidiffuser_ros.bridge.decision_pictures import PruningPictures
    from minidiffuser_ros.bridge.graph_client import GraphClient

    with (
        StopRequest(lambda: print("\nstopping the arm …", flush=True)) as stop,
        GraphClient("minidiffuser_run", args.namespace, cancelled=stop.asked) as graph,
    ):
        try:
            graph.wait_active(["policy"], args.wait)
        except ConnectionLostError as error:
            if stop.asked():
                return EXIT_FAILED
            print(f"minidiffuser run: {error}; start the graph with: minidiffuser bringup policy", file=sys.stderr)
            return EXIT_NO_GRAPH
        pruning = PruningPictures(graph.node) if args.pruning else None
        try:
            outcome = graph.run_policy(args.instruction, args.max_keyposes, args.seed, progress_printer())
        except ConnectionLostError as error:
            print(f"failed: {error}", flush=True)
            return EXIT_FAILED
        print(f"{'done' if outcome.success else 'cancelled' if outcome.cancelled else 'failed'}: {outcome.message}")
        if pruning is not None:
            _write(args.pruning, pruning)
        return EXIT_DONE if outcome.success else EXIT_FAILED


def _write(path: Path, pruning: PruningPictures) -> None:
    from PIL import Image

    from minidiffuser_ros.contract.files import replace_file

    picture = pruning.stacked()
    if picture is None:
        print("no walk was pruned: `ros2 param set /policy sampler sag` makes it so, where the policy has a pruner")
        return
    replace_file(path, lambda partial: Image.fromarray(picture).save(partial, format="PNG"))
    print(f"wrote {path}")


def progress_printer() -> Callable[[Progress], None]:
    """A callback that prints one line per finished decision, and on a terminal the stage in between."""
    printed = [-1]

    def show(progress: Progress) -> None:
        record = progress.finished
        if record is not None and record.index > printed[0]:
            printed[0] = record.index
            print(_clear() + decision_line(record), flush=True)
        elif sys.stdout.isatty():
            print(f"{_clear()}{progress.index + 1:3d}  {progress.stage.replace('_', ' ')} …", end="", flush=True)

    return show


def decision_line(record: DecisionRecord) -> str:
    """One finished decision: where the tool went and how long each stage took."""
    x, y, z = record.keypose.position
    stages = (
        f"observe {record.observe_ms:.0f}  lift {record.lift_ms:.0f}  encode {record.encode_ms:.0f}  "
        f"denoise {record.denoise_ms:.0f}  move {record.move_ms:.0f} ms"
    )
    gripper = "open" if record.keypose.is_open else "closed"
    return f"{record.index + 1:3d}  ({x:.3f}, {y:+.3f}, {z:.3f}) m, gripper {gripper:6s}  {stages}{_walk(record)}"


def _walk(record: DecisionRecord) -> str:
    """How the keypose was drawn; nothing of a graph that does not say."""
    if not record.sampler:
        return ""
    reused = f", {record.pruned:.0%} reused" if record.pruned else ""
    return f"  ({record.sampler} {record.steps}{reused}{', after a doubt' if record.fell_back else ''})"


def _clear() -> str:
    return "\r\033[K" if sys.stdout.isatty() else ""
