"""A stage says where things are and whether they touch, and puts them where it is told."""

from __future__ import annotations

from itertools import islice

import mujoco
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scenes import WALL, perform

from minidiffuser_ros.arm.kinematics import HOME_JOINTS
from minidiffuser_ros.geometry.rotation import POINTING_DOWN_WXYZ
from minidiffuser_ros.geometry.transform import apply
from minidiffuser_ros.simulation.parts import box, ring, site
from minidiffuser_ros.simulation.stage import FINGERS, Stage
from minidiffuser_ros.simulation.tabletop import Tabletop
from minidiffuser_ros.simulation.tasks.base import OPEN, down
from minidiffuser_ros.simulation.tasks.objects import BLOCK_HALF_SIZE, BUTTON_TRAVEL, add_block, add_button
from minidiffuser_ros.simulation.tasks.stack_pair import BLOCKS
from minidiffuser_ros.simulation.world import COLORS, PREFIX, SceneBuilder

THINGS = ("block", "button")
QUATS = {  # wxyz, and the tilt and the yaw of what is turned so
    "upright": ((1.0, 0.0, 0.0, 0.0), 0.0, 0.0),
    "turned": ((np.cos(0.3), 0.0, 0.0, np.sin(0.3)), 0.0, 0.6),
    "tipped": ((np.cos(0.2), 0.0, np.sin(0.2), 0.0), 0.4, 0.0),
    "lying": ((np.sqrt(0.5), np.sqrt(0.5), 0.0, 0.0), np.pi / 2, 0.0),
    "upside down": ((0.0, 1.0, 0.0, 0.0), np.pi, 0.0),
}


@pytest.fixture(scope="module")
def compiled() -> mujoco.MjModel:
    scene = SceneBuilder()
    add_block(scene, "block")
    add_block(scene, "block_2")
    add_button(scene, "button")
    hoop = scene.movable("hoop")
    ring(hoop, 0.03, 0.01, 0.01, name="hoop", segments=12)
    box(hoop, (0.01, 0.01, 0.01), (0.1, 0, 0), name="hoop_handle")
    site(hoop, "hoop_top", (0, 0, 0.01))
    return scene.compile()


@pytest.fixture
def stage(compiled: mujoco.MjModel) -> Stage:
    stage = Stage(compiled, mujoco.MjData(compiled))
    stage.settle()
    return stage


@pytest.mark.parametrize("name", THINGS)
@pytest.mark.parametrize("yaw", [0.0, 0.7, -2.0])
def test_a_thing_stands_where_it_was_placed_and_turned(stage: Stage, name: str, yaw: float) -> None:
    stage.place(name, (0.5, -0.1, 0.2), yaw)
    stage.settle()
    assert_allclose(stage.position(name), [0.5, -0.1, 0.2], atol=1e-12)
    assert stage.yaw(name) == pytest.approx(yaw)
    assert stage.tilt(name) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("name", THINGS)
@pytest.mark.parametrize("pose", QUATS)
def test_tilt_and_yaw_are_those_of_the_quaternion(stage: Stage, name: str, pose: str) -> None:
    quat, tilt, yaw = QUATS[pose]
    stage.place(name, (0.5, 0.0, 0.3), quat_wxyz=quat)
    stage.settle()
    assert stage.tilt(name) == pytest.approx(tilt, abs=1e-6)
    assert stage.yaw(name) == pytest.approx(yaw, abs=1e-6)


def test_what_is_placed_is_at_rest(stage: Stage) -> None:
    stage.data.joint("block_free").qvel[:] = 1.0
    stage.place("block", (0.5, 0.0, 0.3))
    assert stage.speed("block") == 0.0


@pytest.mark.parametrize("component", range(6))
def test_speed_is_the_largest_component_whatever_its_sign(stage: Stage, component: int) -> None:
    stage.data.joint("block_free").qvel[component] = -0.3
    assert stage.speed("block") == pytest.approx(0.3)


def test_a_transform_carries_points_of_a_body_to_where_they_are(stage: Stage) -> None:
    stage.place("hoop", (0.4, 0.2, 0.3), quat_wxyz=QUATS["tipped"][0])
    stage.settle()
    assert_allclose(apply(stage.transform("hoop"), np.array([0.0, 0.0, 0.01])), stage.site("hoop_top"), atol=1e-12)
    assert_array_equal(stage.transform("hoop")[:3, 3], stage.position("hoop"))


def test_a_joint_stands_where_it_was_set_at_rest_and_carries_its_body(stage: Stage) -> None:
    rest = stage.position("button_cap")[2]
    stage.data.joint("button_slide").qvel[0] = 1.0
    stage.set_joint("button_slide", -0.5 * BUTTON_TRAVEL)
    stage.settle()
    assert stage.joint("button_slide") == -0.5 * BUTTON_TRAVEL
    assert stage.data.joint("button_slide").qvel[0] == 0.0
    assert stage.position("button_cap")[2] == pytest.approx(rest - 0.5 * BUTTON_TRAVEL)


def test_to_clear_parks_everything_behind_the_wall_and_leaves_the_robot(stage: Stage) -> None:
    joints = [f"{PREFIX}fr3_joint{i}" for i in range(1, 8)]
    for name, value in zip(joints, HOME_JOINTS, strict=True):
        stage.data.joint(name).qpos[0] = value
    for name in ("block", "block_2", "button", "hoop"):
        stage.place(name, (0.5, 0.0, 0.3), 1.0)
    stage.set_joint("button_slide", -0.01)
    stage.clear()
    stage.settle()
    parked = np.array([stage.position(name) for name in ("block", "block_2", "button", "hoop")])
    gaps = np.linalg.norm(parked[:, None] - parked[None], axis=-1) + np.eye(4)
    assert (parked[:, 0] < WALL).all()
    assert gaps.min() > 0.4
    assert stage.joint("button_slide") == stage.speed("block") == stage.yaw("block") == stage.yaw("button") == 0.0
    assert_array_equal([stage.joint(name) for name in joints], HOME_JOINTS)


@pytest.mark.parametrize("color", COLORS)
def test_a_geom_has_the_colour_that_it_was_painted(stage: Stage, color: str) -> None:
    stage.paint("button_cap", color)
    assert stage.color_of("button_cap") == color


def test_paint_covers_all_numbered_geoms_and_no_others(stage: Stage) -> None:
    before = stage.model.geom_rgba.copy()
    stage.paint("hoop", "red")
    stage.paint("block", "green")
    changed = (stage.model.geom_rgba != before).any(axis=1)
    painted = {stage.model.geom(int(g)).name for g in np.nonzero(changed)[0]}
    assert painted == {f"hoop_{i}" for i in range(12)} | {"block", "block_2"}
    assert {stage.color_of(f"hoop_{i}") for i in range(12)} == {"red"}
    stage.model.geom_rgba[:] = before


@pytest.mark.parametrize(("gap", "touching"), [(-0.0005, True), (0.005, False)])
def test_two_bodies_touch_where_there_is_no_gap_between_them(stage: Stage, gap: float, touching: bool) -> None:
    stage.place("block", (0.5, 0.0, 0.3))
    stage.place("block_2", (0.5, 0.0, 0.3 + 2 * BLOCK_HALF_SIZE + gap))
    stage.settle()
    assert stage.touching("block", "block_2") is stage.touching("block_2", "block") is touching
    assert not stage.touching("block", "button")


def test_only_what_both_fingers_touch_is_held(world: Tabletop) -> None:
    world.reset("stack_pair", 100)
    stage, block = world.stage, BLOCKS[0]
    assert not stage.held(block)
    perform(world, islice(world.expert(), 3))
    assert stage.held(block)
    assert stage.position(block)[2] > 0.1
    x, y, z = stage.tool
    world.execute(down(x, y, z, OPEN, stage.yaw(block)))
    assert not stage.held(block)


@pytest.mark.parametrize("side", [0, 1])
def test_what_one_finger_touches_is_not_held(world: Tabletop, side: int) -> None:
    world.reset("stack_pair", 0)
    stage, block = world.stage, BLOCKS[0]
    axis = stage.position(FINGERS[side]) - stage.position(FINGERS[1 - side])
    inside = 0.5 * stage.finger_opening - BLOCK_HALF_SIZE + 0.001
    stage.place(block, stage.tool + inside * axis / np.linalg.norm(axis), quat_wxyz=POINTING_DOWN_WXYZ)
    stage.settle()
    assert [stage.touching(block, finger) for finger in FINGERS] == [side == 0, side == 1]
    assert not stage.held(block)


def test_the_opening_is_the_distance_between_the_fingers_and_the_tool_lies_between_them(world: Tabletop) -> None:
    world.reset("push_button", 0)
    for opening in (0.25, 0.75):
        world.execute(down(0.5, 0.0, 0.3, opening))
        left, right = (world.stage.position(finger) for finger in FINGERS)
        assert world.stage.finger_opening == pytest.approx(np.linalg.norm(left - right), abs=1e-4)
        assert world.stage.finger_opening == pytest.approx(0.08 * opening, abs=1e-3)
        assert_allclose(world.stage.tool[:2], 0.5 * (left + right)[:2], atol=1e-3)
        assert_allclose(world.stage.tool, [0.5, 0.0, 0.3], atol=2e-3)
