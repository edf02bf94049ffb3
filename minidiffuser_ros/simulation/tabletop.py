"""One task in the directly stepped world: reset, observe through the real observation builder, execute, judge."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import mujoco
import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.arm.envelope import SafetyEnvelope
from minidiffuser_ros.arm.goal import KeyposeGoal
from minidiffuser_ros.arm.kinematics import FrankaKinematics
from minidiffuser_ros.arm.self_shape import robot_volumes
from minidiffuser_ros.contract.errors import MotionError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.contract.observation import Observation, ObservationSpec
from minidiffuser_ros.perception.builder import CameraView, ObservationBuilder
from minidiffuser_ros.simulation.appearance import Appearance
from minidiffuser_ros.simulation.rendering import RgbdRenderer
from minidiffuser_ros.simulation.shifts import NONE, Shift
from minidiffuser_ros.simulation.stage import Stage
from minidiffuser_ros.simulation.stepped import SteppedArm
from minidiffuser_ros.simulation.tasks import make_task
from minidiffuser_ros.simulation.tasks.base import Task
from minidiffuser_ros.simulation.world import BASE_FRAME, CAMERA, CAMERA_MOUNTS, SceneBuilder

DEFAULT_SPEC = ObservationSpec()
MAX_SCENES = 4  # kept compiled: one takes 0.15 GB and a tenth of a second to make


class Scene:
    """The compiled scene of one task with its arm and its looks."""

    def __init__(self, task: type[Task], kinematics: FrankaKinematics) -> None:
        builder = SceneBuilder()
        task.build(builder)
        model = builder.compile()
        self.stage = Stage(model, mujoco.MjData(model))
        self.arm = SteppedArm(model, self.stage.data, kinematics)
        self.appearance = Appearance(self.stage)


class Tabletop:
    """The simulated table, for demonstrations and evaluation; one thread owns it: it holds a GL context."""

    def __init__(self, spec: ObservationSpec = DEFAULT_SPEC) -> None:
        self.kinematics = FrankaKinematics()
        self.builder = ObservationBuilder(spec, robot_volumes(self.kinematics))
        self._envelope = SafetyEnvelope()
        self._scenes: dict[str, Scene] = {}
        self._renderer: RgbdRenderer | None = None

    def reset(self, task: str, seed: int, variation: int | None = None, shift: Shift = NONE) -> str:
        """Lay out a task, put the arm home with the gripper open, and return the instruction.

        Raises UnknownTaskError for a task or variation that does not exist; then nothing has changed.
        """
        fresh = make_task(task)
        fresh.check_variation(variation, shift)
        self._scene, self.task = self._scene_of(type(fresh)), fresh
        mujoco.mj_resetData(self.model, self.data)
        self.arm.home(opening=1.0)
        sentence = fresh.reset(self.stage, seed, variation, shift)
        self._mounts = self._scene.appearance.draw(shift, seed)
        self.arm.after_step = self._after_step
        return sentence

    @property
    def stage(self) -> Stage:
        """The scene of the task that was laid out last."""
        return self._scene.stage

    @property
    def model(self) -> mujoco.MjModel:
        """Its model."""
        return self.stage.model

    @property
    def data(self) -> mujoco.MjData:
        """Its state."""
        return self.stage.data

    @property
    def arm(self) -> SteppedArm:
        """The arm in it."""
        return self._scene.arm

    def stamp_ns(self) -> int:
        """The simulated time since the reset."""
        return int(round(self.data.time * 1e9))

    def views(self) -> list[CameraView]:
        """What the cameras see now, with the poses that calibration and joint positions give them."""
        tool = self.arm.tool_transform
        return [
            CameraView(
                name,
                *self._draw(name),
                CAMERA,
                mount if CAMERA_MOUNTS[name].parent_frame == BASE_FRAME else tool @ mount,
                self.stamp_ns(),
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
            self.stamp_ns(),
        )

    def execute(self, keypose: Keypose) -> None:
        """Move to a keypose. Raises MotionError where it cannot be reached or the arm may not go; nothing moved."""
        self._refuse(keypose)
        self.arm.execute(keypose)

    def servo(self, keypose: Keypose) -> None:
        """Move a little towards a keypose close to the commanded one. Raises MotionError as `execute` does."""
        self._refuse(keypose)
        self.arm.servo(keypose)

    def success(self) -> bool:
        """Whether the task's rule holds now."""
        return self.task.success(self.stage)

    def mistake(self) -> str:
        """What has been done that was not asked for; empty where nothing has."""
        return self.task.mistake(self.stage)

    def expert(self) -> Iterator[Keypose]:
        """The expert's keyposes from the freshly reset scene: execute each before asking for the next."""
        return self.task.expert(self.stage)

    def picture(self, camera: str = "front") -> NDArray[np.uint8]:
        """Colour image [H, W, 3] of one camera."""
        return self._draw(camera)[0]

    def close(self) -> None:
        """Free the GL context; the next picture makes a new one."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _scene_of(self, task: type[Task]) -> Scene:
        """Compiled, one of the last few."""
        scene = self._scenes.pop(task.name, None) or Scene(task, self.kinematics)
        self._scenes[task.name] = scene
        if len(self._scenes) > MAX_SCENES:
            del self._scenes[next(iter(self._scenes))]
        return scene

    def _refuse(self, keypose: Keypose) -> None:
        """Raises MotionError with every reason against a goal."""
        reasons = self._envelope.check(KeyposeGoal(keypose), self.arm.state, self.stamp_ns())
        if reasons:
            raise MotionError("unreachable: " + "; ".join(reasons))

    def _draw(self, camera: str) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        if self._renderer is None:
            self._renderer = RgbdRenderer(self.model, CAMERA)
        return self._renderer.render(self.model, self.data, camera)

    def _after_step(self) -> None:
        self.task.update(self.stage)


@lru_cache(maxsize=1)
def shared_world(spec: ObservationSpec = DEFAULT_SPEC) -> Tabletop:
    """The world of this process, seen as `spec` says: scenes are made on first use, take a tenth of a second each."""
    return Tabletop(spec)
