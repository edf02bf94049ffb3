"""`policy`: performs a sentence, one observation, decision and motion after another."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rclpy.action import CancelResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup

from minidiffuser_ros.action import RunPolicy
from minidiffuser_ros.bridge.lifecycle import ManagedNode
from minidiffuser_ros.bridge.parameters import NodeParameters
from minidiffuser_ros.bridge.process import run_node
from minidiffuser_ros.bridge.robot_graph import RobotGraph
from minidiffuser_ros.bridge.run_reporter import RunReporter, Watch
from minidiffuser_ros.bridge.telemetry import result_message
from minidiffuser_ros.bridge.waitables import ActionServer
from minidiffuser_ros.bridge.worker import Cancelled, Worker
from minidiffuser_ros.contract.errors import (
    BusyError,
    CheckpointError,
    InstructionError,
    MinidiffuserError,
    SpecMismatchError,
)
from minidiffuser_ros.contract.observation import Observation
from minidiffuser_ros.msg import PolicyTelemetry
from minidiffuser_ros.nodes.policy_requests import PolicyRequests
from minidiffuser_ros.policy.loop import DecisionLoop, Ending, RunResult, Stage, Surroundings
from minidiffuser_ros.policy.settings import PolicySettings
from minidiffuser_ros.policy.supervision import Answer
from minidiffuser_ros.srv import LoadCheckpoint

if TYPE_CHECKING:
    from minidiffuser_ros.policy.fast_path import FastPath
    from minidiffuser_ros.policy.policy import Decision

LoadPolicy = Callable[[Path, str, int], "FastPath"]


def load_policy(path: Path, device: str, threads: int) -> FastPath:
    """Load a checkpoint. torch is imported here, in the worker, while the node can already be asked for its state."""
    import torch

    from minidiffuser_ros.policy.fast_path import FastPath

    torch.set_num_threads(threads)
    return FastPath.load(path, device)


class PolicyNode(ManagedNode):
    """Action `~/run_policy`, service `~/load_checkpoint` and those of `policy_requests.py`; one run at a time.

    Publishes `keypose_goal` before a motion, `~/candidates` for each decision and `~/telemetry` after it.
    """

    def __init__(self, load: LoadPolicy = load_policy, **kwargs: Any) -> None:
        super().__init__("policy", **kwargs)
        self._load = load
        self._policy: FastPath | None = None
        self._settings = NodeParameters(self, PolicySettings(), check=self._check_settings)
        self._worker: Worker | None = None
        self._graph: RobotGraph | None = None
        self._reporter = RunReporter(self)
        group = ReentrantCallbackGroup()
        self._requests = PolicyRequests(self, self._start_own, lambda: self._worker, group)
        self.create_service(LoadCheckpoint, "~/load_checkpoint", self._on_load_checkpoint, callback_group=group)
        self._server = ActionServer(
            self, RunPolicy, "~/run_policy", self._on_run, callback_group=group, cancel_callback=_accept
        )

    # -- lifecycle ------------------------------------------------------------------------------------------------

    def configure(self) -> None:
        """Load the checkpoint and find the rest of the graph."""
        settings = self._settings.value
        if not settings.checkpoint:
            raise CheckpointError("the parameter 'checkpoint' is empty; name the folder of a trained policy")
        self._worker = Worker("policy")
        self._policy = self._worker.start(self._loading(settings.checkpoint)).result()
        self._graph = RobotGraph(self, settings.graph)
        self.get_logger().info(f"loaded {settings.checkpoint}")

    def deactivate(self) -> None:
        """Stop the run; the arm brakes with it."""
        if self._worker is not None:
            self._worker.cancel()

    def cleanup(self) -> None:
        """Free the network."""
        if self._worker is not None:
            self._worker.stop()
        if self._graph is not None:
            self._graph.close()
        self._worker = self._policy = self._graph = None

    # -- a run ----------------------------------------------------------------------------------------------------

    def _on_run(self, handle: ServerGoalHandle) -> RunPolicy.Result:
        request, feedback = handle.request, RunPolicy.Feedback()

        def on_stage(stage: Stage, index: int) -> None:
            feedback.stage, feedback.index = stage.value, index
            handle.publish_feedback(feedback)

        def on_telemetry(message: PolicyTelemetry) -> None:
            feedback.telemetry = message
            handle.publish_feedback(feedback)

        watch = Watch(on_stage, on_telemetry, lambda: bool(handle.is_cancel_requested))
        try:
            result = self._start(request.instruction, request.max_keyposes, request.seed, watch).result()
        except MinidiffuserError as error:
            result = RunResult(False, Ending.FAILED, str(error))
        cancelled = handle.is_cancel_requested and result.ending is Ending.CANCELLED
        (handle.succeed if result.success else handle.canceled if cancelled else handle.abort)()
        return result_message(result, request.instruction, self._frame)

    def _start(self, instruction: str, max_keyposes: int, seed: int, watch: Watch) -> Future[RunResult]:
        """Begin a run in the worker. Raises BusyError where there is another one or the node is not active."""
        policy, graph, worker = self._policy, self._graph, self._worker
        if not self.is_active or policy is None or graph is None or worker is None:
            raise BusyError("the policy node is not active; activate it first")
        if not instruction.strip():
            raise InstructionError("the instruction is empty; say what to do, as in 'push the red button'")
        count = max_keyposes or self._settings.value.max_keyposes

        def job(stopped: Cancelled) -> RunResult:
            self._requests.pacing.begin()
            around = self._surroundings(policy, graph, instruction, watch, stopped)
            try:
                result = DecisionLoop(around, self._settings.value.validation).run(instruction, count, seed)
            except Exception as error:  # a defect: the run is over, the node can still be asked and stopped
                self.get_logger().error(f"the run failed:\n{traceback.format_exc()}")
                result = RunResult(False, Ending.FAILED, f"{type(error).__name__}: {error}")
            self.get_logger().info(f"'{instruction}': {result.message}")
            return result

        return worker.start(job)

    def _surroundings(
        self, policy: FastPath, graph: RobotGraph, instruction: str, watch: Watch, stopped: Cancelled
    ) -> Surroundings:
        """The loop's seams, tied to the graph."""
        frame, observed_ns = policy.spec.policy_frame, [0]

        def cancelled() -> bool:
            return stopped.is_set() or watch.cancelled()

        def observe(not_before_ns: int) -> tuple[Observation, float]:
            observation, lift_ms = graph.observe(not_before_ns, cancelled)
            if differences := policy.spec.differences(observation.spec):
                raise SpecMismatchError("policy and observer do not fit: " + "; ".join(differences))
            observed_ns[0] = observation.stamp_ns
            return observation, lift_ms

        return Surroundings(
            settled_at_ns=lambda: graph.settled_at_ns(cancelled),
            observe=observe,
            decide=lambda *seen: self._decide(policy, *seen),
            approve=lambda decision: self._approved(cancelled),
            execute=lambda keypose: graph.execute(keypose, frame, observed_ns[0], cancelled),
            success_reported=graph.success_reported,
            cancelled=cancelled,
            dry_run=lambda: self._settings.value.dry_run,
            pacing=self._requests.pacing,
            on_stage=watch.on_stage,
            on_decision=self._reporter.show_candidates,
            on_goal=lambda record: self._reporter.show_goal(record, frame),
            on_record=lambda record: watch.on_telemetry(self._reporter.tell(record, instruction, frame)),
            now_ns=lambda: int(self.get_clock().now().nanoseconds),
        )

    def _decide(
        self, policy: FastPath, observation: Observation, instruction: str, seed: int, before: Observation | None
    ) -> Decision:
        """By the walk that the parameters name now."""
        decision = policy.decide(observation, instruction, seed, before, self._settings.value)
        if decision.fell_back:
            self.get_logger().info(f"the whole walk was taken after the {decision.doubt}")
        return decision

    def _approved(self, cancelled: Callable[[], bool]) -> Answer:
        settings = self._settings.value
        return self._requests.approved(settings.approval_timeout_s, cancelled) if settings.confirm else Answer.YES

    @property
    def _frame(self) -> str:
        return self._policy.spec.policy_frame if self._policy is not None else ""

    # -- services -------------------------------------------------------------------------------------------------

    def _start_own(self) -> str:
        """Begin a run of the sentence that the parameters name."""
        settings = self._settings.value
        self._start(settings.instruction, 0, settings.seed, Watch())
        return f"performing '{settings.instruction}'"

    def _on_load_checkpoint(
        self, request: LoadCheckpoint.Request, response: LoadCheckpoint.Response
    ) -> LoadCheckpoint.Response:
        try:
            if self._worker is None:
                raise BusyError("the policy node is not configured")
            self._policy = self._worker.start(self._loading(request.path)).result()
            response.success, response.message = True, f"loaded {request.path}"
        except MinidiffuserError as error:
            response.message = str(error)
        return response

    def _loading(self, checkpoint: str) -> Callable[[Cancelled], FastPath]:
        settings = self._settings.value

        def load(cancelled: Cancelled) -> FastPath:
            policy = self._load(Path(checkpoint), settings.device, settings.threads)
            policy.require(settings)
            return policy

        return load

    def _check_settings(self, settings: PolicySettings) -> None:
        """Before a change of the parameters: raises where the policy that is loaded does not have such a walk."""
        if self._policy is not None:
            self._policy.require(settings)


def _accept(handle: ServerGoalHandle) -> CancelResponse:
    return CancelResponse.ACCEPT


def main() -> int:
    """Entry point of the node."""
    return run_node(PolicyNode)
