"""`minidiffuser record`: a session of demonstrations through the live graph, unattended."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from minidiffuser_ros.contract.errors import ConfigurationError, ConnectionLostError

HELP = """Record demonstrations on the simulated arm unattended: the simulator's expert teleoperates it through the live
graph. Seeds that have a labelled episode are done, so the same command goes on with a session that was stopped."""
EPILOG = """To teleoperate yourself: `minidiffuser bringup record`, and a keyboard in another terminal (docs/record.md).

examples:
  minidiffuser record --out episodes --per-task 20
  minidiffuser record --out episodes --tasks push_button stack_pair --per-task 10 --seed 500"""
LOG = "session.log"
LOG_LINES_SHOWN = 20
POLL_S = 0.5
# Nobody needs this long for an episode, not even after three attempts.
SILENT_S = 300.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the subcommand."""
    parser.add_argument("--out", type=Path, required=True, help="folder of the episodes")
    parser.add_argument("--tasks", nargs="+", default=["push_button"], help="tasks, in turn (default: push_button)")
    parser.add_argument("--per-task", type=int, default=20, help="seeds per task (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="first seed; training seeds lie below 100000 (default: 0)")
    parser.add_argument("--camera-rate", type=float, default=5.0, help="rate of each camera in Hz (default: 5)")


def run(args: argparse.Namespace) -> int:
    """Record what is missing. Returns 0, or 1 where the graph failed; what was saved by then is kept."""
    from minidiffuser_ros.cli.graph import StopRequest, require_ros
    from minidiffuser_ros.simulation.tasks import TASKS

    if unknown := sorted(set(args.tasks) - set(TASKS)):
        raise ConfigurationError(f"there are no tasks {unknown}; there are {', '.join(TASKS)}")
    if args.per_task < 1 or args.seed < 0 or args.camera_rate <= 0:
        raise ConfigurationError(
            f"--per-task must be at least 1, --seed not negative and --camera-rate above 0; got {args.per_task}, "
            f"{args.seed} and {args.camera_rate:g}"
        )
    require_ros()
    with StopRequest() as stop:
        try:
            _record(args, stop.asked)
        except ConnectionLostError as error:
            print(f"the session failed: {error}\n{_log_tail(args.out / LOG)}")
            return 1
    if stop.asked():
        raise KeyboardInterrupt
    return 0


def _record(args: argparse.Namespace, stopped: Callable[[], bool]) -> None:
    """Run the graph until every seed is recorded. Raises ConnectionLostError where it ends before or is stuck."""
    from tqdm import tqdm

    from minidiffuser_ros.bringup import plan
    from minidiffuser_ros.bringup_runner import ProcessGroup, process_of
    from minidiffuser_ros.cli.graph import free_domain
    from minidiffuser_ros.contract.files import make_folder
    from minidiffuser_ros.episodes.seeds import SessionProgress, session_seeds

    wanted = set(session_seeds(args.tasks, args.seed, args.per_task))
    progress = SessionProgress(args.out)
    count = len(wanted & progress.recorded())
    if count == len(wanted):
        print(f"all {count} episodes are in {args.out} already")
        return
    environment = {"ROS_DOMAIN_ID": str(free_domain())}
    specs = [process_of(node) for node in plan("record", _values(args))]
    make_folder(args.out)
    with (
        (args.out / LOG).open("a", encoding="utf-8") as log,
        ProcessGroup(
            [replace(spec, environment={**spec.environment, **environment}) for spec in specs],
            lambda line: print(line, file=log, flush=True),
        ) as processes,
        tqdm(total=len(wanted), initial=count, unit="episode", smoothing=0.0) as bar,
    ):
        since = time.monotonic()
        while count < len(wanted) and not stopped():
            time.sleep(POLL_S)
            if (now := len(wanted & progress.recorded())) > count:
                bar.update(now - count)
                count, since = now, time.monotonic()
            elif (dead := processes.ended()) is not None:
                raise ConnectionLostError(f"the node '{dead[0]}' ended with exit code {dead[1]}")
            elif time.monotonic() - since > SILENT_S:
                raise ConnectionLostError(f"no episode was saved within {SILENT_S:g} s")
    hint = f"; check them: minidiffuser episodes check {args.out}" if count else ""
    print(f"{count} of {len(wanted)} episodes in {args.out}{hint}")


def _values(args: argparse.Namespace) -> dict[str, str]:
    """The arguments of the bring-up."""
    return {
        "operator": "scripted",
        "out": str(args.out.resolve()),
        "tasks": " ".join(args.tasks),
        "episodes": str(args.per_task),
        "seed": str(args.seed),
        "camera_rate": str(args.camera_rate),
        "sim_address": f"127.0.{1 + os.getpid() % 250}.4",
    }


def _log_tail(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return "\n".join(f"  {line}" for line in lines[-LOG_LINES_SHOWN:])
