"""A person at the teleoperation, played by the simulator's expert: resets, leads the arm, records, judges, goes on.

It uses what a person uses: the topics `twist_command` and `enable`, the gripper's action, the recorder's services. Only
where to go next it asks the simulator. It waits, so it belongs in a Worker's thread.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped, TwistStamped
from numpy.typing import NDArray
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from minidiffuser_ros.action import Gripper
from minidiffuser_ros.arm.kinematics import BASE_FRAME
from minidiffuser_ros.arm.reaching import ReachSettings, is_there, twist_towards
from minidiffuser_ros.bridge.action_client import ActionClient
from minidiffuser_ros.bridge.calls import Cancelled, call, perform
from minidiffuser_ros.bridge.conversions import keypose_from_message, pose_from_message, stamp_to_ns, twist_to_message
from minidiffuser_ros.bridge.qos import RELIABLE, SENSOR_DATA
from minidiffuser_ros.bridge.readiness import wait_active
from minidiffuser_ros.contract.episode import FAILURE, SUCCESS
from minidiffuser_ros.contract.errors import ConnectionLostError, MinidiffuserError, MotionError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.geometry.transform import transform_from
from minidiffuser_ros.srv import ExpertKeypose, LabelEpisode, ResetSimulation, StartRecording

NODES = ("simulator", "arm", "recorder")
SERVICES: dict[str, Any] = {
    "arm/home": Trigger,
    "arm/recover": Trigger,
    "simulator/reset": ResetSimulation,
    "simulator/expert_keypose": ExpertKeypose,
    "simulator/success": Trigger,
    "recorder/start": StartRecording,
    "recorder/stop": Trigger,
    "recorder/discard": Trigger,
    "recorder/mark_keypose": Trigger,
    "recorder/label": LabelEpisode,
}
START_TIMEOUT_S = 60.0
ANSWER_TIMEOUT_S = 10.0
MOTION_TIMEOUT_S = 60.0
GATE_TIMEOUT_S = 20.0
RECOVERY_TIMEOUT_S = 10.0
OPENING_TOLERANCE = 1e-3
CLOSE = 0.2  # of the tolerances: closer than this it need not come
ENABLE_PERIOD_S = 0.05


@dataclass(frozen=True)
class OperatorSettings:
    """How the scripted operator works."""

    operator: str = field(default="scripted", metadata={"description": "Name that is noted in the episodes"})
    pause_s: float = field(
        default=0.6,
        metadata={
            "description": "How long it holds still at a keypose and around it",
            "unit": "s",
            "range": (0.1, 10.0),
        },
    )
    closing_s: float = field(
        default=2.0,
        metadata={"description": "Time to come closer once it is there", "unit": "s", "range": (0.1, 10.0)},
    )
    layout_s: float = field(
        default=1.0, metadata={"description": "Wait after a new layout, until every camera sees it", "unit": "s"}
    )
    keypose_timeout_s: float = field(
        default=60.0, metadata={"description": "Longest way to one keypose", "unit": "s", "range": (1.0, 600.0)}
    )
    twist_rate: float = field(
        default=40.0, metadata={"description": "Rate of the commands", "unit": "Hz", "range": (10.0, 100.0)}
    )
    mark_keyposes: bool = field(
        default=False, metadata={"description": "Mark each keypose, so that none has to be found in the recording"}
    )
    reach: ReachSettings = field(default_factory=ReachSettings)


@dataclass(frozen=True)
class Recorded:
    """What came of one seed: the saved episode's folder name, and whether the task was done in it."""

    episode: str
    success: bool
    message: str


class ScriptedOperator:
    """Records one demonstration after another on a running graph. Every wait ends when `cancelled` turns true."""

    def __init__(self, node: Node, settings: OperatorSettings, cancelled: Cancelled) -> None:
        self._node, self._settings, self._cancelled = node, settings, cancelled
        self._tool: NDArray[np.float64] | None = None
        self._tool_ns = 0
        self._leading = False
        group = ReentrantCallbackGroup()
        self._twist = node.create_publisher(TwistStamped, "twist_command", RELIABLE)
        self._enable = node.create_publisher(Bool, "enable", RELIABLE)
        self._subscription = node.create_subscription(
            PoseStamped, "tcp_pose", self._on_tool, SENSOR_DATA, callback_group=group
        )
        self._gripper = ActionClient(node, Gripper, "arm/gripper", callback_group=group)
        # Made now, used later: a server drops the answer to a client that it has not found yet.
        self._clients = {name: node.create_client(kind, name, callback_group=group) for name, kind in SERVICES.items()}
        self._timer = node.create_timer(ENABLE_PERIOD_S, self._on_enable_timer, callback_group=group)

    def close(self) -> None:
        """Let go of the graph; may be called once."""
        self._node.destroy_timer(self._timer)
        self._gripper.destroy()
        self._node.destroy_subscription(self._subscription)
        for client in self._clients.values():
            self._node.destroy_client(client)

    def wait_ready(self) -> None:
        """Wait for the nodes it works with. Raises ConnectionLostError naming one that does not come up."""
        wait_active(self._node, NODES, START_TIMEOUT_S, self._cancelled)

    def record(self, task: str, seed: int) -> Recorded:
        """Lay out a task, perform it by teleoperation, save and label the episode.

        Raises MotionError where the arm did not get to a keypose, ConnectionLostError where a node is missing or the
        session was stopped; the episode is discarded then.
        """
        self._trigger("arm/home", MOTION_TIMEOUT_S)
        self._drive_gripper(1.0)
        layout = ResetSimulation.Request(task=task, variation=-1, seed=seed)
        instruction = self._checked("simulator/reset", layout).instruction
        self._wait(self._settings.layout_s)
        episode = self._start(task, str(instruction), seed)
        try:
            self._perform()
            self._wait(self._settings.pause_s)
            verdict = self._call("simulator/success", Trigger.Request())
        except MinidiffuserError:
            # Also when the session is being stopped: half an episode is none.
            call(self._clients["recorder/discard"], Trigger.Request(), ANSWER_TIMEOUT_S)
            raise
        self._trigger("recorder/stop", MOTION_TIMEOUT_S)
        outcome = SUCCESS if verdict.success else FAILURE
        self._checked("recorder/label", LabelEpisode.Request(episode=episode, outcome=outcome))
        return Recorded(episode, bool(verdict.success), str(verdict.message))

    def recover(self) -> None:
        """Make the arm usable again after a motion that failed. Raises MotionError, ConnectionLostError."""
        deadline = time.monotonic() + RECOVERY_TIMEOUT_S
        while True:
            try:
                return self._trigger("arm/recover", MOTION_TIMEOUT_S)
            except MotionError:  # as while it still brakes
                if time.monotonic() > deadline:
                    raise
                self._wait(0.5)

    def _start(self, task: str, instruction: str, seed: int) -> str:
        """Begin the episode as soon as the recorder finds every topic alive."""
        request = StartRecording.Request(
            task=task, instruction=instruction, operator_name=self._settings.operator, variation=-1, seed=seed
        )
        deadline = time.monotonic() + GATE_TIMEOUT_S
        while not (answer := self._call("recorder/start", request)).success:
            if time.monotonic() > deadline:
                raise ConnectionLostError(f"the recorder does not start: {answer.message}")
            self._wait(0.5)
        return str(answer.episode)

    def _perform(self) -> None:
        opening = 1.0
        self._wait(self._settings.pause_s)
        while (keypose := self._next_keypose()) is not None:
            self._lead_to(keypose)
            if abs(keypose.opening - opening) > OPENING_TOLERANCE:
                self._drive_gripper(keypose.opening)
                opening = keypose.opening
            self._wait(self._settings.pause_s)
            if self._settings.mark_keyposes:
                self._trigger("recorder/mark_keypose", ANSWER_TIMEOUT_S)

    def _next_keypose(self) -> Keypose | None:
        answer = self._checked("simulator/expert_keypose", ExpertKeypose.Request())
        return None if answer.finished else keypose_from_message(answer.keypose)

    def _lead_to(self, keypose: Keypose) -> None:
        """Send twists until the tool is at the keypose, then come as close as a little time allows.

        Raises MotionError after the timeout.
        """
        settings, period_s = self._settings, 1.0 / self._settings.twist_rate
        deadline = time.monotonic() + settings.keypose_timeout_s
        there_since: float | None = None
        self._leading = True
        try:
            while there_since is None or time.monotonic() - there_since < settings.closing_s:
                if time.monotonic() > deadline:
                    raise MotionError(f"the tool did not reach a keypose within {settings.keypose_timeout_s:g} s")
                tool = self._fresh_tool()
                if is_there(tool, keypose, settings.reach, CLOSE):
                    break
                if not is_there(tool, keypose, settings.reach):
                    there_since = None
                elif there_since is None:
                    there_since = time.monotonic()
                self._send(twist_towards(tool, keypose, settings.reach))
                self._wait(period_s)
        finally:
            self._send(np.zeros(6))
            self._leading = False

    def _fresh_tool(self) -> NDArray[np.float64]:
        """`T_base_tool` [4, 4], not older than half a second. Raises ConnectionLostError."""
        age_s = 1e-9 * (int(self._node.get_clock().now().nanoseconds) - self._tool_ns)
        if self._tool is None or age_s > 0.5:
            raise ConnectionLostError("nothing fresh arrives on tcp_pose; is the arm node running?")
        return self._tool

    def _send(self, twist: NDArray[np.float64]) -> None:
        self._twist.publish(twist_to_message(twist, BASE_FRAME, int(self._node.get_clock().now().nanoseconds)))

    def _drive_gripper(self, opening: float) -> None:
        _, result = perform(
            self._gripper, "arm/gripper", Gripper.Goal(opening=opening), ANSWER_TIMEOUT_S, self._cancelled
        )
        if not result.success:
            raise MotionError(result.message)

    def _on_tool(self, message: PoseStamped) -> None:
        self._tool, self._tool_ns = transform_from(*pose_from_message(message.pose)), stamp_to_ns(message.header.stamp)

    def _on_enable_timer(self) -> None:
        self._enable.publish(Bool(data=self._leading))

    def _trigger(self, name: str, timeout_s: float) -> None:
        self._checked(name, Trigger.Request(), timeout_s)

    def _checked(self, name: str, request: Any, timeout_s: float = ANSWER_TIMEOUT_S) -> Any:
        """The answer of a service that succeeded. Raises MotionError with its sentence where it did not."""
        answer = self._call(name, request, timeout_s)
        if not answer.success:
            raise MotionError(f"{name}: {answer.message}")
        return answer

    def _call(self, name: str, request: Any, timeout_s: float = ANSWER_TIMEOUT_S) -> Any:
        return call(self._clients[name], request, timeout_s, self._cancelled)

    def _wait(self, seconds: float) -> None:
        """Sleep in slices. Raises ConnectionLostError when the session is stopped."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if self._cancelled():
                raise ConnectionLostError("the session was stopped")
            time.sleep(min(left, 0.05))
