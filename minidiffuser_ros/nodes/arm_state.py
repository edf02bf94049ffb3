"""What the arm node publishes with every reading of the arm, all of it under one stamp."""

from __future__ import annotations

from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from sensor_msgs.msg import JointState

from minidiffuser_ros.arm.kinematics import BASE_FRAME, JOINT_NAMES
from minidiffuser_ros.arm.protocol import ArmState
from minidiffuser_ros.bridge.conversions import joint_state, stamped_pose
from minidiffuser_ros.bridge.qos import SENSOR_DATA
from minidiffuser_ros.geometry.transform import pose_of

JOINT_STATE_NAMES = (*JOINT_NAMES, "fr3_finger_joint1", "fr3_finger_joint2")
GRIPPER_NAME = "fr3_gripper"


class StatePublisher:
    """`joint_states`, `tcp_pose` and `gripper_target`."""

    def __init__(self, node: Node) -> None:
        self._joints = node.create_publisher(JointState, "joint_states", SENSOR_DATA)
        self._tool = node.create_publisher(PoseStamped, "tcp_pose", SENSOR_DATA)
        self._gripper = node.create_publisher(JointState, "gripper_target", SENSOR_DATA)
        self._last = 0, 0.0  # stamp in ns and position of a finger

    def publish(self, state: ArmState, opening_asked: float | None, stamp_ns: int) -> None:
        """One reading; `opening_asked` [0, 1] of the gripper, None before its first command."""
        finger = 0.5 * state.width
        # The hand tells no velocity: from one reading to the next.
        elapsed_s = 1e-9 * (stamp_ns - self._last[0])
        speed = (finger - self._last[1]) / elapsed_s if 0.0 < elapsed_s < 1.0 else 0.0
        self._last = stamp_ns, finger
        positions, velocities = [*state.joints, finger, finger], [*state.velocities, speed, speed]
        self._joints.publish(joint_state(JOINT_STATE_NAMES, positions, stamp_ns, velocities=velocities))
        self._tool.publish(stamped_pose(*pose_of(state.tool), BASE_FRAME, stamp_ns))
        target = state.opening if opening_asked is None else opening_asked
        self._gripper.publish(joint_state([GRIPPER_NAME], [target], stamp_ns))
