"""Tells the graph about each decision of a run: candidates, the goal that is sent, and how long everything took."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import Image
from visualization_msgs.msg import MarkerArray

from minidiffuser_ros.bridge.conversions import candidate_markers, image_from_color, keypose_to_message
from minidiffuser_ros.bridge.qos import RELIABLE
from minidiffuser_ros.bridge.telemetry import telemetry_message
from minidiffuser_ros.contract.observation import Observation
from minidiffuser_ros.msg import Keypose as KeyposeMessage
from minidiffuser_ros.msg import PolicyTelemetry
from minidiffuser_ros.policy.loop import DecisionRecord, Stage
from minidiffuser_ros.pruning.picture import MaskRow, draw_masks

if TYPE_CHECKING:
    from minidiffuser_ros.policy.policy import Decision


@dataclass(frozen=True)
class Watch:
    """Who follows a run, and may end it."""

    on_stage: Callable[[Stage, int], None] = lambda stage, index: None
    on_telemetry: Callable[[PolicyTelemetry], None] = lambda message: None
    cancelled: Callable[[], bool] = lambda: False


class RunReporter:
    """Publishes `keypose_goal`, `~/candidates`, `~/telemetry` and, for who looks, `~/pruning` on a node."""

    def __init__(self, node: Node) -> None:
        self._goal = node.create_publisher(KeyposeMessage, "keypose_goal", RELIABLE)
        self._candidates = node.create_publisher(MarkerArray, "~/candidates", RELIABLE)
        self._telemetry = node.create_publisher(PolicyTelemetry, "~/telemetry", RELIABLE)
        self._pruning = node.create_publisher(Image, "~/pruning", RELIABLE)

    def show_candidates(self, record: DecisionRecord, decision: Decision, observation: Observation) -> None:
        """The candidates of a decision as markers, stamped with its observation; what its walk reused as a picture."""
        frame = observation.spec.policy_frame
        markers = candidate_markers(decision.candidate_keyposes, decision.keypose, frame, observation.stamp_ns)
        self._candidates.publish(markers)
        if decision.mask is not None and self._pruning.get_subscription_count():
            row = MaskRow(f"decision {record.index + 1}", decision.mask, decision.branches, decision.doubt)
            picture = np.asarray(draw_masks([row]))
            self._pruning.publish(image_from_color(picture, stamp_ns=observation.stamp_ns))

    def show_goal(self, record: DecisionRecord, frame: str) -> None:
        """The keypose that passed the checks and is about to be sent."""
        self._goal.publish(keypose_to_message(record.keypose, frame, record.stamp_ns))

    def tell(self, record: DecisionRecord, instruction: str, frame: str) -> PolicyTelemetry:
        """Publish the telemetry of a finished decision, and return it."""
        message = telemetry_message(record, instruction, frame)
        self._telemetry.publish(message)
        return message
