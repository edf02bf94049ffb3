"""The simulated cameras see what is there, where it is and in its colour, and the robot itself is taken out."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from minidiffuser_ros.contract.errors import ObservationError
from minidiffuser_ros.geometry.transform import apply, invert
from minidiffuser_ros.perception.builder import MIN_POINTS, CameraView, ObservationBuilder, lift
from minidiffuser_ros.simulation.rendering import RgbdRenderer
from minidiffuser_ros.simulation.tabletop import Tabletop
from minidiffuser_ros.simulation.tasks import TASKS
from minidiffuser_ros.simulation.tasks.base import CLOSED, OPEN, down, park_all, place_block, place_button
from minidiffuser_ros.simulation.world import BLOCK_HALF_SIZE, BODIES, CAMERA, CAMERA_MOUNTS, COLORS

POSES = [(0.40, -0.20, 0.25), (0.50, 0.0, 0.15), (0.62, 0.22, 0.10)]


def clear_table(world: Tabletop) -> None:
    world.reset("push_button", 0)
    park_all(world.model, world.data)
    mujoco.mj_forward(world.model, world.data)


def view_of(world: Tabletop, camera: str) -> CameraView:
    return next(view for view in world.views() if view.name == camera)


def hue(rgb: np.ndarray) -> np.ndarray:
    """A colour without its brightness, which depends on the light."""
    pure = rgb - 0.9 * rgb.min(axis=-1, keepdims=True)
    return np.asarray(pure / np.linalg.norm(pure, axis=-1, keepdims=True))


@pytest.mark.parametrize("task", TASKS)
def test_both_cameras_give_finite_depth_and_colour_of_one_size(world: Tabletop, task: str) -> None:
    for seed in range(3):
        world.reset(task, seed)
        views = world.views()
        assert [view.name for view in views] == list(CAMERA_MOUNTS) == list(world.builder.spec.cameras)
        for view in views:
            assert view.color.shape == (CAMERA.height, CAMERA.width, 3)
            assert view.depth.shape == (CAMERA.height, CAMERA.width)
            assert view.color.dtype == np.uint8
            assert view.depth.dtype == np.float32
            assert np.isfinite(view.depth).all()
            assert (view.depth > 0.05).all()
            assert (view.depth < 10.0).all()
            assert np.ptp(view.color) > 50


@pytest.mark.parametrize("seed", range(6))
def test_the_front_camera_sees_each_block_at_its_distance_and_in_its_colour(world: Tabletop, seed: int) -> None:
    world.reset("stack_blocks", seed)
    view = view_of(world, "front")
    for name in BODIES.blocks:
        block = world.data.body(name)
        if block.xpos[2] < 0.0:
            continue  # parked
        top = block.xpos + np.array([0.0, 0.0, BLOCK_HALF_SIZE])
        seen = apply(invert(view.T_policy_camera), top)
        column, row = np.round(CAMERA.project(seen)).astype(int)
        assert view.depth[row, column] == pytest.approx(seen[2], abs=0.003)
        shown = hue(view.color[row, column].astype(float))
        color = world.model.geom_rgba[world.model.geom(name).id, :3]
        nearest = min(COLORS, key=lambda c: float(np.linalg.norm(hue(np.array(COLORS[c])) - shown)))
        np.testing.assert_allclose(COLORS[nearest], color, atol=1e-6)


@pytest.mark.parametrize("camera", CAMERA_MOUNTS)
@pytest.mark.parametrize("position", POSES)
def test_an_empty_table_is_flat_at_height_zero_from_wherever_the_arm_stands(
    world: Tabletop, camera: str, position: tuple[float, float, float]
) -> None:
    clear_table(world)
    world.execute(down(*position, OPEN, 0.3))
    points, _ = lift(view_of(world, camera))
    spec = world.builder.spec
    low, high = (np.array(corner)[:2] for corner in (spec.workspace_min, spec.workspace_max))
    table = points[((points[:, :2] > low) & (points[:, :2] < high)).all(axis=1) & (points[:, 2] < 0.03)]
    assert len(table) > 2000
    assert np.abs(table[:, 2]).max() < 0.002


@pytest.mark.parametrize("seed", range(3))
def test_both_cameras_agree_where_a_block_is(world: Tabletop, seed: int) -> None:
    world.reset("stack_blocks", seed)
    place_block(world.model, world.data, BODIES.blocks[0], np.array([0.56, 0.02, BLOCK_HALF_SIZE]), 0.4)
    for name in BODIES.blocks[1:]:
        place_block(world.model, world.data, name, np.array([-1.0, 0.3 * int(name[-1]), -0.7]), 0.0)
    mujoco.mj_forward(world.model, world.data)
    centers = []
    for camera in CAMERA_MOUNTS:
        points, _ = lift(view_of(world, camera))
        on_top = np.abs(points - np.array([0.56, 0.02, 2 * BLOCK_HALF_SIZE])).max(axis=1) < 0.035
        on_top &= points[:, 2] > 2 * BLOCK_HALF_SIZE - 0.002
        assert on_top.sum() > 50
        centers.append(points[on_top].mean(axis=0))
    np.testing.assert_allclose(centers[0], centers[1], atol=0.003)
    np.testing.assert_allclose(centers[0], [0.56, 0.02, 2 * BLOCK_HALF_SIZE], atol=0.003)


@pytest.mark.parametrize("opening", [OPEN, CLOSED])
@pytest.mark.parametrize("position", POSES)
def test_the_robot_is_no_part_of_the_observation(
    world: Tabletop, position: tuple[float, float, float], opening: float
) -> None:
    clear_table(world)
    world.execute(down(*position, opening, -0.4))
    state = (world.arm.joint_positions, world.arm.opening, world.arm.tool_transform, 0)
    seen = ObservationBuilder(world.builder.spec).build(world.views(), *state)
    assert len(seen.points) > 10 * MIN_POINTS
    with pytest.raises(ObservationError, match=r"only \d+ points above the table"):
        world.observe()


def test_what_the_hand_holds_stays_in_the_observation(world: Tabletop) -> None:
    world.reset("stack_blocks", 100)
    for keypose in world.expert()[:3]:
        world.execute(keypose)
    held = world.data.body(BODIES.blocks[0]).xpos
    assert held[2] > 0.1
    points = world.observe().points
    assert (np.linalg.norm(points - held, axis=1) < 2 * BLOCK_HALF_SIZE).sum() >= 5


@pytest.mark.parametrize("task", TASKS)
def test_objects_that_no_camera_sees_do_not_change_the_observation(world: Tabletop, task: str) -> None:
    world.reset(task, 4)
    before = world.observe()
    for index in range(3):
        elsewhere = np.array([-1.5, 0.3 * index, -0.4])
        if task == "push_button":
            place_block(world.model, world.data, BODIES.blocks[index], elsewhere, 0.5)
        else:
            place_button(world.model, world.data, BODIES.buttons[index], elsewhere)
    mujoco.mj_forward(world.model, world.data)
    np.testing.assert_array_equal(world.observe().points, before.points)
    np.testing.assert_array_equal(world.observe().colors, before.colors)


@pytest.mark.parametrize("task", TASKS)
def test_the_sentence_is_not_in_the_observation(world: Tabletop, task: str) -> None:
    world.reset(task, 4)
    before = world.observe()
    world.task.variation = (world.task.variation + 1) % world.task.num_variations
    np.testing.assert_array_equal(world.observe().points, before.points)
    np.testing.assert_array_equal(world.observe().colors, before.colors)


def test_observing_does_not_change_the_world(world: Tabletop) -> None:
    world.reset("stack_blocks", 1)
    before = np.concatenate([world.data.qpos, world.data.qvel, world.data.ctrl, [world.data.time]])
    world.observe()
    world.picture("wrist")
    np.testing.assert_array_equal(
        np.concatenate([world.data.qpos, world.data.qvel, world.data.ctrl, [world.data.time]]), before
    )


def test_two_renderers_in_one_thread_do_not_disturb_each_other(world: Tabletop) -> None:
    world.reset("push_button", 3)
    before = {name: world.picture(name) for name in CAMERA_MOUNTS}
    small = RgbdRenderer(world.model, CAMERA.scaled(106, 60))
    assert small.render(world.data, "front")[0].shape == (60, 106, 3)
    for name, picture in before.items():
        np.testing.assert_array_equal(world.picture(name), picture)
        small.render(world.data, name)
    small.close()
    small.close()
    for name, picture in before.items():
        np.testing.assert_array_equal(world.picture(name), picture)
