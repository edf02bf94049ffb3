"""The simulated cameras see what is there, where it is and in its colour, and the robot itself is taken out."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from scenes import (
    cast_rays,
    clear_table,
    extent,
    perform,
    present,
    same_observation,
    same_views,
    smooth_pixels,
    state,
    view_of,
)

from minidiffuser_ros.arm.kinematics import BASE_FRAME, MAX_GRIPPER_WIDTH, FrankaKinematics
from minidiffuser_ros.arm.self_shape import robot_volumes
from minidiffuser_ros.contract.errors import ObservationError
from minidiffuser_ros.geometry.transform import apply, invert, transform_from
from minidiffuser_ros.perception.builder import MIN_POINTS, CameraView, ObservationBuilder, lift
from minidiffuser_ros.simulation.rendering import MAX_GEOMS, RgbdRenderer
from minidiffuser_ros.simulation.tabletop import Tabletop
from minidiffuser_ros.simulation.tasks.base import CLOSED, OPEN, down
from minidiffuser_ros.simulation.tasks.objects import BLOCK_HALF_SIZE
from minidiffuser_ros.simulation.tasks.stack_pair import BLOCKS
from minidiffuser_ros.simulation.world import CAMERA, CAMERA_MOUNTS, COLORS, PREFIX

POSES = [(0.40, -0.20, 0.25), (0.50, 0.0, 0.15), (0.62, 0.22, 0.10), (0.55, -0.10, 0.02)]


def hue(rgb: np.ndarray) -> np.ndarray:
    """A colour without its brightness, which depends on the light."""
    pure = rgb - 0.9 * rgb.min(axis=-1, keepdims=True)
    return np.asarray(pure / np.linalg.norm(pure, axis=-1, keepdims=True))


def test_both_cameras_give_finite_depth_and_colour_of_one_size(world: Tabletop, task: str) -> None:
    world.reset(task, 0)
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


def test_depth_is_where_rays_through_the_pixels_meet_the_scene(world: Tabletop, task: str) -> None:
    for seed, moves in ((0, 0), (1, 1)):
        world.reset(task, seed)
        perform(world, islice(world.expert(), moves))
        for view in world.views():
            pixels = smooth_pixels(view, 300, seed)
            rendered = view.depth[pixels[:, 1], pixels[:, 0]]
            np.testing.assert_allclose(rendered, cast_rays(world, view, pixels), atol=1e-3, err_msg=view.name)


def test_the_front_camera_sees_something_of_everything_laid_out(world: Tabletop, task: str) -> None:
    for seed in range(2):
        world.reset(task, seed)
        points, _ = lift(view_of(world, "front"))
        for name in present(world.model, world.data):
            low, high = extent(world.model, world.data, name)
            assert ((points > low - 0.002) & (points < high + 0.002)).all(axis=1).sum() > 20, name


@pytest.mark.parametrize("seed", range(6))
def test_the_front_camera_sees_each_block_at_its_distance_and_in_its_colour(world: Tabletop, seed: int) -> None:
    world.reset("stack_pair", seed)
    view = view_of(world, "front")
    for name in present(world.model, world.data):
        top = world.stage.position(name) + np.array([0.0, 0.0, BLOCK_HALF_SIZE])
        seen = apply(invert(view.T_policy_camera), top)
        column, row = np.round(CAMERA.project(seen)).astype(int)
        assert view.depth[row, column] == pytest.approx(seen[2], abs=0.003)
        shown = hue(view.color[row, column].astype(float))
        vivid = [color for color in COLORS if color not in ("white", "black")]
        nearest = min(vivid, key=lambda c: float(np.linalg.norm(hue(np.array(COLORS[c])) - shown)))
        assert nearest == world.stage.color_of(name)


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
    table = points[((points[:, :2] > low) & (points[:, :2] < high)).all(axis=1) & (points[:, 2] < 0.01)]
    assert len(table) > 2000
    assert np.abs(table[:, 2]).max() < 0.002


@pytest.mark.parametrize("seed", range(3))
def test_both_cameras_agree_where_a_block_is(world: Tabletop, seed: int) -> None:
    world.reset("stack_pair", seed)
    world.stage.clear()
    world.stage.place(BLOCKS[0], (0.56, 0.02, BLOCK_HALF_SIZE), 0.4)
    world.stage.settle()
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
    robot = (world.arm.joint_positions, world.arm.opening, world.arm.tool_transform, 0)
    seen = ObservationBuilder(world.builder.spec).build(world.views(), *robot)
    assert len(seen.points) > 10 * MIN_POINTS
    with pytest.raises(ObservationError, match=r"only \d+ points above the table"):
        world.observe()


def test_what_the_hand_holds_stays_in_the_observation(world: Tabletop) -> None:
    world.reset("stack_pair", 100)
    perform(world, islice(world.expert(), 3))
    held = world.stage.position(BLOCKS[0])
    assert held[2] > 0.1
    points = world.observe().points
    assert (np.linalg.norm(points - held, axis=1) < 2 * BLOCK_HALF_SIZE).sum() >= 5


def test_an_observation_follows_from_pictures_calibration_joints_and_gripper_alone(world: Tabletop, task: str) -> None:
    world.reset(task, 2)
    world.execute(next(world.expert()))
    joints = np.array([world.stage.joint(f"{PREFIX}fr3_joint{i}") for i in range(1, 8)])
    kinematics = FrankaKinematics()
    tool = kinematics.forward(joints)
    views = []
    for view, mount in zip(world.views(), CAMERA_MOUNTS.values(), strict=True):
        parent = np.eye(4) if mount.parent_frame == BASE_FRAME else tool
        extrinsics = parent @ transform_from(mount.position, mount.quat_wxyz)
        views.append(CameraView(mount.name, view.color, view.depth, CAMERA, extrinsics, view.stamp_ns))
    builder = ObservationBuilder(world.builder.spec, robot_volumes(kinematics))
    opening = min(max(world.stage.finger_opening / MAX_GRIPPER_WIDTH, 0.0), 1.0)
    same_observation(world.observe(), builder.build(views, joints, opening, tool, views[0].stamp_ns))


def test_what_no_camera_sees_does_not_change_the_observation(world: Tabletop, task: str) -> None:
    world.reset(task, 4)
    views, before = world.views(), world.observe()
    model, data = world.model, world.data
    hidden = [g for g in range(model.ngeom) if data.geom_xpos[g, 0] < -1.2]
    fields = (model.geom_rgba, model.body_mass, model.geom_friction, data.qvel, data.cvel, data.xfrc_applied)
    kept = [field.copy() for field in fields]
    model.geom_rgba[hidden, :3] = np.random.default_rng(0).uniform(size=(len(hidden), 3))
    for field in fields[1:]:
        field += 1.0
    world.task.variation = (world.task.variation + 1) % world.task.num_variations
    world.task.sentence = "dance"
    same_views(world.views(), views)
    same_observation(world.observe(), before)
    for field, value in zip(fields, kept, strict=True):
        field[:] = value


def test_observing_does_not_change_the_world(world: Tabletop, task: str) -> None:
    world.reset(task, 1)
    before = state(world)
    world.observe()
    world.picture("wrist")
    np.testing.assert_array_equal(state(world), before)


def test_two_renderers_in_one_thread_do_not_disturb_each_other(world: Tabletop) -> None:
    world.reset("push_button", 3)
    before = {name: world.picture(name) for name in CAMERA_MOUNTS}
    small = RgbdRenderer(world.model, CAMERA.scaled(106, 60))
    assert small.render(world.model, world.data, "front")[0].shape == (60, 106, 3)
    for name, picture in before.items():
        np.testing.assert_array_equal(world.picture(name), picture)
        small.render(world.model, world.data, name)
    small.close()
    small.close()
    for name, picture in before.items():
        np.testing.assert_array_equal(world.picture(name), picture)


def test_one_renderer_draws_the_scenes_of_all_tasks_as_their_own_do(world: Tabletop, task: str) -> None:
    world.reset(task, 6)
    own = RgbdRenderer(world.model, CAMERA)
    for view in world.views():
        color, depth = own.render(world.model, world.data, view.name)
        np.testing.assert_array_equal(view.color, color)
        np.testing.assert_array_equal(view.depth, depth)
    own.close()


def test_no_scene_has_more_geoms_than_are_drawn(world: Tabletop, task: str) -> None:
    world.reset(task, 0)
    assert world.model.ngeom < MAX_GEOMS
