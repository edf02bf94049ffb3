"""`operator`: records a session in the simulation unattended, with the simulator's expert at the teleoperation."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minidiffuser_ros.bridge.lifecycle import EXIT_CRASH, EXIT_USER_ERROR, ManagedNode
from minidiffuser_ros.bridge.parameters import NodeParameters
from minidiffuser_ros.bridge.process import run_node
from minidiffuser_ros.bridge.scripted_operator import OperatorSettings, ScriptedOperator
from minidiffuser_ros.bridge.worker import Cancelled, Worker
from minidiffuser_ros.contract.errors import ConfigurationError, MinidiffuserError, MotionError
from minidiffuser_ros.episodes.seeds import SessionProgress, session_seeds
from minidiffuser_ros.simulation.tasks import TASKS

ATTEMPTS = 3


@dataclass(frozen=True)
class SessionSettings:
    """Which demonstrations to record. Raises ConfigurationError for a task or numbers that cannot be."""

    root: str = field(
        default="episodes", metadata={"description": "Folder of the episodes; seeds labelled in it are done"}
    )
    tasks: tuple[str, ...] = field(
        default=("push_button",), metadata={"description": f"Tasks that take turns, of {', '.join(TASKS)}"}
    )
    episodes: int = field(default=20, metadata={"description": "Seeds a task", "range": (1, 100_000)})
    seed: int = field(default=0, metadata={"description": "The first of them", "range": (0, 2**31 - 1)})
    operator: OperatorSettings = field(default_factory=OperatorSettings)

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.tasks) - set(TASKS)):
            raise ConfigurationError(f"there are no tasks {unknown}; there are {', '.join(TASKS)}")


class OperatorNode(ManagedNode):
    """Active, it records what is missing and ends the process when nothing is."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("operator", **kwargs)
        self._settings = NodeParameters(self, SessionSettings(), read_only=True)
        self._worker: Worker | None = None

    def activate(self) -> None:
        """Begin the session."""
        self._worker = Worker("operator")
        self._worker.start(self._session)

    def deactivate(self) -> None:
        """Stop where it stands; a recording that runs is discarded."""
        if self._worker is not None:
            self._worker.stop()
        self._worker = None

    def _session(self, cancelled: Cancelled) -> None:
        settings = self._settings.value
        operator = ScriptedOperator(self, settings.operator, cancelled.is_set)
        try:
            operator.wait_ready()
            wanted = session_seeds(settings.tasks, settings.seed, settings.episodes)
            done = SessionProgress(Path(settings.root)).recorded()
            for task, seed in (each for each in wanted if each not in done):
                self._record(operator, task, seed, cancelled)
            self.end(f"all {len(wanted)} episodes are recorded", 0)
        except MinidiffuserError as error:
            if not cancelled.is_set():
                self.end(str(error), EXIT_USER_ERROR)
        except Exception:  # a defect: nobody waits for this thread
            self.get_logger().fatal(f"the session failed:\n{traceback.format_exc()}")
            self.end("the session failed", EXIT_CRASH)
        finally:
            operator.close()

    def _record(self, operator: ScriptedOperator, task: str, seed: int, cancelled: Cancelled) -> None:
        """One seed; a motion that did not end where it should is tried again, after the arm has recovered."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                recorded = operator.record(task, seed)
            except MotionError as error:
                self.get_logger().warning(f"{task}, seed {seed}: {error}; attempt {attempt} of {ATTEMPTS}")
                if attempt == ATTEMPTS or cancelled.is_set():
                    raise
                operator.recover()
            else:
                self.get_logger().info(f"{recorded.episode}: {recorded.message}")
                return


def main() -> int:
    """Run the node; returns the exit code."""
    return run_node(OperatorNode)
