"""What differs between the two Franka arms: limits of the joints, names, and the driver each of them needs.

Their links have the same lengths. The numbers are those of Franka's documentation, "Control Interface Specification
and Robot Limits"; the arm's own controller refuses what goes beyond them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minidiffuser_ros.contract.errors import ConfigurationError

Array = NDArray[np.float64]
Joints = tuple[float, float, float, float, float, float, float]


@dataclass(frozen=True)
class BrakingCurve:
    """Speed limits of the joints that fall towards the ends of their range, so that the arm can still brake.

    Allowed are -offset + sqrt(slope * (upper - q)) upwards and the same downwards with (q - lower), rad/s.
    """

    lower: Joints
    upper: Joints
    slope: Joints
    offset: Joints


@dataclass(frozen=True)
class ArmModel:
    """One kind of Franka. Joint limits in rad, rad/s, rad/s^2, rad/s^3; forces of the joints in Nm.

    prefix: of the joints' and links' names in Franka's own description of the arm. robot_server_version: the protocol
    of its newest system; braking: absent where the arm has one speed limit everywhere.
    """

    name: str
    title: str
    prefix: str
    lower: Joints
    upper: Joints
    velocity: Joints
    acceleration: Joints
    jerk: Joints
    torque: Joints
    robot_server_version: int
    braking: BrakingCurve | None = None

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Of the seven joints, from the base."""
        return tuple(f"{self.prefix}_joint{i}" for i in range(1, 8))

    @property
    def base_frame(self) -> str:
        """The frame of its base."""
        return f"{self.prefix}_link0"

    @property
    def driver(self) -> str:
        """Which wheel of the driver it needs; PyPI has that of the newest system of the FR3 only."""
        return f"install the wheel of franky-control 2 for robot server version {self.robot_server_version}"

    def position_limits(self, margin: float = 0.0) -> tuple[Array, Array]:
        """Lowest and highest joint positions [7] in rad, `margin` inside the arm's own."""
        return np.array(self.lower) + margin, np.array(self.upper) - margin

    def velocity_limits(self, joints: ArrayLike) -> tuple[Array, Array]:
        """Lowest and highest joint velocities [..., 7] in rad/s at joint positions [..., 7] in rad."""
        q, fastest = np.asarray(joints, dtype=np.float64), np.array(self.velocity)
        if self.braking is None:
            return np.broadcast_to(-fastest, q.shape).copy(), np.broadcast_to(fastest, q.shape).copy()
        curve = self.braking
        slope, offset = np.array(curve.slope), np.array(curve.offset)
        up = np.sqrt(np.maximum(0.0, slope * (np.array(curve.upper) - q))) - offset
        down = np.sqrt(np.maximum(0.0, slope * (q - np.array(curve.lower)))) - offset
        return -np.clip(down, 0.0, fastest), np.clip(up, 0.0, fastest)


FR3 = ArmModel(
    name="fr3",
    title="Franka Research 3",
    prefix="fr3",
    lower=(-2.7437, -1.7837, -2.9007, -3.0421, -2.8065, 0.5445, -3.0159),
    upper=(2.7437, 1.7837, 2.9007, -0.1518, 2.8065, 4.5169, 3.0159),
    velocity=(2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26),
    acceleration=(10.0, 10.0, 10.0, 10.0, 10.0, 10.0, 10.0),
    jerk=(5000.0, 5000.0, 5000.0, 5000.0, 5000.0, 5000.0, 5000.0),
    torque=(87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0),
    robot_server_version=10,
    braking=BrakingCurve(
        lower=(-2.7501, -1.7918, -2.9065, -3.0481, -2.8101, 0.54092, -3.0196),
        upper=(2.7501, 1.7918, 2.9065, -0.1458, 2.8101, 4.5205, 3.0196),
        slope=(12.0, 5.17, 7.0, 8.0, 34.0, 11.0, 34.0),
        offset=(0.30, 0.20, 0.20, 0.30, 0.35, 0.35, 0.35),
    ),
)
FER = ArmModel(
    name="fer",
    title="Franka Emika Robot (Panda)",
    prefix="panda",
    lower=(-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973),
    upper=(2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973),
    velocity=(2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61),
    acceleration=(15.0, 7.5, 10.0, 12.5, 15.0, 20.0, 20.0),
    jerk=(7500.0, 3750.0, 5000.0, 6250.0, 7500.0, 10000.0, 10000.0),
    torque=(87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0),
    robot_server_version=5,
)
ARM_MODELS: dict[str, ArmModel] = {model.name: model for model in (FR3, FER)}


def arm_model(name: str) -> ArmModel:
    """The model of that name. Raises ConfigurationError naming those there are."""
    if name not in ARM_MODELS:
        known = ", ".join(f"{model.name} ({model.title})" for model in ARM_MODELS.values())
        raise ConfigurationError(f"there is no arm model '{name}'; choose one of {known}")
    return ARM_MODELS[name]
