"""`minidiffuser demo`: sentences through the live graph on a simulated arm, with a table and pictures at the end."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from minidiffuser_ros.cli.graph import StopRequest, require_ros
from minidiffuser_ros.contract.errors import ConfigurationError, ConnectionLostError

if TYPE_CHECKING:
    from minidiffuser_ros.cli.live import LiveRun, LiveTable

HELP = "perform sentences of several tasks on a simulated arm, through the whole ROS graph"
EPILOG = """examples:
  minidiffuser demo
  minidiffuser demo --episodes 2 --checkpoint models/tabletop_small --out out/quick
  minidiffuser demo --episodes 3 --tasks push_button

Writes into the --out folder: summary.json (every decision, latencies), contact_sheet.png (what the camera saw before
each decision, with candidates and choice) and graph.log (the output of all nodes). Nothing is left running.

exit codes: 0 enough episodes succeeded, 1 they did not or the graph failed, 2 bad input, 130 after Ctrl-C
"""
TASKS = ("push_button", "stack_pair", "open_drawer", "put_item_in_drawer", "meat_off_grill", "sweep_to_dustpan")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `minidiffuser demo`."""
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder of the results (default: out/demo)")
    parser.add_argument("--episodes", type=int, default=6, metavar="N", help="episodes, tasks in turn (default: 6)")
    parser.add_argument("--tasks", nargs="+", default=TASKS, help=f"played in turn (default: {' '.join(TASKS)})")
    parser.add_argument("--checkpoint", default="models/tabletop", help="trained policy (default: models/tabletop)")
    parser.add_argument("--seed", type=int, default=100000, help="seed of the first episode (default: 100000)")
    parser.add_argument(
        "--require", type=float, default=0.66, metavar="F", help="fraction that must succeed (default: 0.66)"
    )
    parser.add_argument(
        "--speed", type=float, default=0.6, metavar="F", help="fraction of the arm's full speed (default: 0.6)"
    )


def run(args: argparse.Namespace) -> int:
    """Returns the exit code; raises MinidiffuserError for bad input."""
    if args.episodes < 1 or args.seed < 0 or not 0.0 <= args.require <= 1.0:
        raise ConfigurationError(
            f"--episodes must be at least 1, --seed not negative and --require in [0, 1]; "
            f"got {args.episodes}, {args.seed} and {args.require}"
        )
    require_ros()
    from minidiffuser_ros.cli.live import LiveTable
    from minidiffuser_ros.simulation.tasks import make_task

    for task in args.tasks:
        make_task(task)
    with StopRequest() as stop:
        table = LiveTable(args.checkpoint, args.speed, args.out / "graph.log", stop.asked)
        demo = Demo(args.out, table, args.tasks)
        try:
            demo.perform(args.seed, args.episodes)
        except ConnectionLostError as error:
            if not stop.asked():
                print(f"the graph failed: {error}\n{table.log_tail()}")
                return 1
    if stop.asked():
        raise KeyboardInterrupt
    return demo.conclude(args.require)


@dataclass
class Demo:
    """The episodes that are played and what came of them."""

    out: Path
    table: LiveTable
    tasks: Sequence[str]
    runs: list[LiveRun] = field(default_factory=list)
    _started: float = field(default_factory=time.monotonic)

    def perform(self, seed: int, episodes: int) -> None:
        """Start the graph, play all episodes, draw the contact sheet, end the graph. Raises ConnectionLostError."""
        from tqdm import tqdm

        with self.table as table:
            for index in tqdm(range(episodes), desc="episodes", unit="episode", smoothing=0.0):
                self.runs.append(table.play(self.tasks[index % len(self.tasks)], seed + index))
                if table.stopped():
                    return
            table.draw([run.strip for run in self.runs]).save(self.out / "contact_sheet.png")
            if (masks := table.draw_masks()) is not None:
                masks.save(self.out / "pruning.png")

    def conclude(self, required: float) -> int:
        """Print the table, write summary.json; 0 if a fraction of at least `required` succeeded, else 1."""
        from minidiffuser_ros.evaluation.run_report import summary, table

        reports = [run.report for run in self.runs]
        result = summary(reports, required, self.table.checkpoint, time.monotonic() - self._started)
        (self.out / "summary.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(f"\n{table(reports)}\n")
        for report in reports:
            if not report.success:
                print(f"failed: {report.instruction or report.task} (seed {report.seed}): {report.message}")
        print(f"{result['succeeded']} of {result['n']} succeeded, in {result['duration_s']:.0f} s")
        print(f"wrote {self.out / 'summary.json'} and {self.out / 'contact_sheet.png'}")
        return 0 if result["success"] >= required else 1
