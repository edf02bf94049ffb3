"""A simulated arm in a process of its own, and a node that asks the arm node and remembers what it says."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped, TwistStamped
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from spinning import eventually
from std_msgs.msg import Bool

from minidiffuser_ros.action import ExecuteKeypose, Gripper
from minidiffuser_ros.arm.kinematics import JOINT_NAMES
from minidiffuser_ros.bridge.action_client import ActionClient
from minidiffuser_ros.bridge.conversions import joint_positions, keypose_to_message, twist_to_message
from minidiffuser_ros.bridge.qos import LATCHED, RELIABLE, SENSOR_DATA
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.geometry.rotation import POINTING_DOWN_WXYZ
from minidiffuser_ros.msg import ArmStatus

SERVE = """
import sys, time
from minidiffuser_ros.simulation.protocol import ServedWorld
world = ServedWorld(sys.argv[1])
print("serving", flush=True)
while True:
    time.sleep(1.0)
"""


class Served:
    """A simulated arm in a process of its own, that can be killed and started again at its address."""

    def __init__(self, host: int) -> None:
        pid = os.getpid()
        self.address = f"127.{200 + host}.{pid // 250 % 250}.{1 + pid % 250}"
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", SERVE, self.address], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "serving\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Client(Node):
    """Asks the arm, and remembers what it says."""

    def __init__(self, context: Context) -> None:
        super().__init__("client", context=context)
        self.states: list[JointState] = []
        self.poses: list[PoseStamped] = []
        self.statuses: list[ArmStatus] = []
        self.phases: list[str] = []
        self.create_subscription(JointState, "joint_states", self.states.append, SENSOR_DATA)
        self.create_subscription(PoseStamped, "tcp_pose", self.poses.append, SENSOR_DATA)
        self.create_subscription(ArmStatus, "arm/status", self.statuses.append, LATCHED)
        self.targets: list[JointState] = []
        self.create_subscription(JointState, "gripper_target", self.targets.append, SENSOR_DATA)
        self.enable = self.create_publisher(Bool, "enable", RELIABLE)
        self.twist = self.create_publisher(TwistStamped, "twist_command", RELIABLE)
        self.execute = ActionClient(self, ExecuteKeypose, "arm/execute_keypose")
        self.gripper = ActionClient(self, Gripper, "arm/gripper")

    def send(self, x: float, y: float, z: float, opening: float = 1.0, frame: str = "fr3_link0") -> Any:
        """Goal handle of an accepted keypose goal."""
        assert self.execute.wait_for_server(10.0)
        keypose = Keypose(np.array([x, y, z]), np.array(POINTING_DOWN_WXYZ), opening)
        goal = ExecuteKeypose.Goal(keypose=keypose_to_message(keypose, frame, 0))
        handle = finished(self.execute.send_goal_async(goal, lambda f: self.phases.append(f.feedback.phase)))
        assert handle.accepted
        return handle

    def push(self, twist: Any, frame: str = "", enable: bool = True) -> None:
        """One twist [6] and one heartbeat of the deadman."""
        if enable:
            self.enable.publish(Bool(data=True))
        self.twist.publish(twist_to_message(twist, frame, 0))

    def call(self, kind: Any, name: str, request: Any = None) -> Any:
        client = self.create_client(kind, f"arm/{name}")
        assert client.wait_for_service(10.0)
        return finished(client.call_async(request or kind.Request()))

    def set_dry_run(self, value: bool) -> None:
        request = SetParameters.Request(parameters=[Parameter("dry_run", value=value).to_parameter_msg()])
        assert self.call(SetParameters, "set_parameters", request).results[0].successful

    def joints(self) -> np.ndarray:
        count = len(self.states)
        eventually(lambda: len(self.states) > count + 1)
        return joint_positions(self.states[-1], JOINT_NAMES)

    def becomes(self, state: int) -> ArmStatus:
        return eventually(lambda: self.statuses and self.statuses[-1].state == state and self.statuses[-1], 20.0)


def finished(future: Any, timeout_s: float = 15.0) -> Any:
    eventually(future.done, timeout_s)
    return future.result()


def outcome(handle: Any) -> tuple[int, Any]:
    answer = finished(handle.get_result_async())
    return answer.status, answer.result
