"""A path of the arm: where it leads, not when."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.arm.kinematics import FrankaKinematics
from minidiffuser_ros.arm.planning.collision import densify

Array = NDArray[np.float64]
LINE, PLANNED = "line", "planned"


@dataclass(frozen=True, eq=False)
class JointPath:
    """Joints [N, 7] in rad, to be followed along straight joint segments; that is how it was checked.

    kind: "line" where the tool goes straight, "planned" otherwise.
    """

    joints: Array
    kind: str = PLANNED

    def tools(self, step_rad: float = 0.05) -> Array:
        """`T_base_tool` [M, 4, 4] along it, no joint turning farther than `step_rad` between two: for a preview."""
        kinematics = FrankaKinematics()
        return np.stack([kinematics.forward(joints) for joints in densify(self.joints, step_rad)])
