"""The frames of a Franka that others calibrate against, brought to the two this package knows: base and tool."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.arm.kinematics import BASE_FRAME, HOME_JOINTS, TOOL_FRAME, FrankaKinematics
from minidiffuser_ros.geometry.transform import invert

Array = NDArray[np.float64]

# What the robot descriptions of Franka's ROS packages put before the names of the links.
PREFIXES = ("fr3", "fer", "panda")
FLANGE_OFFSET = 0.107  # m from link 7 to the flange, link 8, along their common z (Franka's robot description)


def known_frames() -> dict[str, tuple[str, Array]]:
    """Frame → (the base or tool frame that it does not move against, `T_parent_frame` [4, 4])."""
    kinematics = FrankaKinematics()
    links, T_tool_base = kinematics.link_transforms(HOME_JOINTS), invert(kinematics.forward(HOME_JOINTS))
    flange = links["fr3_link7"].copy()
    flange[:3, 3] += FLANGE_OFFSET * flange[:3, 2]
    fixed = {"hand_tcp": np.eye(4)}
    for name, T_base_frame in (("hand", links["hand"]), ("link8", flange), ("link7", links["fr3_link7"])):
        fixed[name] = T_tool_base @ T_base_frame
    frames: dict[str, tuple[str, Array]] = {}
    for prefix in PREFIXES:
        frames[f"{prefix}_link0"] = (BASE_FRAME, np.eye(4))
        frames.update({f"{prefix}_{name}": (TOOL_FRAME, pose) for name, pose in fixed.items()})
    return frames
