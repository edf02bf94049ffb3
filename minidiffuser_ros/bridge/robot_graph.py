"""What a policy touches in the graph: the observer, the arm, and whoever judges the task. For threads that may wait."""

from __future__ import annotations

import time

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from std_srvs.srv import Trigger

from minidiffuser_ros.action import ExecuteKeypose
from minidiffuser_ros.bridge.action_client import ActionClient
from minidiffuser_ros.bridge.calls import Cancelled, call, never, perform
from minidiffuser_ros.bridge.conversions import keypose_to_message, observation_from_capture, stamp_from_ns, stamp_to_ns
from minidiffuser_ros.bridge.qos import LATCHED, subscription_events
from minidiffuser_ros.contract.errors import ConnectionLostError, GoalRejectedError, MotionError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.contract.observation import Observation
from minidiffuser_ros.msg import ArmStatus
from minidiffuser_ros.policy.settings import GraphSettings
from minidiffuser_ros.srv import Capture

OBSERVE, EXECUTE, ARM_STATUS = "observer/capture", "arm/execute_keypose", "arm/status"
ACCEPT_TIMEOUT_S = 5.0
# The observer answers at its own timeout; allow for the way there and back on a busy machine.
ANSWER_MARGIN_S = 5.0
POLL_S = 0.02


class RobotGraph:
    """Clients of the observer, the arm and the judge of the task, on one node."""

    def __init__(self, node: Node, settings: GraphSettings) -> None:
        self._settings = settings
        self._node = node
        self._status: ArmStatus | None = None
        self._settled_ns = 0
        group = ReentrantCallbackGroup()
        self._capture = node.create_client(Capture, OBSERVE, callback_group=group)
        self._execute = ActionClient(node, ExecuteKeypose, EXECUTE, callback_group=group)
        self._success = None
        if settings.success_service:
            self._success = node.create_client(Trigger, settings.success_service, callback_group=group)
        self._subscription = node.create_subscription(
            ArmStatus,
            ARM_STATUS,
            self._on_status,
            LATCHED,
            callback_group=group,
            event_callbacks=subscription_events(node, ARM_STATUS),
        )

    def close(self) -> None:
        """Let go of every client; may be called once."""
        self._execute.destroy()
        self._node.destroy_client(self._capture)
        if self._success is not None:
            self._node.destroy_client(self._success)
        self._node.destroy_subscription(self._subscription)

    def settled_at_ns(self, cancelled: Cancelled = never) -> int:
        """When the arm came to rest, once it is idle.

        Raises MotionError if it is stopped or in error, ConnectionLostError if it does not become idle in time.
        """
        deadline = time.monotonic() + self._settings.idle_timeout_s
        while (status := self._status) is None or status.state != ArmStatus.IDLE:
            if status is not None and status.state in (ArmStatus.STOPPED, ArmStatus.ERROR):
                raise MotionError(f"the arm does not accept goals: {status.message}")
            if time.monotonic() > deadline or cancelled():
                state = f"its status is '{status.message}'" if status else f"nothing has arrived on {ARM_STATUS}"
                raise ConnectionLostError(f"the arm is not ready: {state}")
            time.sleep(POLL_S)
        return max(stamp_to_ns(status.settled_at), self._settled_ns)

    def observe(self, not_before_ns: int, cancelled: Cancelled = never) -> tuple[Observation, float]:
        """An observation not older than a stamp, and the time its lifting took in milliseconds.

        Raises ObservationError with the observer's reasons, ConnectionLostError if it does not answer.
        """
        timeout_s = self._settings.capture_timeout_s
        request = Capture.Request(not_before=stamp_from_ns(not_before_ns), timeout_s=timeout_s)
        response = call(self._capture, request, timeout_s + ANSWER_MARGIN_S, cancelled)
        return observation_from_capture(response), float(response.lift_ms)

    def execute(self, keypose: Keypose, frame: str, stamp_ns: int, cancelled: Cancelled = never) -> None:
        """Move there and return after the verified arrival; stops the arm when `cancelled` turns true.

        Raises GoalRejectedError before anything moved, MotionError after, ConnectionLostError if the arm is gone.
        """
        goal = ExecuteKeypose.Goal(keypose=keypose_to_message(keypose, frame, stamp_ns))
        _, result = perform(self._execute, EXECUTE, goal, ACCEPT_TIMEOUT_S, cancelled)
        self._settled_ns = max(self._settled_ns, stamp_to_ns(result.settled_at))
        if result.success:
            return
        # A goal that was refused never took any time.
        raise MotionError(result.message) if result.duration_s > 0.0 else GoalRejectedError(result.message)

    def success_reported(self) -> bool | None:
        """What the judge says, None where there is none."""
        if self._success is None or not self._success.service_is_ready():
            return None
        return bool(call(self._success, Trigger.Request(), ANSWER_MARGIN_S).success)

    def _on_status(self, message: ArmStatus) -> None:
        self._status = message
