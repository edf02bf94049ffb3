"""The arm's own MJCF as MuJoCo compiles it, and obstacles, for the tests of planning."""

from __future__ import annotations

from functools import cache

import mujoco
import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.arm.kinematics import FrankaKinematics, model_path
from minidiffuser_ros.arm.planning.obstacles import Obstacles
from minidiffuser_ros.arm.planning.planner import MotionPlanner
from minidiffuser_ros.geometry.rotation import POINTING_DOWN_WXYZ
from minidiffuser_ros.geometry.transform import transform_from

Array = NDArray[np.float64]


@cache
def full_model() -> mujoco.MjModel:
    """As franky-sim carries it, with every mesh."""
    meshes = model_path().parent / "meshes"
    return mujoco.MjModel.from_xml_string(model_path().read_text().replace('"assets"', f'"{meshes}"'))


@cache
def shared_planner() -> MotionPlanner:
    return MotionPlanner()


def free_planner() -> MotionPlanner:
    """The shared one with nothing around it and nothing in its hand."""
    planner = shared_planner()
    planner.collision.detach()
    planner.collision.allow_contact(None)
    planner.collision.set_obstacles(None)
    return planner


def down_at(x: float, y: float, z: float) -> Array:
    """`T_base_tool` [4, 4] of the hand pointing down."""
    return transform_from((x, y, z), POINTING_DOWN_WXYZ)


def joints_at(pose: Array) -> Array:
    joints = FrankaKinematics(margin=0.05).inverse(pose, (0.0, -0.78, 0.0, -2.36, 0.0, 1.57, 0.78))
    assert joints is not None
    return joints


def block(low: tuple[float, float, float], high: tuple[float, float, float], size: float = 0.01) -> Obstacles:
    """A full block of voxels."""
    axes = [np.arange(a + 0.5 * size, b, size) for a, b in zip(low, high, strict=True)]
    return Obstacles(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3), size)


def wall() -> Obstacles:
    """Across the middle of the table, 35 cm high."""
    return block((0.42, -0.04, 0.0), (0.56, 0.04, 0.35))
