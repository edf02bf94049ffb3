"""The solids an FR3 fills, from its joint positions: what the observation builder takes out of the cloud.

Capsules along the links and boxes for hand and fingers, a little larger than the meshes so that calibration
and depth errors of about a centimetre leave no robot behind. The gap between the fingers stays free: what the
hand holds is not robot.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.arm.kinematics import MAX_GRIPPER_WIDTH, FrankaKinematics
from minidiffuser_ros.geometry.transform import apply
from minidiffuser_ros.geometry.volumes import Capsule, OrientedBox, Volume

Array = NDArray[np.float64]

# (link, start, end, radius) in metres, in the link's frame.
LINK_CAPSULES: tuple[tuple[str, tuple[float, float, float], tuple[float, float, float], float], ...] = (
    ("fr3_link0", (-0.08, 0.0, 0.06), (0.0, 0.0, 0.10), 0.11),
    ("fr3_link1", (0.0, 0.0, -0.19), (0.0, 0.0, 0.0), 0.10),
    ("fr3_link2", (0.0, 0.0, 0.0), (0.0, -0.15, 0.0), 0.10),
    ("fr3_link3", (0.0, 0.0, -0.15), (0.05, 0.0, 0.0), 0.10),
    ("fr3_link4", (0.0, 0.0, 0.0), (-0.0825, 0.12, 0.0), 0.10),
    ("fr3_link5", (0.0, 0.0, -0.26), (0.0, 0.04, -0.10), 0.085),
    ("fr3_link5", (0.0, 0.06, -0.14), (0.0, 0.06, 0.0), 0.085),
    ("fr3_link6", (0.0, 0.0, 0.0), (0.088, 0.0, 0.0), 0.095),
    ("fr3_link7", (0.0, 0.0, 0.0), (0.0, 0.0, 0.10), 0.075),
)
HAND_CENTER, HAND_HALF_SIZE = (0.0, 0.0, 0.010), (0.050, 0.120, 0.070)
FINGER_START, FINGER_END = 0.055, 0.122  # m along the hand's z
FINGER_HALF_WIDTH, FINGER_THICKNESS = 0.016, 0.026  # m along the hand's x and y


def robot_volumes(kinematics: FrankaKinematics) -> Callable[[NDArray[np.floating], float], list[Volume]]:
    """A function (joint_positions [7] rad, opening [0, 1]) -> the solids, in the base frame."""

    def volumes(joint_positions: NDArray[np.floating], opening: float) -> list[Volume]:
        links = kinematics.link_transforms(joint_positions)
        solids: list[Volume] = [
            Capsule(apply(links[name], np.array(start)), apply(links[name], np.array(end)), radius)
            for name, start, end, radius in LINK_CAPSULES
        ]
        hand = links["hand"]
        solids.append(_box(hand, HAND_CENTER, HAND_HALF_SIZE))
        for side in (1.0, -1.0):
            inner = 0.5 * opening * MAX_GRIPPER_WIDTH
            center = (0.0, side * (inner + 0.5 * FINGER_THICKNESS), 0.5 * (FINGER_START + FINGER_END))
            half = (FINGER_HALF_WIDTH, 0.5 * FINGER_THICKNESS, 0.5 * (FINGER_END - FINGER_START))
            solids.append(_box(hand, center, half))
        return solids

    return volumes


def _box(frame: Array, center: tuple[float, float, float], half_size: tuple[float, float, float]) -> OrientedBox:
    transform = frame.copy()
    transform[:3, 3] = apply(frame, np.array(center))
    return OrientedBox(transform, np.array(half_size))
