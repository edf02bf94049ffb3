"""What every scene shares: names, cameras, colours, and the builder that a task adds its objects to.

A scene is franky-sim's FR3 with its hand in a lab, and the objects of one task. It serves two ways: behind the Franka
protocol (franky-sim steps it) and stepped directly.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET

import mujoco
import numpy as np
from franky_sim.mujoco_simulator import MujocoSimulator

from minidiffuser_ros.arm.kinematics import BASE_FRAME, HOME_JOINTS, TCP_OFFSET, TOOL_FRAME
from minidiffuser_ros.contract.observation import CameraMount
from minidiffuser_ros.geometry.camera import PinholeCamera
from minidiffuser_ros.geometry.rotation import matrix_from_quat, quat_from_matrix
from minidiffuser_ros.geometry.transform import look_at
from minidiffuser_ros.simulation.lab import FLOOR_HEIGHT, add_distractors, add_lab
from minidiffuser_ros.simulation.parts import Color, numbers

PREFIX = "robot0_"
HAND_BODY = PREFIX + "hand"
TOOL_SITE = "tcp"

# 424x240 is a native mode of the RealSense D4xx family; 42 degrees is its colour camera's vertical field of view.
CAMERA = PinholeCamera.from_fov(424, 240, 42.0)

COLORS: dict[str, Color] = {
    "red": (0.85, 0.08, 0.08),
    "green": (0.08, 0.62, 0.16),
    "blue": (0.10, 0.22, 0.88),
    "yellow": (0.93, 0.82, 0.10),
    "purple": (0.55, 0.14, 0.70),
    "orange": (0.95, 0.45, 0.05),
    "cyan": (0.10, 0.75, 0.80),
    "pink": (0.95, 0.50, 0.68),
    "white": (0.92, 0.92, 0.90),
    "black": (0.06, 0.06, 0.07),
}


def _mount(
    name: str,
    parent_frame: str,
    position: tuple[float, float, float],
    target: tuple[float, float, float],
    up: tuple[float, float, float],
) -> CameraMount:
    quat = quat_from_matrix(look_at(position, target, up)[:3, :3])
    return CameraMount(name, parent_frame, position, tuple(float(v) for v in quat))  # type: ignore[arg-type]


CAMERA_MOUNTS: dict[str, CameraMount] = {
    "front": _mount("front", BASE_FRAME, (1.10, 0.0, 0.56), (0.44, 0.0, 0.08), (0.0, 0.0, 1.0)),
    # On the front of the hand, tilted forward so that at home it sees the middle of the table.
    "wrist": _mount("wrist", TOOL_FRAME, (0.075, 0.0, -0.065), (0.115, 0.0, 0.20), (-1.0, 0.0, 0.0)),
}


class SceneBuilder:
    """The robot in its lab; tasks add what lies on the table.

    Every object begins parked, behind the wall at the back of the lab, and a reset puts it there again.
    """

    def __init__(self, simulator: MujocoSimulator | None = None) -> None:
        """Into a simulator of franky-sim's that has no robot yet, by default a new one."""
        self.simulator = simulator or MujocoSimulator()
        self.simulator.add_robot(initial_q=HOME_JOINTS, initial_hand_width=0.08)
        self._parked = 0
        add_lab(self.simulator.scene)
        add_distractors(self)
        _add_cameras(self.simulator.worldbody)

    def fixture(self, name: str) -> ET.Element:
        """A body that stands where a reset puts it, whatever pushes; what it carries may have joints."""
        return ET.SubElement(
            self.simulator.worldbody, "body", name=name, mocap="true", pos=numbers(*self._next_place())
        )

    def movable(self, name: str) -> ET.Element:
        """A body that moves freely."""
        body = ET.SubElement(self.simulator.worldbody, "body", name=name, pos=numbers(*self._next_place()))
        ET.SubElement(body, "freejoint", name=f"{name}_free")
        return body

    def let_pass(self, first: str, second: str) -> None:
        """Two bodies that never touch, such as a drawer and its cabinet where they would rub."""
        contact = self.simulator.scene.find("contact")
        assert contact is not None
        ET.SubElement(contact, "exclude", body1=first, body2=second)

    def compile(self) -> mujoco.MjModel:
        """For direct stepping: driven by implicit position actuators."""
        return mujoco.MjModel.from_xml_string(ET.tostring(self.simulator.scene, encoding="unicode"))

    def _next_place(self) -> tuple[float, float, float]:
        """Where an unused object waits, wide apart: on the floor behind the wall."""
        slot = self._parked
        self._parked += 1
        return (-1.6 - 0.7 * (slot // 8), -2.0 + 0.6 * (slot % 8), FLOOR_HEIGHT + 0.06)


def _add_cameras(world: ET.Element) -> None:
    """Cameras and the tool site. MuJoCo's cameras look along -z with y up: half a turn about x from optical."""
    hand = next(body for body in world.iter("body") if body.get("name") == HAND_BODY)
    ET.SubElement(hand, "site", name=TOOL_SITE, pos=numbers(0, 0, TCP_OFFSET))
    for mount in CAMERA_MOUNTS.values():
        matrix = matrix_from_quat(mount.quat_wxyz) @ np.diag([1.0, -1.0, -1.0])
        offset = np.array([0.0, 0.0, TCP_OFFSET if mount.parent_frame == TOOL_FRAME else 0.0])
        ET.SubElement(
            hand if mount.parent_frame == TOOL_FRAME else world,
            "camera",
            name=mount.name,
            pos=numbers(*(np.array(mount.position) + offset)),
            quat=numbers(*quat_from_matrix(matrix)),
            fovy=numbers(np.rad2deg(2 * np.arctan(0.5 * CAMERA.height / CAMERA.fy))),
        )
