"""A calibration board in the simulated lab, seen by its cameras: to try calibration without hardware.

A camera that stands beside the arm sees the board in the hand; the camera on the hand sees it lie on the table. The
joints are put where they are to be; nothing is stepped.
"""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from minidiffuser_ros.arm.kinematics import HOME_JOINTS, TCP_OFFSET, TOOL_FRAME, FrankaKinematics
from minidiffuser_ros.geometry.camera import PinholeCamera
from minidiffuser_ros.geometry.rotation import quat_from_euler_deg, quat_from_matrix
from minidiffuser_ros.geometry.transform import invert, transform_from
from minidiffuser_ros.perception.boards import Board
from minidiffuser_ros.simulation.parts import numbers
from minidiffuser_ros.simulation.rendering import RgbdRenderer
from minidiffuser_ros.simulation.world import CAMERA, CAMERA_MOUNTS, HAND_BODY, PREFIX, SceneBuilder

Array = NDArray[np.float64]

# A native mode of the RealSense D4xx family with the field of view of the simulated cameras.
PICTURE = PinholeCamera.from_fov(848, 480, 2.0 * float(np.rad2deg(np.arctan(0.5 * CAMERA.height / CAMERA.fy))))
TEXTURE_PX_PER_MM, QUIET_MM = 6, 10
PLATE_M = 0.001
# Fixed before the fingers, its face to the front of the hand and its upper edge as far above the fingertips (m).
BEFORE_FINGERS, ABOVE_TIPS = 0.012, 0.02
# On the table in reach, its face up.
T_BASE_MIDDLE = transform_from([0.50, 0.0, 0.002], quat_from_euler_deg([180.0, 0.0, 90.0]))
MAX_ATTEMPTS = 60  # per view: many draws cannot be reached
TILT_DEG = 28.0
# Of the picture's width and height: the board's corners stay away from the border.
MARGIN = 0.03
FINGER_OPENING = 0.0


@dataclass(frozen=True)
class SimulatedView:
    """Colour [H, W, 3], metric depth [H, W], joints [7] in rad and T_base_tool [4, 4] of one posture."""

    color: NDArray[np.uint8]
    depth: NDArray[np.float32]
    joints: Array
    T_base_tool: Array


class BoardScene:
    """The lab with a board for one of the simulated cameras."""

    def __init__(self, board: Board, camera: str) -> None:
        self.mount = CAMERA_MOUNTS[camera]
        self.on_hand = self.mount.parent_frame == TOOL_FRAME
        self._board, self._camera = board, camera
        self.T_parent_camera = transform_from(self.mount.position, self.mount.quat_wxyz)
        below = 0.5 * board.size[1] + 1e-3 * QUIET_MM - ABOVE_TIPS
        held = transform_from([BEFORE_FINGERS, 0.0, below], quat_from_euler_deg([90.0, 0.0, -90.0]))
        self._T_other_middle = T_BASE_MIDDLE if self.on_hand else held
        self.T_other_board = self._T_other_middle @ transform_from(-board.center, [1.0, 0.0, 0.0, 0.0])
        self._kinematics = FrankaKinematics()
        self.model = self._compiled()
        self.data = mujoco.MjData(self.model)
        self._joints = [self.model.joint(f"{PREFIX}fr3_joint{i}").qposadr[0] for i in range(1, 8)]
        self._fingers = [self.model.joint(f"{PREFIX}finger_joint{i}").qposadr[0] for i in (1, 2)]
        self._renderer = RgbdRenderer(self.model, PICTURE)

    def views(self, count: int, seed: int) -> Iterator[SimulatedView]:
        """`count` postures in which the whole board is in the picture, the hand turned another way in each."""
        rng = np.random.default_rng(seed)
        for _ in range(count):
            for _ in range(MAX_ATTEMPTS):
                joints = self._posture(rng)
                if joints is not None and self._visible(joints):
                    yield self.view(joints)
                    break

    def view(self, joints: Array) -> SimulatedView:
        """What the camera sees with the arm's joints [7] there."""
        self.data.qpos[self._joints] = joints
        self.data.qpos[self._fingers] = FINGER_OPENING
        mujoco.mj_forward(self.model, self.data)
        color, depth = self._renderer.render(self.model, self.data, self._camera)
        return SimulatedView(color, depth, joints, self._kinematics.forward(joints))

    def close(self) -> None:
        """Free the GL context."""
        self._renderer.close()

    def board_in_camera(self, joints: Array) -> Array:
        """T_camera_board [4, 4]."""
        T_base_tool = self._kinematics.forward(joints)
        if self.on_hand:
            return invert(T_base_tool @ self.T_parent_camera) @ self.T_other_board
        return invert(self.T_parent_camera) @ T_base_tool @ self.T_other_board

    def _posture(self, rng: np.random.Generator) -> Array | None:
        """Joints with the camera before the board, or the board before the camera, tilted."""
        turn = transform_from([0.0, 0.0, 0.0], quat_from_euler_deg(rng.uniform(-TILT_DEG, TILT_DEG, 3)))
        if self.on_hand:
            height = transform_from(rng.uniform([-0.06, -0.06, 0.30], [0.06, 0.06, 0.45]), [1.0, 0.0, 0.0, 0.0])
            T_base_tool = T_BASE_MIDDLE @ invert(self.T_parent_camera @ height @ turn)
        else:
            place = transform_from(rng.uniform([0.42, -0.16, 0.22], [0.62, 0.16, 0.45]), [0.0, 1.0, 0.0, 0.0])
            T_base_tool = place @ turn
        return self._kinematics.inverse(T_base_tool, np.array(HOME_JOINTS))

    def _visible(self, joints: Array) -> bool:
        """Whether the board's four corners are in the picture, seen from the front."""
        T_camera_board, (width, height) = self.board_in_camera(joints), self._board.size
        corners = np.array([[x, y, 0.0] for x in (0.0, width) for y in (0.0, height)])
        pixels = PICTURE.project(corners @ T_camera_board[:3, :3].T + T_camera_board[:3, 3])
        size = np.array([PICTURE.width, PICTURE.height])
        faces = float(T_camera_board[:3, 2] @ T_camera_board[:3, 3]) > 0.0
        return bool(faces and (pixels > MARGIN * size).all() and (pixels < (1.0 - MARGIN) * size).all())

    def _plate(self) -> dict[str, str]:
        """A mesh of the board with its white margin, middle at the origin, face towards -z."""
        x, y = (0.5 * side + 1e-3 * QUIET_MM for side in self._board.size)
        front = [(-x, -y, 0.0), (x, -y, 0.0), (x, y, 0.0), (-x, y, 0.0)]
        # MuJoCo wants a volume: a point behind. Its sides have corners of their own, lest they shade the front.
        corners = [*front, *front, (0.0, 0.0, PLATE_M)]
        faces = [(0, 2, 1), (0, 3, 2), (4, 5, 8), (5, 6, 8), (6, 7, 8), (7, 4, 8)]
        texture = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0), *[(0.0, 0.0)] * 5]
        return {
            "vertex": numbers(*np.ravel(corners)),
            "texcoord": numbers(*np.ravel(texture)),
            "face": " ".join(map(str, np.ravel(faces))),
        }

    def _compiled(self) -> mujoco.MjModel:
        builder = SceneBuilder()
        world, scene = builder.simulator.worldbody, builder.simulator.scene
        hand = next(body for body in world.iter("body") if body.get("name") == HAND_BODY)
        asset = scene.find("asset")
        assert asset is not None
        ET.SubElement(asset, "texture", name="board", type="2d", file="board.png")
        ET.SubElement(asset, "material", name="board", texture="board", specular="0", shininess="0", reflectance="0")
        ET.SubElement(asset, "mesh", {"name": "board", **self._plate()})
        position = self._T_other_middle[:3, 3] + [0.0, 0.0, 0.0 if self.on_hand else TCP_OFFSET]
        body = ET.SubElement(
            world if self.on_hand else hand, "body", name="board", pos=numbers(*position),
            quat=numbers(*quat_from_matrix(self._T_other_middle[:3, :3])),
        )  # fmt: skip
        ET.SubElement(
            body, "geom", type="mesh", mesh="board", material="board", contype="0", conaffinity="0", mass="0.001"
        )
        visual = ET.SubElement(scene, "visual")
        ET.SubElement(visual, "global", offwidth=str(PICTURE.width), offheight=str(PICTURE.height))
        picture = np.pad(self._board.picture(TEXTURE_PX_PER_MM), QUIET_MM * TEXTURE_PX_PER_MM, constant_values=255)
        buffer = io.BytesIO()
        Image.fromarray(np.repeat(picture[..., None], 3, axis=2)).save(buffer, "PNG")
        return mujoco.MjModel.from_xml_string(ET.tostring(scene, encoding="unicode"), {"board.png": buffer.getvalue()})
