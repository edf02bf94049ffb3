"""`minidiffuser demo`: sentences through the live graph on a simulated arm, with a table and pictures at the end."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from minidiffuser_ros.bringup import plan
from minidiffuser_ros.bringup_runner import ProcessGroup, ProcessSpec, process_of
from minidiffuser_ros.cli.graph import StopRequest, free_domain, require_ros
from minidiffuser_ros.contract.errors import ConfigurationError, ConnectionLostError, MinidiffuserError
from minidiffuser_ros.contract.installation import share_folder

if TYPE_CHECKING:
    from minidiffuser_ros.bridge.decision_pictures import DecisionPictures, PruningPictures
    from minidiffuser_ros.bridge.graph_client import GraphClient
    from minidiffuser_ros.evaluation.contact_sheet import Strip
    from minidiffuser_ros.evaluation.run_report import RunReport

HELP = "perform sentences of every task on a simulated arm, through the whole ROS graph"
EPILOG = """examples:
  minidiffuser demo
  minidiffuser demo --episodes 2 --checkpoint models/tabletop_small --out out/quick

Writes into the --out folder: summary.json (every decision, latencies), contact_sheet.png (what the camera saw before
each decision, with candidates and choice) and graph.log (the output of all nodes). Nothing is left running.

exit codes: 0 enough episodes succeeded, 1 they did not or the graph failed, 2 bad input, 130 after Ctrl-C
"""
TASKS = ("push_button", "stack_pair")
NODES = ("simulator", "arm", "observer", "policy")
CAMERA = "front"
START_TIMEOUT_S = 60.0
EPISODE_TIMEOUT_S = 75.0
PICTURE_TIMEOUT_S = 10.0
# Objects fall a few millimetres when they are laid out.
SETTLE_S = 0.4
LOG_LINES_SHOWN = 15


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `minidiffuser demo`."""
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder of the results (default: out/demo)")
    parser.add_argument("--episodes", type=int, default=6, metavar="N", help="episodes, tasks in turn (default: 6)")
    parser.add_argument(
        "--checkpoint", default="models/tabletop_small", help="trained policy (default: models/tabletop_small)"
    )
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
    demo = Demo(args.out, args.checkpoint, args.seed, args.episodes, args.speed)
    with StopRequest(lambda: print("\nstopping …", flush=True)) as stop:
        try:
            demo.perform(stop.asked)
        except ConnectionLostError as error:
            if not stop.asked():
                print(f"the graph failed: {error}\n{demo.log_tail()}")
                return 1
    if stop.asked():
        raise KeyboardInterrupt
    return demo.conclude(args.require)


@dataclass
class Demo:
    """A graph of its own, the episodes played on it and what came of them."""

    out: Path
    checkpoint: str
    seed: int
    episodes: int
    speed: float
    reports: list[RunReport] = field(default_factory=list)
    strips: list[Strip] = field(default_factory=list)
    _log: list[str] = field(default_factory=list)
    _started: float = field(default_factory=time.monotonic)

    def perform(self, stopped: Callable[[], bool]) -> None:
        """Start the graph, play all episodes, draw the contact sheet, end the graph. Raises ConnectionLostError."""
        from tqdm import tqdm

        from minidiffuser_ros.bridge.decision_pictures import DecisionPictures, PruningPictures
        from minidiffuser_ros.bridge.graph_client import GraphClient

        # Side by side with other graphs and other demos: an address and a domain of its own.
        domain = free_domain()
        specs = self._processes(domain)
        self.out.mkdir(parents=True, exist_ok=True)
        print(f"starting {', '.join(spec.name for spec in specs)}", flush=True)
        with (self.out / "graph.log").open("w", encoding="utf-8") as log_file:

            def write(line: str) -> None:
                self._log.append(line)
                log_file.write(line + "\n")
                log_file.flush()

            with (
                ProcessGroup(specs, write) as processes,
                GraphClient("demo", domain_id=domain, cancelled=lambda: stopped() or bool(processes.ended())) as graph,
            ):
                pictures, pruning = DecisionPictures(graph.node, CAMERA), PruningPictures(graph.node)
                try:
                    graph.wait_active(NODES, START_TIMEOUT_S)
                    for index in tqdm(range(self.episodes), desc="episodes", unit="episode", smoothing=0.0):
                        self._play(graph, pictures, TASKS[index % len(TASKS)], self.seed + index)
                        if (dead := processes.ended()) or stopped():
                            break
                except ConnectionLostError:
                    dead = processes.ended()
                    if dead is None:
                        raise
                if dead is not None:
                    raise ConnectionLostError(f"the node '{dead[0]}' ended with exit code {dead[1]}")
                if not stopped():
                    self._draw(pictures, pruning)

    def conclude(self, required: float) -> int:
        """Print the table, write summary.json; 0 if a fraction of at least `required` succeeded, else 1."""
        from minidiffuser_ros.evaluation.run_report import summary, table

        result = summary(self.reports, required, self.checkpoint, time.monotonic() - self._started)
        (self.out / "summary.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(f"\n{table(self.reports)}\n")
        for report in self.reports:
            if not report.success:
                print(f"failed: {report.instruction or report.task} (seed {report.seed}): {report.message}")
        print(f"{result['succeeded']} of {result['n']} succeeded, in {result['duration_s']:.0f} s")
        print(f"wrote {self.out / 'summary.json'} and {self.out / 'contact_sheet.png'}")
        return 0 if result["success"] >= required else 1

    def log_tail(self) -> str:
        """The last lines that the nodes printed."""
        return "\n".join(f"  {line}" for line in self._log[-LOG_LINES_SHOWN:])

    def _processes(self, domain: int) -> list[ProcessSpec]:
        values = {
            "checkpoint": self.checkpoint,
            "speed": str(self.speed),
            "sim_address": f"127.0.{1 + os.getpid() % 250}.2",
        }
        specs = [process_of(node) for node in plan("policy", values)]
        environment = {"ROS_DOMAIN_ID": str(domain)}
        return [replace(spec, environment={**spec.environment, **environment}) for spec in specs]

    def _play(self, graph: GraphClient, pictures: DecisionPictures, task: str, seed: int) -> None:
        """One episode from the home posture; its errors become its message, unless the graph is gone."""
        from minidiffuser_ros.bridge.graph_client import OPEN, RunOutcome
        from minidiffuser_ros.evaluation.contact_sheet import Shot, Strip
        from minidiffuser_ros.evaluation.run_report import RunReport

        started, instruction = time.monotonic(), ""
        try:
            graph.drive_gripper(OPEN)
            graph.home()
            instruction = graph.reset_simulation(task, seed)
            # The second picture after the reset: by then both cameras have seen the new layout.
            pictures.wait_picture(graph.now_ns() + int(SETTLE_S * 1e9), PICTURE_TIMEOUT_S, count=2)
            started = time.monotonic()
            deadline = started + EPISODE_TIMEOUT_S
            outcome = graph.run_policy(instruction, seed=seed, cancelled=lambda: time.monotonic() > deadline)
        except ConnectionLostError:
            raise
        except MinidiffuserError as error:
            outcome = RunOutcome(False, False, str(error), ())
        duration_s = time.monotonic() - started
        self.reports.append(
            RunReport(task, seed, instruction, outcome.success, outcome.message, duration_s, outcome.decisions)
        )
        strip = Strip(f"{instruction or task}: {outcome.message}", outcome.success)
        for record in outcome.decisions:
            if (seen := pictures.of_decision(record.stamp_ns)) is not None:
                strip.shots.append(Shot(seen.picture, seen.candidates, seen.open, record.keypose))
        strip.final = pictures.wait_picture(graph.now_ns(), PICTURE_TIMEOUT_S)
        self.strips.append(strip)

    def _draw(self, pictures: DecisionPictures, pruning: PruningPictures) -> None:
        from PIL import Image

        from minidiffuser_ros.evaluation.contact_sheet import draw_contact_sheet
        from minidiffuser_ros.geometry.transform import transform_from
        from minidiffuser_ros.perception.calibration import load_calibration

        mount = load_calibration(share_folder() / "config" / "simulation_cameras.yaml", [CAMERA])[CAMERA]
        pose = transform_from(mount.position, mount.quat_wxyz)
        draw_contact_sheet(self.strips, pictures.camera(), pose).save(self.out / "contact_sheet.png")
        if (masks := pruning.stacked()) is not None:  # of a policy whose walks are pruned
            Image.fromarray(masks).save(self.out / "pruning.png")
