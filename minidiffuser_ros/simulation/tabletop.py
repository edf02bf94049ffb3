"""One task in the directly stepped world: reset, observe through the real observation builder, execute, judge."""

from __future__ import annotations

from functools import lru_cache

import mujoco
import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.arm.kinematics import FrankaKinematics
from minidiffuser_ros.arm.self_shape import robot_volumes
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.contract.observation import Observation, ObservationSpec
from minidiffuser_ros.geometry.transform import transform_from
from minidiffuser_ros.perception.builder import CameraView, ObservationBuilder
from minidiffuser_ros.simulation.rendering import RgbdRenderer
from minidiffuser_ros.simulation.stepped import SteppedArm
from minidiffuser_ros.simulation.tasks import make_task
from minidiffuser_ros.simulation.world import BASE_FRAME, CAMERA, CAMERA_MOUNTS, compile_model

DEFAULT_SPEC = ObservationSpec()


class Tabletop:
    """The simulated table, for demonstrations and evaluation; one thread owns it: it holds a GL context."""

    def __init__(self, spec: ObservationSpec = DEFAULT_SPEC) -> None:
        self.model = compile_model()
        self.data = mujoco.MjData(self.model)
        self.kinematics = FrankaKinematics()
        self.arm = SteppedArm(self.model, self.data, self.kinematics, self._after_step)
        self.builder = ObservationBuilder(spec, robot_volumes(self.kinematics))
        self._renderer = RgbdRenderer(self.model, CAMERA)
        self._mounts = {m.name: transform_from(m.position, m.quat_wxyz) for m in CAMERA_MOUNTS.values()}

    def reset(self, task: str, seed: int, variation: int | None = None) -> str:
        """Lay out a task, put the arm home with the gripper open, and return the instruction."""
        self.task = make_task(task)
        mujoco.mj_resetData(self.model, self.data)
        self.arm.home(opening=1.0)
        return self.task.reset(self.model, self.data, seed, variation)

    def views(self) -> list[CameraView]:
        """What the cameras see now, with the poses that calibration and joint positions give them."""
        tool = self.arm.tool_transform
        return [
            CameraView(
                name,
                *self._renderer.render(self.data, name),
                CAMERA,
                mount if CAMERA_MOUNTS[name].parent_frame == BASE_FRAME else tool @ mount,
                self._stamp_ns(),
            )
            for name, mount in self._mounts.items()
        ]

    def observe(self, views: list[CameraView] | None = None) -> Observation:
        """The policy's view of the table. Raises ObservationError."""
        return self.builder.build(
            self.views() if views is None else views,
            self.arm.joint_positions,
            self.arm.opening,
            self.arm.tool_transform,
            self._stamp_ns(),
        )

    def execute(self, keypose: Keypose) -> None:
        """Move to a keypose. Raises MotionError where it cannot be reached; then nothing moved."""
        self.arm.execute(keypose)

    def success(self) -> bool:
        """Whether the task's rule holds now."""
        return self.task.success(self.data)

    def expert(self) -> list[Keypose]:
        """The expert's keyposes from the freshly reset scene."""
        return self.task.expert(self.data)

    def picture(self, camera: str = "front") -> NDArray[np.uint8]:
        """Colour image [H, W, 3] of one camera."""
        return self._renderer.render(self.data, camera)[0]

    def close(self) -> None:
        """Free the GL context."""
        self._renderer.close()

    def _after_step(self, data: mujoco.MjData) -> None:
        self.task.update(data)

    def _stamp_ns(self) -> int:
        return int(round(self.data.time * 1e9))


@lru_cache(maxsize=1)
def shared_world() -> Tabletop:
    """The world of this process, made on first use: it takes a second and holds a GL context."""
    return Tabletop()
