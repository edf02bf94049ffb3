"""A user of the running graph, for programs that wait for answers: command line, demo, evaluation. No torch.

`GraphClient` owns its context, node and executor thread, so that it can be used like any other object:

    with GraphClient() as graph:
        graph.wait_active(["policy"], timeout_s=10.0)
        outcome = graph.run_policy("push the red button")
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from action_msgs.msg import GoalStatus
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from std_srvs.srv import Trigger

from minidiffuser_ros.action import Gripper, RunPolicy
from minidiffuser_ros.bridge.action_client import ActionClient
from minidiffuser_ros.bridge.calls import Cancelled, call, never, perform
from minidiffuser_ros.bridge.readiness import wait_active
from minidiffuser_ros.bridge.telemetry import record_from_message
from minidiffuser_ros.contract.errors import MotionError, UnknownTaskError
from minidiffuser_ros.policy.loop import DecisionRecord
from minidiffuser_ros.srv import ResetSimulation

ACCEPT_TIMEOUT_S = 10.0
MOTION_TIMEOUT_S = 60.0
OPEN, CLOSED = 1.0, 0.0


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended, as told by the policy node."""

    success: bool
    cancelled: bool
    message: str
    decisions: tuple[DecisionRecord, ...]


@dataclass(frozen=True)
class Progress:
    """Feedback of a run: the stage it is in, and the last finished decision, if there is one."""

    stage: str
    index: int
    finished: DecisionRecord | None


class GraphClient:
    """Calls of the graph's actions and services that return when they have ended, or when `cancelled` turns true."""

    def __init__(
        self,
        name: str = "minidiffuser",
        namespace: str = "",
        domain_id: int | None = None,
        cancelled: Cancelled = never,
    ) -> None:
        self._context = Context()
        self._context.init(domain_id=domain_id)
        self.node = Node(name, namespace=namespace, context=self._context, start_parameter_services=False)
        self._cancelled = cancelled
        self._run_policy = ActionClient(self.node, RunPolicy, "policy/run_policy")
        self._gripper = ActionClient(self.node, Gripper, "arm/gripper")
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, name="graph client", daemon=True)

    def __enter__(self) -> GraphClient:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown(timeout_sec=2.0)
        self._thread.join(2.0)
        self._run_policy.destroy()
        self._gripper.destroy()
        self.node.destroy_node()
        self._context.try_shutdown()

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()

    def now_ns(self) -> int:
        """The graph's time."""
        return int(self.node.get_clock().now().nanoseconds)

    def wait_active(self, names: Sequence[str], timeout_s: float) -> None:
        """Wait until each of these lifecycle nodes is active. Raises ConnectionLostError naming one that is not."""
        wait_active(self.node, names, timeout_s, self._cancelled)

    def run_policy(
        self,
        instruction: str,
        max_keyposes: int = 0,
        seed: int = 0,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        cancelled: Cancelled = never,
    ) -> RunOutcome:
        """Perform a sentence. When `cancelled` turns true the run is cancelled and its end awaited.

        Raises ConnectionLostError where no policy node answers or it disappears.
        """

        def on_feedback(feedback: RunPolicy.Feedback) -> None:
            # The feedback carries the last finished decision along; before the first there is none.
            finished = record_from_message(feedback.telemetry) if feedback.telemetry.instruction else None
            on_progress(Progress(feedback.stage, feedback.index, finished))

        goal = RunPolicy.Goal(instruction=instruction, max_keyposes=max_keyposes, seed=seed)
        status, result = perform(
            self._run_policy,
            "policy/run_policy",
            goal,
            ACCEPT_TIMEOUT_S,
            lambda: cancelled() or self._cancelled(),
            on_feedback,
        )
        decisions = tuple(record_from_message(message) for message in result.telemetry)
        return RunOutcome(result.success, status == GoalStatus.STATUS_CANCELED, result.message, decisions)

    def home(self) -> None:
        """Move the arm to its home posture. Raises MotionError."""
        self._trigger("arm/home", MOTION_TIMEOUT_S)

    def recover(self) -> None:
        """Make the arm usable again after a stop or a reflex. Raises MotionError."""
        self._trigger("arm/recover", MOTION_TIMEOUT_S)

    def drive_gripper(self, opening: float) -> None:
        """Open (1) or close (0) the gripper. Raises MotionError."""
        goal = Gripper.Goal(opening=opening)
        _, result = perform(self._gripper, "arm/gripper", goal, ACCEPT_TIMEOUT_S, self._cancelled)
        if not result.success:
            raise MotionError(result.message)

    def reset_simulation(self, task: str, seed: int) -> str:
        """Lay out a task in the simulation and return its instruction. Raises UnknownTaskError."""
        request = ResetSimulation.Request(task=task, variation=-1, seed=seed)
        response = self._call(ResetSimulation, "simulator/reset", request, ACCEPT_TIMEOUT_S)
        if not response.success:
            raise UnknownTaskError(response.message)
        return str(response.instruction)

    def _trigger(self, name: str, timeout_s: float) -> None:
        response = self._call(Trigger, name, Trigger.Request(), timeout_s)
        if not response.success:
            raise MotionError(response.message)

    def _call(self, kind: Any, name: str, request: Any, timeout_s: float) -> Any:
        client = self.node.create_client(kind, name)
        try:
            return call(client, request, timeout_s, self._cancelled)
        finally:
            self.node.destroy_client(client)
