"""A compiled scene and its state, in the words of tasks: place, paint, where is, does it touch.

Everything that a policy never gets to know is read here.
"""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from minidiffuser_ros.geometry.rotation import matrix_from_quat, quat_from_yaw
from minidiffuser_ros.geometry.transform import transform_from
from minidiffuser_ros.simulation.world import COLORS, PREFIX

Array = NDArray[np.float64]
IDENTITY = (1.0, 0.0, 0.0, 0.0)
FINGERS = (PREFIX + "left_finger", PREFIX + "right_finger")


class Stage:
    """Model and data of one scene. Positions in metres in the robot's base frame, quaternions wxyz, angles in rad."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        self.model, self.data = model, data
        names = (model.joint(i).name for i in range(model.njnt))
        self._objects = [name for name in names if not name.startswith(PREFIX)]
        self._mocap = [i for i in range(model.nbody) if model.body_mocapid[i] >= 0]

    def clear(self) -> None:
        """Park every object, every mechanism at rest; the robot stays as it is."""
        for name in self._objects:
            joint = self.data.joint(name)
            start = self.model.joint(name).qposadr[0]
            joint.qpos[:] = self.model.qpos0[start : start + len(joint.qpos)]
            joint.qvel[:] = 0.0
        for body in self._mocap:
            slot = self.model.body_mocapid[body]
            self.data.mocap_pos[slot] = self.model.body_pos[body]
            self.data.mocap_quat[slot] = self.model.body_quat[body]

    def settle(self) -> None:
        """Compute what follows from the places: call it after the last `place`."""
        mujoco.mj_forward(self.model, self.data)

    def place(self, name: str, position: ArrayLike, yaw: float = 0.0, quat_wxyz: ArrayLike | None = None) -> None:
        """Put a movable body or a fixture at `position` [3], at rest, turned by `yaw` or by a quaternion [4]."""
        quat = quat_from_yaw(yaw) if quat_wxyz is None else np.asarray(quat_wxyz, dtype=np.float64)
        slot = self.model.body(name).mocapid[0]
        if slot >= 0:
            self.data.mocap_pos[slot], self.data.mocap_quat[slot] = position, quat
            return
        joint = self.data.joint(f"{name}_free")
        joint.qpos[:3], joint.qpos[3:], joint.qvel[:] = position, quat, 0.0

    def paint(self, geom: str, color: str) -> None:
        """Give a geom, and all those numbered after it (`name_0` ...), one of the named colours."""
        for index in range(self.model.ngeom):
            name = self.model.geom(index).name
            if name == geom or (name.startswith(f"{geom}_") and name[len(geom) + 1 :].isdigit()):
                self.model.geom_rgba[index, :3] = COLORS[color]

    def color_of(self, geom: str) -> str:
        """The named colour that a geom has."""
        rgb = self.model.geom(geom).rgba[:3]
        return min(COLORS, key=lambda name: float(np.abs(np.array(COLORS[name]) - rgb).max()))

    def set_joint(self, name: str, value: float) -> None:
        """Put a hinge or slide at a value in radians or metres, at rest."""
        joint = self.data.joint(name)
        joint.qpos[0], joint.qvel[0] = value, 0.0

    def joint(self, name: str) -> float:
        """Where a hinge or slide is."""
        return float(self.data.joint(name).qpos[0])

    def position(self, name: str) -> Array:
        """Of a body [3]."""
        return np.array(self.data.body(name).xpos)

    def site(self, name: str) -> Array:
        """Where a site is [3]."""
        return np.array(self.data.site(name).xpos)

    def transform(self, name: str) -> Array:
        """T_base_body [4, 4]."""
        body = self.data.body(name)
        return transform_from(body.xpos, body.xquat)

    def yaw(self, name: str) -> float:
        """Of a body, about the vertical."""
        x_axis = matrix_from_quat(self.data.body(name).xquat)[:, 0]
        return float(np.arctan2(x_axis[1], x_axis[0]))

    def tilt(self, name: str) -> float:
        """Angle between a body's z axis and the vertical."""
        return float(np.arccos(np.clip(matrix_from_quat(self.data.body(name).xquat)[2, 2], -1.0, 1.0)))

    def speed(self, name: str) -> float:
        """The largest of the six velocities of a movable body, m/s or rad/s."""
        return float(np.abs(self.data.joint(f"{name}_free").qvel).max())

    def touching(self, first: str, second: str) -> bool:
        """Whether two bodies are in contact."""
        wanted = {self.model.body(first).id, self.model.body(second).id}
        bodies = self.model.geom_bodyid
        return any({bodies[c.geom1], bodies[c.geom2]} == wanted for c in self.data.contact[: self.data.ncon])

    def held(self, name: str) -> bool:
        """Whether both fingers touch a body."""
        return all(self.touching(name, finger) for finger in FINGERS)

    @property
    def finger_opening(self) -> float:
        """Distance between the fingers."""
        return sum(self.joint(f"{PREFIX}finger_joint{i}") for i in (1, 2))

    @property
    def tool(self) -> Array:
        """Where the tool is [3]."""
        return np.array(self.data.site("tcp").xpos)
