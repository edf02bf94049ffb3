"""The MJCF world: franky-sim's FR3 with its hand, a table, the objects of every task, a front and a wrist camera.

One scene serves two ways: behind the Franka protocol (franky-sim steps it) and stepped directly. Objects of
tasks that are not being played are parked on the floor behind the robot, out of every camera's workspace.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass

import mujoco
import numpy as np
from franky_sim.mujoco_simulator import MujocoSimulator

from minidiffuser_ros.arm.kinematics import BASE_FRAME, HOME_JOINTS, TCP_OFFSET, TOOL_FRAME
from minidiffuser_ros.contract.observation import CameraMount
from minidiffuser_ros.geometry.camera import PinholeCamera
from minidiffuser_ros.geometry.rotation import matrix_from_quat, quat_from_matrix
from minidiffuser_ros.geometry.transform import look_at

PREFIX = "robot0_"
HAND_BODY = PREFIX + "hand"
TOOL_SITE = "tcp"
FLOOR_HEIGHT = -0.75

NUM_BUTTONS = 3
NUM_BLOCKS = 4
BLOCK_HALF_SIZE = 0.022
BUTTON_CAP_RADIUS = 0.024
BUTTON_CAP_TOP = 0.045
BUTTON_TRAVEL = 0.014

COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.85, 0.08, 0.08),
    "green": (0.08, 0.62, 0.16),
    "blue": (0.10, 0.22, 0.88),
    "yellow": (0.93, 0.82, 0.10),
    "purple": (0.55, 0.14, 0.70),
}

# 424x240 is a native mode of the RealSense D4xx family; 42 degrees is its colour camera's vertical field of view.
CAMERA = PinholeCamera.from_fov(424, 240, 42.0)


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


@dataclass(frozen=True)
class BodyNames:
    """Names of the movable bodies, in one place for tasks and tests."""

    buttons: tuple[str, ...] = tuple(f"button_{i}" for i in range(NUM_BUTTONS))
    blocks: tuple[str, ...] = tuple(f"block_{i}" for i in range(NUM_BLOCKS))


BODIES = BodyNames()


def build_scene() -> MujocoSimulator:
    """A franky-sim simulator whose scene holds the robot (prefix `robot0_`) and our table, objects and cameras.

    Not started: serve it with `franky_sim.SimulationServer`, or compile it with `compile_model`.
    """
    simulator = MujocoSimulator()
    simulator.add_robot(initial_q=HOME_JOINTS, initial_hand_width=0.08)
    _set_visuals(simulator.scene)
    _add_table(simulator.worldbody)
    for index, name in enumerate(BODIES.buttons):
        _add_button(simulator.scene, name, parked_position(index))
    for index, name in enumerate(BODIES.blocks):
        _add_block(simulator.worldbody, name, parked_position(NUM_BUTTONS + index))
    _add_cameras(simulator.worldbody)
    return simulator


def compile_model(simulator: MujocoSimulator | None = None) -> mujoco.MjModel:
    """Compile the scene for direct stepping: the same bodies, driven by implicit position actuators."""
    scene = (simulator or build_scene()).scene
    return mujoco.MjModel.from_xml_string(ET.tostring(scene, encoding="unicode"))


def parked_position(slot: int) -> tuple[float, float, float]:
    """Where an unused object waits: on the floor behind the robot."""
    return (-1.2, -0.6 + 0.2 * slot, FLOOR_HEIGHT + BLOCK_HALF_SIZE)


def _numbers(*values: float) -> str:
    return " ".join(f"{v:.6g}" for v in values)


def _set_visuals(scene: ET.Element) -> None:
    """No shadows and no multisampling: five to ten times faster off screen, and depth edges stay sharp."""
    visual = scene.find("visual")
    assert visual is not None
    quality = visual.find("quality")
    headlight = visual.find("headlight")
    assert quality is not None
    assert headlight is not None
    quality.attrib.update(shadowsize="0", offsamples="0")
    headlight.attrib.update(ambient="0.15 0.15 0.15", diffuse="0.15 0.15 0.15")
    ET.SubElement(visual, "map", znear="0.01", zfar="10")
    ET.SubElement(visual, "global", offwidth="1280", offheight="960")
    for light in scene.iter("light"):
        light.set("castshadow", "false")
    for geom in scene.iter("geom"):
        if geom.get("name") == "ground":
            geom.set("pos", _numbers(0, 0, FLOOR_HEIGHT))


def _add_table(world: ET.Element) -> None:
    ET.SubElement(
        world,
        "geom",
        name="table",
        type="box",
        size=_numbers(0.75, 0.65, 0.02),
        pos=_numbers(0.45, 0.0, -0.02),
        rgba=_numbers(0.72, 0.66, 0.58, 1.0),
    )


def _add_button(scene: ET.Element, name: str, position: tuple[float, float, float]) -> None:
    """A mocap base (placed by the reset) that carries a spring-loaded cap sliding along z."""
    world, contact = scene.find("worldbody"), scene.find("contact")
    assert world is not None
    assert contact is not None
    base = ET.SubElement(world, "body", name=name, mocap="true", pos=_numbers(*position))
    ET.SubElement(
        base,
        "geom",
        type="box",
        size=_numbers(0.038, 0.038, 0.0125),
        pos=_numbers(0, 0, 0.0125),
        rgba=_numbers(0.33, 0.33, 0.35, 1),
    )
    cap = ET.SubElement(base, "body", name=f"{name}_cap")
    ET.SubElement(
        cap,
        "joint",
        name=f"{name}_slide",
        type="slide",
        axis="0 0 1",
        range=_numbers(-BUTTON_TRAVEL, 0),
        limited="true",
        stiffness="150",
        springref="0.004",
        damping="2",
        armature="0.02",
    )
    half = 0.5 * (BUTTON_CAP_TOP - 0.025) + 0.002
    ET.SubElement(
        cap,
        "geom",
        name=f"{name}_cap",
        type="cylinder",
        size=_numbers(BUTTON_CAP_RADIUS, half),
        pos=_numbers(0, 0, BUTTON_CAP_TOP - half),
        mass="0.03",
        rgba="1 1 1 1",
    )
    ET.SubElement(contact, "exclude", body1=name, body2=f"{name}_cap")


def _add_block(world: ET.Element, name: str, position: tuple[float, float, float]) -> None:
    body = ET.SubElement(world, "body", name=name, pos=_numbers(*position))
    ET.SubElement(body, "freejoint", name=f"{name}_free")
    ET.SubElement(
        body,
        "geom",
        name=name,
        type="box",
        size=_numbers(*(BLOCK_HALF_SIZE,) * 3),
        mass="0.08",
        friction="1.0 0.02 0.001",
        condim="4",
        rgba="1 1 1 1",
    )


def _add_cameras(world: ET.Element) -> None:
    """Cameras and the tool site. MuJoCo's cameras look along -z with y up: half a turn about x from optical."""
    hand = next(body for body in world.iter("body") if body.get("name") == HAND_BODY)
    ET.SubElement(hand, "site", name=TOOL_SITE, pos=_numbers(0, 0, TCP_OFFSET))
    for mount in CAMERA_MOUNTS.values():
        matrix = matrix_from_quat(mount.quat_wxyz) @ np.diag([1.0, -1.0, -1.0])
        offset = np.array([0.0, 0.0, TCP_OFFSET if mount.parent_frame == TOOL_FRAME else 0.0])
        ET.SubElement(
            hand if mount.parent_frame == TOOL_FRAME else world,
            "camera",
            name=mount.name,
            pos=_numbers(*(np.array(mount.position) + offset)),
            quat=_numbers(*quat_from_matrix(matrix)),
            fovy=_numbers(np.rad2deg(2 * np.arctan(0.5 * CAMERA.height / CAMERA.fy))),
        )
