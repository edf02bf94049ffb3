"""The world behind the robot's protocol lays out the same scenes, and answers or says why it does not."""

from __future__ import annotations

import os
from collections.abc import Iterator

import mujoco
import numpy as np
import pytest
from scenes import geoms_of, present

from minidiffuser_ros.arm.envelope import SafetyEnvelope
from minidiffuser_ros.arm.execution_settings import ExecutionSettings
from minidiffuser_ros.arm.executor import KeyposeExecutor
from minidiffuser_ros.arm.franky_arm import FrankyArm
from minidiffuser_ros.arm.franky_settings import FrankySettings
from minidiffuser_ros.arm.goal import KeyposeGoal
from minidiffuser_ros.contract.errors import ConfigurationError, ConnectionLostError, UnknownTaskError
from minidiffuser_ros.simulation.protocol import ServedWorld, WorldCameras
from minidiffuser_ros.simulation.rendering import RgbdRenderer
from minidiffuser_ros.simulation.stage import Stage
from minidiffuser_ros.simulation.tabletop import Tabletop
from minidiffuser_ros.simulation.tasks import TASKS
from minidiffuser_ros.simulation.tasks.base import CLOSED, FINGERTIP_BELOW_TOOL, down
from minidiffuser_ros.simulation.tasks.objects import BUTTON_CAP_TOP, add_block
from minidiffuser_ros.simulation.tasks.push_button import BUTTONS
from minidiffuser_ros.simulation.tasks.stack_pair import BLOCKS, StackPair
from minidiffuser_ros.simulation.world import CAMERA, CAMERA_MOUNTS, PREFIX, SceneBuilder

SEED, SPEED = 7, 0.8
PATIENT = ExecutionSettings(settle_timeout_s=20.0)  # the world is slow where others compute, too


def address(host: int) -> str:
    """A loopback address that no other test run uses."""
    pid = os.getpid()
    return f"127.{host}.{pid // 250 % 250}.{1 + pid % 250}"


@pytest.fixture(scope="module")
def served() -> Iterator[ServedWorld]:
    served = ServedWorld(address(205))
    yield served
    served.close()


@pytest.fixture(scope="module")
def cameras(served: ServedWorld) -> Iterator[WorldCameras]:
    cameras = WorldCameras(served)
    yield cameras
    cameras.close()


def stage_of(served: ServedWorld) -> Stage:
    """The served world as it is now."""
    snapshot = served.snapshot()
    mujoco.mj_forward(snapshot.model, snapshot.data)
    return Stage(snapshot.model, snapshot.data)


def places(stage: Stage) -> np.ndarray:
    """Where every geom of the things laid out is [N, 3]."""
    return np.array(stage.data.geom_xpos[geoms_of(stage.model, present(stage.model, stage.data))])


@pytest.mark.parametrize("name", TASKS)
def test_the_same_seed_lays_out_the_same_scene_in_both_worlds(world: Tabletop, served: ServedWorld, name: str) -> None:
    for seed in (0, 8):
        assert served.reset(name, seed) == world.reset(name, seed)
        stage = stage_of(served)
        # The served world has been stepping meanwhile: things have settled by a hair.
        np.testing.assert_allclose(places(stage), places(world.stage), atol=2e-3)
        theirs = geoms_of(world.model, present(world.model, world.data))
        np.testing.assert_array_equal(stage.model.geom_rgba[theirs], world.model.geom_rgba[theirs])


@pytest.mark.parametrize("name", TASKS)
def test_a_scene_just_laid_out_is_not_done_and_says_so_with_its_sentence(served: ServedWorld, name: str) -> None:
    sentence = served.reset(name, 3)
    assert served.success() == (False, f"'{sentence}' is not done")


@pytest.mark.parametrize(("name", "variation"), [("fold_laundry", None), ("push_button", 99)])
def test_a_reset_that_is_refused_changes_nothing(served: ServedWorld, name: str, variation: int | None) -> None:
    sentence = served.reset("stack_pair", 5)
    before = places(stage_of(served))
    with pytest.raises(UnknownTaskError, match=r"choose one of|variations 0 to"):
        served.reset(name, 0, variation)
    np.testing.assert_allclose(places(stage_of(served)), before, atol=1e-3)
    assert sentence in served.success()[1]


def test_its_pictures_show_the_objects_of_the_task_laid_out_last(
    world: Tabletop, served: ServedWorld, cameras: WorldCameras
) -> None:
    pictures = []
    for name in ("push_button", "stack_pair", "push_button"):
        served.reset(name, 4)
        world.reset(name, 4)
        stage = stage_of(served)
        for joint in (world.model.joint(i).name for i in range(world.model.njnt)):
            if joint.startswith(PREFIX):
                world.data.joint(joint).qpos[:] = stage.data.joint(joint).qpos
        world.stage.settle()
        cameras.snapshot()
        for view in world.views():
            color, depth = cameras.render(view.name)
            differs = np.abs(color.astype(int) - view.color).max(axis=-1) > 20
            assert differs.mean() < 2e-3, (name, view.name)
            assert (np.abs(depth - view.depth) > 5e-3).mean() < 2e-3, (name, view.name)
        pictures.append(cameras.render("front")[0])
    assert (pictures[0] != pictures[1]).any(axis=-1).mean() > 0.02


def test_a_scene_of_other_sizes_is_not_mistaken_for_the_one_before(
    served: ServedWorld, cameras: WorldCameras, monkeypatch: pytest.MonkeyPatch
) -> None:
    class StackSmaller(StackPair):
        name = "stack_smaller"

        @classmethod
        def build(cls, scene: SceneBuilder) -> None:
            for block in BLOCKS:
                add_block(scene, block, 0.012)

    monkeypatch.setitem(TASKS, "stack_smaller", StackSmaller)
    seen = []
    for name in ("stack_pair", "stack_smaller", "stack_pair"):
        served.reset(name, 4)
        cameras.snapshot()
        stage = stage_of(served)
        renderer = RgbdRenderer(stage.model, CAMERA)
        _, depth = renderer.render(stage.model, stage.data, "front")
        renderer.close()
        seen.append(cameras.render("front")[1])
        assert (np.abs(seen[-1] - depth) > 5e-3).mean() < 2e-3, name
    assert (np.abs(seen[0] - seen[1]) > 5e-3).mean() > 2e-3


def test_the_arm_goes_on_in_an_exchanged_scene_and_the_rule_judges_what_it_does_there(served: ServedWorld) -> None:
    served.reset("stack_pair", SEED)
    arm = FrankyArm(served.address, FrankySettings(gripper_timeout_s=40.0))
    executor = KeyposeExecutor(arm, SafetyEnvelope(), PATIENT)
    goal = down(0.50, 0.05, 0.25, 0.5, 0.2)
    outcome = executor.execute(KeyposeGoal(goal), SPEED)
    assert outcome.success, outcome.message
    before = arm.state()
    sentence = served.reset("push_button", SEED)
    assert served.success() == (False, f"'{sentence}' is not done")
    after, stage = arm.state(), stage_of(served)
    np.testing.assert_allclose(after.joints, before.joints, atol=0.01)
    assert after.width == pytest.approx(before.width, abs=1e-3)
    np.testing.assert_allclose(stage.tool, goal.position, atol=5e-3)
    x, y, _ = stage.position(BUTTONS[0])
    for height in (0.05, -0.012):
        press = down(x, y, BUTTON_CAP_TOP + FINGERTIP_BELOW_TOOL + height, CLOSED)
        outcome = executor.execute(KeyposeGoal(press), SPEED)
        assert outcome.success, outcome.message
    assert served.success() == (True, f"'{sentence}' is done")
    arm.close()


def test_its_cameras_give_finite_depth_and_an_unknown_one_is_named(served: ServedWorld, cameras: WorldCameras) -> None:
    served.reset("push_button", 1)
    cameras.snapshot()
    for name in CAMERA_MOUNTS:
        color, depth = cameras.render(name)
        assert color.shape == (CAMERA.height, CAMERA.width, 3)
        assert np.isfinite(depth).all()
    with pytest.raises(ConfigurationError, match="no camera 'left'; the world has front, wrist"):
        cameras.render("left")


def test_an_address_is_served_only_once(served: ServedWorld) -> None:
    with pytest.raises(ConfigurationError, match=f"cannot serve an arm at {served.address}.* free loopback address"):
        ServedWorld(served.address)


def test_a_world_without_a_task_and_a_closed_one_say_so() -> None:
    served = ServedWorld(address(206))
    assert served.success() == (False, "no task is laid out: reset the simulation first")
    served.close()
    with pytest.raises(ConnectionLostError, match=f"{served.address} has stopped: closed"):
        served.success()
    served.close()
