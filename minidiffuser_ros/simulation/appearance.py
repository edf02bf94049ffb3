"""How the lab looks and from where it is seen: as always, or drawn from a seed."""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from minidiffuser_ros.arm.kinematics import BASE_FRAME
from minidiffuser_ros.geometry.rotation import quat_from_matrix
from minidiffuser_ros.geometry.transform import transform_from
from minidiffuser_ros.simulation.lab import DISTRACTORS, LIGHTS, SURFACES
from minidiffuser_ros.simulation.shifts import Shift
from minidiffuser_ros.simulation.stage import Stage
from minidiffuser_ros.simulation.world import CAMERA_MOUNTS, PREFIX

Array = NDArray[np.float64]

CAMERA_MOVE, CAMERA_TURN = 0.05, np.deg2rad(5.0)
CLEARANCE = 0.06  # m between a distractor and anything else
DISTRACTOR_RADIUS = 0.045
AREA = (np.array([0.30, -0.34]), np.array([0.68, 0.34]))
MOVED_BACK = np.diag([1.0, -1.0, -1.0])  # MuJoCo's cameras look along -z with y up


class Appearance:
    """Of one compiled scene. Remembers how it came, so that every reset starts from there."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._fields = {name: getattr(stage.model, name).copy() for name in VARYING}

    def draw(self, shift: Shift, seed: int) -> dict[str, Array]:
        """Restore, then change what the shift says. Call it when the task's objects stand.

        Returns for each camera the transform [4, 4] from its optical frame to the frame that carries it.
        """
        for name, value in self._fields.items():
            getattr(self._stage.model, name)[:] = value
        rng = np.random.default_rng([seed, 7])
        if shift.lights:
            self._relight(rng)
        if shift.materials:
            self._recolor(rng)
        mounts = {m.name: transform_from(m.position, m.quat_wxyz) for m in CAMERA_MOUNTS.values()}
        if shift.camera:
            self._move_cameras(rng, mounts)
        if shift.distractors:
            self._distract(rng)
        self._stage.settle()  # cameras and lights stand where the last settling saw them
        return mounts

    def _relight(self, rng: np.random.Generator) -> None:
        model = self._stage.model
        for name in LIGHTS:
            light = model.light(name).id
            model.light_diffuse[light] *= rng.uniform(0.45, 1.35) * rng.uniform(0.85, 1.15, 3)
            direction = model.light_dir[light] + rng.normal(0.0, 0.35, 3)
            direction[2] = min(direction[2], -0.3)
            model.light_dir[light] = direction / np.linalg.norm(direction)

    def _recolor(self, rng: np.random.Generator) -> None:
        model = self._stage.model
        for name in SURFACES:
            grey = rng.uniform(0.25, 0.95)
            model.mat_rgba[model.material(name).id, :3] = np.clip(grey + rng.uniform(-0.12, 0.12, 3), 0.0, 1.0)

    def _move_cameras(self, rng: np.random.Generator, mounts: dict[str, Array]) -> None:
        """Those that stand on their own: one on the hand moves with it."""
        model = self._stage.model
        for name, mount in mounts.items():
            if CAMERA_MOUNTS[name].parent_frame != BASE_FRAME:
                continue
            move, axis = (v / np.linalg.norm(v) for v in rng.normal(size=(2, 3)))
            mount[:3, 3] += CAMERA_MOVE * rng.uniform() * move
            mount[:3, :3] = mount[:3, :3] @ Rotation.from_rotvec(CAMERA_TURN * rng.uniform() * axis).as_matrix()
            camera = model.camera(name).id
            model.cam_pos[camera] = mount[:3, 3]
            model.cam_quat[camera] = quat_from_matrix(mount[:3, :3] @ MOVED_BACK)

    def _distract(self, rng: np.random.Generator) -> None:
        """Two to four things where they touch nothing; where there is no room, fewer."""
        stage = self._stage
        taken = _footprints(stage)
        for name in rng.permutation(DISTRACTORS)[: int(rng.integers(2, len(DISTRACTORS) + 1))]:
            for _ in range(60):
                place = rng.uniform(*AREA)
                low, high = place - DISTRACTOR_RADIUS - CLEARANCE, place + DISTRACTOR_RADIUS + CLEARANCE
                if not any((low < t[1]).all() and (high > t[0]).all() for t in taken):
                    stage.place(name, (*place, 0.0), rng.uniform(-np.pi, np.pi))
                    stage.model.geom_rgba[_geoms_of(stage.model, name), :3] = rng.uniform(0.05, 0.95, 3)
                    taken.append((place - DISTRACTOR_RADIUS, place + DISTRACTOR_RADIUS))
                    break


VARYING = ("light_diffuse", "light_dir", "mat_rgba", "cam_pos", "cam_quat")
"""Fields of the model that an appearance changes, beside `geom_rgba`."""


def _geoms_of(model: mujoco.MjModel, body: str) -> list[int]:
    index = model.body(body).id
    return [g for g in range(model.ngeom) if model.geom_bodyid[g] == index]


def _footprints(stage: Stage) -> list[tuple[Array, Array]]:
    """Rectangles on the table (low, high) [2] that the task's things cover, from above."""
    model, data = stage.model, stage.data
    rectangles = []
    for geom in range(model.ngeom):
        body = model.body(model.geom_bodyid[geom]).name
        if body == "world" or body.startswith(PREFIX) or data.geom_xpos[geom, 2] < 0.0:
            continue
        center, half = model.geom_aabb[geom, :3], model.geom_aabb[geom, 3:]
        matrix = data.geom_xmat[geom].reshape(3, 3)
        middle, reach = data.geom_xpos[geom] + matrix @ center, np.abs(matrix) @ half
        rectangles.append(((middle - reach)[:2], (middle + reach)[:2]))
    return rectangles
