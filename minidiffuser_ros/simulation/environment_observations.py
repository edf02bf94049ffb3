"""What the gymnasium environment shows of the table: images, joints and the sentence, as a robot would give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from minidiffuser_ros.arm.kinematics import FrankaKinematics
from minidiffuser_ros.arm.self_shape import robot_volumes
from minidiffuser_ros.contract.observation import Observation, ObservationSpec
from minidiffuser_ros.geometry.camera import PinholeCamera
from minidiffuser_ros.geometry.transform import pose_of
from minidiffuser_ros.perception.builder import CameraView, ObservationBuilder
from minidiffuser_ros.simulation.environment_sentence import Sentence
from minidiffuser_ros.simulation.tabletop import DEFAULT_SPEC, Tabletop
from minidiffuser_ros.simulation.world import CAMERA

Values = dict[str, Any]

MAX_DEPTH_M, MAX_REACH_M, MAX_PIXELS = 200.0, 10.0, 1e4  # bounds of the space; nothing is drawn beyond 110 m


def observation_space(spec: ObservationSpec = DEFAULT_SPEC) -> spaces.Dict:
    """Of `observe`. All numbers are finite; bounds are wide, they say orders of magnitude."""
    size = (CAMERA.height, CAMERA.width)
    space: dict[str, spaces.Space[Any]] = {}
    for name in spec.cameras:
        space[f"{name}_color"] = spaces.Box(0, 255, (*size, 3), np.uint8)
        space[f"{name}_depth"] = spaces.Box(0.0, MAX_DEPTH_M, size, np.float32)
        space[f"{name}_intrinsics"] = spaces.Box(0.0, MAX_PIXELS, (3, 3), np.float64)
        space[f"{name}_extrinsics"] = spaces.Box(-MAX_REACH_M, MAX_REACH_M, (4, 4), np.float64)
    space["joint_positions"] = spaces.Box(-2 * np.pi, 2 * np.pi, (7,), np.float64)
    space["opening"] = spaces.Box(0.0, 1.0, (1,), np.float64)
    space["tool_pose"] = spaces.Box(-MAX_REACH_M, MAX_REACH_M, (7,), np.float64)
    space["instruction"] = Sentence()
    return spaces.Dict(space)


def observe(world: Tabletop, instruction: str) -> Values:
    """What cameras, arm and user say now; fresh arrays. Frame: the robot's base.

    Of each camera: `<name>_color` [H, W, 3] uint8; `_depth` [H, W] float32, metres along the optical axis, 0 where
    nothing is; `_intrinsics` [3, 3], pixels; `_extrinsics` [4, 4], T_base_camera of the optical frame.
    `joint_positions` [7] rad; `opening` [1] in [0, 1]; `tool_pose` [7], position in m and quaternion wxyz.
    """
    values: Values = {}
    for view in world.views():
        values[f"{view.name}_color"] = view.color
        values[f"{view.name}_depth"] = np.where(np.isnan(view.depth), np.float32(0.0), view.depth)
        values[f"{view.name}_intrinsics"] = view.camera.matrix
        values[f"{view.name}_extrinsics"] = np.array(view.T_policy_camera)
    values["joint_positions"] = world.arm.joint_positions
    values["opening"] = np.array([world.arm.opening])
    values["tool_pose"] = np.concatenate(pose_of(world.arm.tool_transform))
    values["instruction"] = instruction
    return values


def observation_of(values: Mapping[str, Any], stamp_ns: int = 0, spec: ObservationSpec = DEFAULT_SPEC) -> Observation:
    """The same as this package's policies want it, bit for bit as `Tabletop.observe` builds it.

    values: of `observe`. stamp_ns: `info["stamp_ns"]`, where it matters. Raises ObservationError.
    """
    kinematics = FrankaKinematics()
    joints, opening = values["joint_positions"], float(values["opening"][0])
    views = [_view(values, name, stamp_ns) for name in spec.cameras]
    builder = ObservationBuilder(spec, robot_volumes(kinematics))
    return builder.build(views, joints, opening, kinematics.forward(joints), stamp_ns)


def _view(values: Mapping[str, Any], name: str, stamp_ns: int) -> CameraView:
    color, matrix = values[f"{name}_color"], values[f"{name}_intrinsics"]
    height, width = color.shape[:2]
    camera = PinholeCamera(width, height, *(float(matrix[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2))))
    return CameraView(name, color, values[f"{name}_depth"], camera, values[f"{name}_extrinsics"], stamp_ns)
