"""`observer`: pictures and joint states of one moment, lifted to the observation a policy sees.

Callbacks only store messages; everything else happens when an observation is asked for.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from sensor_msgs.msg import PointCloud2

from minidiffuser_ros.arm.kinematics import BASE_FRAME, MAX_GRIPPER_WIDTH, FrankaKinematics
from minidiffuser_ros.arm.self_shape import robot_volumes
from minidiffuser_ros.bridge.camera_poses import CameraPoses
from minidiffuser_ros.bridge.camera_streams import CameraStreams
from minidiffuser_ros.bridge.camera_topics import camera_topics
from minidiffuser_ros.bridge.conversions import (
    cloud_from_points,
    fill_capture,
    header,
    refuse_capture,
    stamp_to_ns,
)
from minidiffuser_ros.bridge.diagnostics import Diagnostics, Level
from minidiffuser_ros.bridge.lifecycle import ManagedNode
from minidiffuser_ros.bridge.parameters import NodeParameters
from minidiffuser_ros.bridge.process import run_node
from minidiffuser_ros.bridge.qos import LATCHED, RELIABLE
from minidiffuser_ros.bridge.synchronizers import STAMPS, SYNCHRONIZERS, make_matcher
from minidiffuser_ros.contract.calibration import CameraPoseSettings
from minidiffuser_ros.contract.errors import ConfigurationError, ObservationError
from minidiffuser_ros.contract.observation import Observation, ObservationSpec
from minidiffuser_ros.msg import ObserverStatus
from minidiffuser_ros.perception.assembly import ObservationAssembly
from minidiffuser_ros.perception.cloud import warm_up
from minidiffuser_ros.perception.streams import MatchedSet, StreamSettings
from minidiffuser_ros.srv import Capture

JOINT_STATES = "joint_states"
STATUS_PERIOD_S = 1.0
MAX_TIMEOUT_S = 60.0
# How long a waiting capture sleeps before it looks whether the node is being stopped.
WAIT_SLICE_S = 0.2


@dataclass(frozen=True)
class ObserverSettings(CameraPoseSettings):
    """Where pictures come from and how they become points. `{camera}` in a topic stands for the camera's name."""

    color_topic: str = field(default="{camera}/color/image_raw", metadata={"description": "colour", "read_only": True})
    depth_topic: str = field(
        default="{camera}/aligned_depth_to_color/image_raw",
        metadata={"description": "depth, 16UC1 in mm or 32FC1 in m", "read_only": True},
    )
    info_topic: str = field(
        default="{camera}/color/camera_info",
        metadata={"description": "intrinsics of the colour picture", "read_only": True},
    )
    points_rate_hz: float = field(
        default=0.0,
        metadata={
            "description": "how often ~/points is published without being asked; 0: never",
            "unit": "Hz",
            "range": (0.0, 10.0),
            "read_only": True,
        },
    )
    synchronizer: str = field(
        default=STAMPS,
        metadata={
            "description": "who pairs colour and depth: this package by stamp, or ROS's message_filters",
            "choices": SYNCHRONIZERS,
            "read_only": True,
        },
    )
    streams: StreamSettings = field(default_factory=StreamSettings)
    spec: ObservationSpec = field(default_factory=ObservationSpec)


class ObserverNode(ManagedNode):
    """Serves `~/capture`, publishes `~/status`, and with each observation `~/points` and `~/surroundings`.

    The points are the observation's; the surroundings are all that was seen around the robot, for planners.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("observer", **kwargs)
        self.settings = NodeParameters(self, ObserverSettings(), read_only=True).value
        self._build_reasons: list[str] = []
        self._num_points = 0
        self._poses: CameraPoses | None = None
        self._joint_states = self.resolve_topic_name(JOINT_STATES)
        self._topics = camera_topics(self, self.settings, self.settings.spec.cameras)

    def configure(self) -> None:
        """Read the calibration, subscribe, offer the service."""
        spec = self.settings.spec
        if spec.policy_frame != BASE_FRAME:
            raise ConfigurationError(
                f"spec.policy_frame must be the arm's base {BASE_FRAME!r}, got {spec.policy_frame!r}"
            )
        self._poses, kinematics = CameraPoses(self, self.settings, spec.cameras), FrankaKinematics()
        self._assembly = ObservationAssembly(
            spec, self._topics, self._poses.mounts, kinematics.forward, robot_volumes(kinematics), MAX_GRIPPER_WIDTH
        )
        self._matcher = make_matcher(
            self.settings.synchronizer, self._assembly.groups, self._joint_states, self.settings.streams
        )
        warm_up()
        self._streams = CameraStreams(self, self._topics, self._joint_states, self._matcher)
        # One observation at a time: the kinematics are not thread-safe, and two cores are not many.
        building = MutuallyExclusiveCallbackGroup()
        self._points = self.create_publisher(PointCloud2, "~/points", RELIABLE)
        self._surroundings = self.create_publisher(PointCloud2, "~/surroundings", RELIABLE)
        self._status = self.create_publisher(ObserverStatus, "~/status", LATCHED)
        self._diagnostics = Diagnostics(self)
        self._service = self.create_service(Capture, "~/capture", self._capture, callback_group=building)
        # A steady clock: the one that stamps are held against may jump or stand still.
        self.create_timer(
            STATUS_PERIOD_S,
            self._publish_status,
            callback_group=MutuallyExclusiveCallbackGroup(),
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )
        if self.settings.points_rate_hz > 0:
            self.create_timer(1.0 / self.settings.points_rate_hz, self._publish_points, callback_group=building)
        self._publish_status()

    def cleanup(self) -> None:
        """Stop listening to TF."""
        if self._poses is not None:
            self._poses.close()

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def _capture(self, request: Capture.Request, response: Capture.Response) -> Capture.Response:
        not_before_ns, started = stamp_to_ns(request.not_before), time.perf_counter()
        try:
            match = self._await_match(not_before_ns, request.timeout_s)
            started = time.perf_counter()
            observation = self._observation(match)
        except ObservationError as error:
            return refuse_capture(response, error)
        lift_ms = (time.perf_counter() - started) * 1e3
        return fill_capture(response, observation, lift_ms)

    def _await_match(self, not_before_ns: int, timeout_s: float) -> MatchedSet:
        if not (math.isfinite(timeout_s) and 0.0 <= timeout_s <= MAX_TIMEOUT_S):
            raise ObservationError([f"timeout_s must lie between 0 and {MAX_TIMEOUT_S:.0f} s, got {timeout_s}"])
        deadline = time.monotonic() + timeout_s
        match = self._matcher.wait_match(not_before_ns, 0.0, self._now_ns)
        while match is None and (left := deadline - time.monotonic()) > 0 and not self.ended.is_set():
            match = self._matcher.wait_match(not_before_ns, min(left, WAIT_SLICE_S), self._now_ns)
        if match is None:
            reasons = self._matcher.reasons(self._now_ns(), not_before_ns)
            raise ObservationError(reasons or [f"no complete set of pictures arrived within {timeout_s:.1f} s"])
        return match

    def _observation(self, match: MatchedSet) -> Observation:
        """Lift a matched set, and publish it. Raises ObservationError with every reason why it cannot."""
        try:
            observation, surroundings = self._assembly.assemble_with_surroundings(match, self._streams.infos)
        except ObservationError as error:
            self._build_reasons = error.reasons
            raise
        self._build_reasons, self._num_points = [], len(observation.points)
        for publisher, (points, colors) in (
            (self._points, (observation.points, observation.colors)),
            (self._surroundings, surroundings),
        ):
            publisher.publish(cloud_from_points(points, colors, observation.spec.policy_frame, observation.stamp_ns))
        return observation

    def _publish_points(self) -> None:
        match = self._matcher.match()
        if match is None:
            return
        try:
            self._observation(match)
        except ObservationError as error:
            self.get_logger().warning(str(error), throttle_duration_sec=5.0)

    def _publish_status(self) -> None:
        assert self._poses is not None
        self._poses.tell()
        now_ns = self._now_ns()
        reasons = self._poses.reasons() + self._matcher.reasons(now_ns) + self._streams.reasons()
        if not reasons and (match := self._matcher.match()) is not None:
            reasons = self._assembly.problems(match, self._streams.infos)
        reasons = reasons or self._build_reasons
        message = ObserverStatus(ready=not reasons, reasons=reasons, points=self._num_points)
        message.header = header(self.settings.spec.policy_frame, now_ns)
        self._status.publish(message)
        values = {topic: f"{rate:.1f} Hz" for topic, rate in self._streams.rates_hz().items()}
        level = Level.ERROR if reasons else Level.OK
        self._diagnostics.tell(level, "; ".join(reasons) or "ready", {**values, "points": self._num_points})


def main() -> int:
    """Entry point of the node."""
    return run_node(ObserverNode)
