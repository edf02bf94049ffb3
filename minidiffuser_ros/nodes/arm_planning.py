"""The arm node's planner: it hears of what the observer sees, and shows how a goal would be reached."""

from __future__ import annotations

import numpy as np
from nav_msgs.msg import Path
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2

from minidiffuser_ros.arm.cloud_planner import CloudPlanner
from minidiffuser_ros.arm.envelope import SafetyEnvelope
from minidiffuser_ros.arm.executor import KeyposeExecutor
from minidiffuser_ros.arm.kinematics import BASE_FRAME, JOINT_NAMES, FrankaKinematics
from minidiffuser_ros.arm.outcome import codes_of_error
from minidiffuser_ros.arm.preview import preview
from minidiffuser_ros.arm.route import RouteChoice
from minidiffuser_ros.arm.settings import ArmSettings
from minidiffuser_ros.bridge.conversions import points_from_cloud, stamp_to_ns
from minidiffuser_ros.bridge.motions import goal_from_message, tool_path_to_message, trajectory_to_message
from minidiffuser_ros.bridge.qos import LATCHED, SENSOR_DATA
from minidiffuser_ros.contract.errors import MessageError, MinidiffuserError, MotionError
from minidiffuser_ros.srv import CheckKeypose


class PlanningSide:
    """Subscribes to the cloud, makes the routes of the executor, and answers `~/check_keypose`; plans after `start`."""

    def __init__(self, node: Node, settings: ArmSettings) -> None:
        # Once for all: what is destroyed while the node spins takes the executor down with it.
        self._node, self._settings = node, settings
        self._planner: CloudPlanner | None = None
        self._preview = node.create_publisher(Path, "~/preview", LATCHED)
        if settings.planner:
            group = MutuallyExclusiveCallbackGroup()
            node.create_subscription(
                PointCloud2, settings.cloud_topic, self._on_cloud, SENSOR_DATA, callback_group=group
            )

    def start(self) -> None:
        """Make the planner, which takes a second, where there is to be one."""
        s = self._settings
        self._planner = CloudPlanner(s.limits, s.planning, s.collision, s.cloud) if s.planner else None

    def routes(self, envelope: SafetyEnvelope) -> RouteChoice:
        """The ways that goals may go."""
        return RouteChoice(envelope, self._planner, self._settings.cloud.avoid_cloud)

    def check(
        self, goals: KeyposeExecutor, speed: float, request: CheckKeypose.Request, response: CheckKeypose.Response
    ) -> CheckKeypose.Response:
        """Every reason against a goal now; without one, how it would be reached, also on `~/preview`."""
        response.codes = []
        try:
            goal = goal_from_message(request.keypose)
            route, state = goals.route(goal, speed)
        except MinidiffuserError as error:
            response.success, response.message, response.codes = False, str(error), list(codes_of_error(error))
            self._show(np.empty((0, 4, 4)))
            return response
        response.success, response.way = True, route.way
        response.message = f"the goal would be accepted, its way is {route.way}"
        if self._planner is None:
            return response
        try:
            seen = preview(route, state, self._planner, speed, self._settings.execution.approach_speed)
        except MotionError as error:
            response.message += f", but it cannot be shown: {error}"
            return response
        response.duration_s = seen.duration_s
        now_ns = int(self._node.get_clock().now().nanoseconds)
        response.path = trajectory_to_message(
            JOINT_NAMES, seen.times_s, seen.joints, seen.velocities, BASE_FRAME, now_ns
        )
        kinematics = FrankaKinematics()  # services answer at the same time
        self._show(np.array([kinematics.forward(joints) for joints in seen.joints]))
        return response

    def close(self) -> None:
        """Let go of the planner."""
        self._planner = None

    def _show(self, tools: np.ndarray) -> None:
        self._preview.publish(tool_path_to_message(tools, BASE_FRAME, int(self._node.get_clock().now().nanoseconds)))

    def _on_cloud(self, message: PointCloud2) -> None:
        planner, frame = self._planner, message.header.frame_id
        if planner is None:
            return
        if frame != BASE_FRAME:
            text = f"clouds on {self._settings.cloud_topic} are given in '{frame}', expected '{BASE_FRAME}': ignored"
            self._node.get_logger().warning(text, throttle_duration_sec=10.0)
            return
        try:
            points, _ = points_from_cloud(message)
        except MessageError as error:
            self._node.get_logger().warning(str(error), throttle_duration_sec=10.0)
            return
        age_s = 1e-9 * (self._node.get_clock().now().nanoseconds - stamp_to_ns(message.header.stamp))
        planner.show(points, max(0.0, age_s))
