"""Scenes of the simulated table, played through a whole graph of its own: what the demo shows and evaluation counts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from minidiffuser_ros.bringup import plan
from minidiffuser_ros.bringup_runner import ProcessGroup, ProcessSpec, process_of
from minidiffuser_ros.cli.graph import free_domain
from minidiffuser_ros.contract.errors import ConnectionLostError, MinidiffuserError, MotionError
from minidiffuser_ros.contract.installation import share_folder

if TYPE_CHECKING:
    from PIL import Image

    from minidiffuser_ros.bridge.graph_client import RunOutcome
    from minidiffuser_ros.evaluation.contact_sheet import Strip
    from minidiffuser_ros.evaluation.run_report import RunReport

NODES = ("simulator", "arm", "observer", "policy")
CAMERA = "front"
START_TIMEOUT_S = 60.0
KEYPOSE_TIMEOUT_S = 12.0  # a decision and its motion, on a busy machine
PICTURE_TIMEOUT_S = 10.0
# Objects fall a few millimetres when they are laid out.
SETTLE_S = 0.4
LOG_LINES_SHOWN = 15


@dataclass(frozen=True)
class LiveRun:
    """One scene: what came of it, and the pictures of its decisions."""

    report: RunReport
    strip: Strip


@dataclass
class LiveTable:
    """The nodes of `policy.launch.py` on the simulated arm, in a domain and on an address of their own, as a context.

    log: file that takes what the nodes print. stopped: says whether whoever waits has given up. Every method raises
    ConnectionLostError where a node has ended or does not answer.
    """

    checkpoint: str
    speed: float
    log: Path
    stopped: Callable[[], bool] = lambda: False
    _lines: list[str] = field(default_factory=list)

    def processes(self, domain: int) -> list[ProcessSpec]:
        """What is started. Raises ConfigurationError for values that cannot be."""
        values = {
            "checkpoint": self.checkpoint,
            "speed": str(self.speed),
            "sim_address": f"127.0.{1 + os.getpid() % 250}.2",
        }
        specs = [process_of(node) for node in plan("policy", values)]
        environment = {"ROS_DOMAIN_ID": str(domain)}
        return [replace(spec, environment={**spec.environment, **environment}) for spec in specs]

    def __enter__(self) -> LiveTable:
        from contextlib import ExitStack

        from minidiffuser_ros.bridge.decision_pictures import DecisionPictures, PruningPictures
        from minidiffuser_ros.bridge.graph_client import GraphClient

        domain = free_domain()
        specs = self.processes(domain)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        print(f"starting {', '.join(spec.name for spec in specs)}", flush=True)
        with ExitStack() as stack:
            self._file = stack.enter_context(self.log.open("w", encoding="utf-8"))
            self._group = stack.enter_context(ProcessGroup(specs, self._write))
            self._graph = stack.enter_context(GraphClient("table", domain_id=domain, cancelled=self._given_up))
            self._pictures = DecisionPictures(self._graph.node, CAMERA)
            self._masks = PruningPictures(self._graph.node)
            self._wait_for_nodes()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def play(self, task: str, seed: int) -> LiveRun:
        """One scene from the home posture; what goes wrong in it becomes its message, unless the graph is gone."""
        from minidiffuser_ros.bridge.graph_client import RunOutcome
        from minidiffuser_ros.evaluation.run_report import RunReport
        from minidiffuser_ros.simulation.tasks import make_task

        started, instruction, keyposes = time.monotonic(), "", make_task(task).max_keyposes
        try:
            self._clear()
            instruction = self._graph.reset_simulation(task, seed)
            # The second picture after the reset: by then both cameras have seen the new layout.
            self._pictures.wait_picture(self._graph.now_ns() + int(SETTLE_S * 1e9), PICTURE_TIMEOUT_S, count=2)
            started = time.monotonic()
            deadline = started + KEYPOSE_TIMEOUT_S * keyposes
            outcome = self._graph.run_policy(instruction, keyposes, seed, cancelled=lambda: time.monotonic() > deadline)
        except ConnectionLostError as error:
            raise self._ended() or error from None
        except MinidiffuserError as error:
            outcome = RunOutcome(False, False, str(error), ())
        if (ended := self._ended()) is not None:
            raise ended
        seconds = time.monotonic() - started
        report = RunReport(task, seed, instruction, outcome.success, outcome.message, seconds, outcome.decisions)
        return LiveRun(report, self._strip(instruction or task, outcome))

    def draw(self, strips: Sequence[Strip]) -> Image.Image:
        """The contact sheet of some runs."""
        from minidiffuser_ros.evaluation.contact_sheet import draw_contact_sheet
        from minidiffuser_ros.geometry.transform import transform_from
        from minidiffuser_ros.perception.calibration import load_calibration

        mount = load_calibration(share_folder() / "config" / "simulation_cameras.yaml", [CAMERA])[CAMERA]
        pose = transform_from(mount.position, mount.quat_wxyz)
        return draw_contact_sheet(strips, self._pictures.camera(), pose)

    def draw_masks(self) -> Image.Image | None:
        """What the decisions reused; None where the policy's walks are not pruned."""
        from PIL import Image

        masks = self._masks.stacked()
        return None if masks is None else Image.fromarray(masks)

    def log_tail(self) -> str:
        """The last lines that the nodes printed."""
        return "\n".join(f"  {line}" for line in self._lines[-LOG_LINES_SHOWN:])

    def _clear(self) -> None:
        """Let go of what the last scene left in the hand, and go home; without room to open, the other way round."""
        from minidiffuser_ros.bridge.graph_client import OPEN

        try:
            self._graph.drive_gripper(OPEN)
        except MotionError:
            self._go_home()
            self._graph.drive_gripper(OPEN)
        else:
            self._go_home()

    def _go_home(self) -> None:
        """From wherever the last scene left the hand: between things it may get stuck once, and comes out backwards."""
        try:
            self._graph.home()
        except MotionError:
            self._graph.recover()
            self._graph.home()

    def _strip(self, title: str, outcome: RunOutcome) -> Strip:
        from minidiffuser_ros.evaluation.contact_sheet import Shot, Strip

        strip = Strip(f"{title}: {outcome.message}", outcome.success)
        for record in outcome.decisions:
            if (seen := self._pictures.of_decision(record.stamp_ns)) is not None:
                strip.shots.append(Shot(seen.picture, seen.candidates, seen.open, record.keypose))
        strip.final = self._pictures.wait_picture(self._graph.now_ns(), PICTURE_TIMEOUT_S)
        return strip

    def _wait_for_nodes(self) -> None:
        try:
            self._graph.wait_active(NODES, START_TIMEOUT_S)
        except ConnectionLostError as error:
            raise self._ended() or error from None

    def _given_up(self) -> bool:
        return self.stopped() or bool(self._group.ended())

    def _ended(self) -> ConnectionLostError | None:
        """The first node that is no more, said; None where all run."""
        dead = self._group.ended()
        return None if dead is None else ConnectionLostError(f"the node '{dead[0]}' ended with exit code {dead[1]}")

    def _write(self, line: str) -> None:
        self._lines.append(line)
        self._file.write(line + "\n")
        self._file.flush()
