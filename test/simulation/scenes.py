"""What the tests ask of any scene: what stands in it, how it looks, and what happens when it is played."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import mujoco
import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.contract.observation import Observation
from minidiffuser_ros.geometry.transform import apply
from minidiffuser_ros.perception.builder import CameraView
from minidiffuser_ros.simulation.lab import DISTRACTORS
from minidiffuser_ros.simulation.shifts import NONE, Shift
from minidiffuser_ros.simulation.tabletop import Tabletop, shared_world
from minidiffuser_ros.simulation.world import CAMERA, PREFIX

Array = NDArray[np.float64]

WALL = -1.0  # m: unused things wait behind it
SEEN_GROUPS = np.array([1, 1, 1, 0, 0, 0], np.uint8)  # of geoms, those that cameras draw


def things(model: mujoco.MjModel) -> list[str]:
    """The bodies of the task that stand on their own."""
    roots = [model.body(i).name for i in range(1, model.nbody) if model.body_parentid[i] == 0]
    return [name for name in roots if not name.startswith(PREFIX) and name not in DISTRACTORS]


def present(model: mujoco.MjModel, data: mujoco.MjData) -> list[str]:
    """Those of them that are laid out."""
    return [name for name in things(model) if data.body(name).xpos[0] > WALL]


def geoms_of(model: mujoco.MjModel, names: Iterable[str]) -> list[int]:
    """All geoms of bodies that stand on their own, with what they carry."""
    roots = {model.body(name).id for name in names}
    return [g for g in range(model.ngeom) if model.body_rootid[model.geom_bodyid[g]] in roots]


def extent(model: mujoco.MjModel, data: mujoco.MjData, name: str) -> tuple[Array, Array]:
    """Lowest and highest corner [3] of the box around a body and what it carries."""
    geoms = geoms_of(model, [name])
    matrices = data.geom_xmat[geoms].reshape(-1, 3, 3)
    middles = data.geom_xpos[geoms] + np.einsum("gij,gj->gi", matrices, model.geom_aabb[geoms, :3])
    reaches = np.einsum("gij,gj->gi", np.abs(matrices), model.geom_aabb[geoms, 3:])
    return (middles - reaches).min(axis=0), (middles + reaches).max(axis=0)


def places(world: Tabletop) -> Array:
    """Where every geom of the things laid out is [N, 3]: speaks of turns, too."""
    return np.array(world.data.geom_xpos[geoms_of(world.model, present(world.model, world.data))])


def state(world: Tabletop) -> Array:
    """Everything that moves [N]."""
    data = world.data
    parts = (data.qpos, data.qvel, data.ctrl, data.mocap_pos.ravel(), data.mocap_quat.ravel(), [data.time])
    return np.concatenate(parts)


def clear_table(world: Tabletop) -> None:
    """A table with nothing on it."""
    world.reset("push_button", 0)
    world.stage.clear()
    world.stage.settle()


def view_of(world: Tabletop, camera: str) -> CameraView:
    return next(view for view in world.views() if view.name == camera)


def same_views(first: Sequence[CameraView], second: Sequence[CameraView]) -> None:
    for mine, theirs in zip(first, second, strict=True):
        np.testing.assert_array_equal(mine.color, theirs.color)
        np.testing.assert_array_equal(mine.depth, theirs.depth)
        np.testing.assert_array_equal(mine.T_policy_camera, theirs.T_policy_camera)


def same_observation(first: Observation, second: Observation) -> None:
    for name in ("points", "colors", "tool_position", "tool_quat_wxyz", "joint_positions"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)
    assert (first.opening, first.stamp_ns, first.spec) == (second.opening, second.stamp_ns, second.spec)


def digest(world: Tabletop, task: str, seed: int, shift: Shift = NONE) -> str:
    """Of the sentence and of every byte that the cameras see right after the reset."""
    sentence = world.reset(task, seed, shift=shift)
    sha = hashlib.sha256(sentence.encode())
    for view in world.views():
        sha.update(view.color.tobytes() + view.depth.tobytes() + view.T_policy_camera.tobytes())
    return sha.hexdigest()


def smooth_pixels(view: CameraView, count: int, seed: int) -> NDArray[np.intp]:
    """Pixels (column, row) [count, 2] at random, on surfaces: not at edges, where depth jumps or bends."""
    depth = view.depth.astype(np.float64)
    inner = depth[1:-1, 1:-1]
    bends = [depth[2:, 1:-1] - 2 * inner + depth[:-2, 1:-1], depth[1:-1, 2:] - 2 * inner + depth[1:-1, :-2]]
    jumps = [depth[2:, 1:-1] - depth[:-2, 1:-1], depth[1:-1, 2:] - depth[1:-1, :-2]]
    rows, columns = np.nonzero((np.abs(bends).max(axis=0) < 5e-4) & (np.abs(jumps).max(axis=0) < 0.02))
    chosen = np.random.default_rng(seed).choice(len(rows), count, replace=False)
    return np.column_stack([columns, rows])[chosen] + 1


def cast_rays(world: Tabletop, view: CameraView, pixels: NDArray[np.intp]) -> Array:
    """Depth [N] along the optical axis at pixels (column, row) [N, 2], from the geometry of the scene."""
    rays = np.column_stack([(pixels - [CAMERA.cx, CAMERA.cy]) / [CAMERA.fx, CAMERA.fy], np.ones(len(pixels))])
    origin, directions = view.T_policy_camera[:3, 3].copy(), apply(view.T_policy_camera, rays)
    geom = np.zeros(1, np.int32)
    return np.array([
        mujoco.mj_ray(world.model, world.data, origin, end - origin, SEEN_GROUPS, True, -1, geom) for end in directions
    ])  # fmt: skip


def perform(world: Tabletop, keyposes: Iterable[Keypose]) -> None:
    for keypose in keyposes:
        world.execute(keypose)


@dataclass(frozen=True)
class Performance:
    """Of the expert: its keyposes, whether the rule held after each, and what was held against it at the end."""

    keyposes: tuple[Keypose, ...]
    done: tuple[bool, ...]
    mistake: str


@cache
def performance(task: str, seed: int, variation: int | None = None, shift: Shift = NONE) -> Performance:
    """What the expert does in the shared world; remembered, as it is always the same."""
    world = shared_world()
    world.reset(task, seed, variation, shift)
    keyposes, done = [], []
    for keypose in world.expert():
        world.execute(keypose)
        keyposes.append(keypose)
        done.append(world.success())
    return Performance(tuple(keyposes), tuple(done), world.mistake())
