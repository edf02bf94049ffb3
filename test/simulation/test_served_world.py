"""The world behind the robot's protocol lays out the same scenes, and answers or says why it does not."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator

import mujoco
import numpy as np
import pytest

from minidiffuser_ros.contract.errors import ConfigurationError, ConnectionLostError, UnknownTaskError
from minidiffuser_ros.simulation.protocol import ServedWorld, WorldCameras
from minidiffuser_ros.simulation.tabletop import Tabletop
from minidiffuser_ros.simulation.tasks import TASKS
from minidiffuser_ros.simulation.world import BODIES, CAMERA, CAMERA_MOUNTS


def address(host: int) -> str:
    """A loopback address that no other test run uses."""
    pid = os.getpid()
    return f"127.{host}.{pid // 250 % 250}.{1 + pid % 250}"


@pytest.fixture(scope="module")
def served() -> Iterator[ServedWorld]:
    served = ServedWorld(address(205))
    yield served
    served.close()


def places(model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
    """Where every object stands [N, 3] and its colour."""
    mujoco.mj_forward(model, data)
    return np.array([data.body(name).xpos for name in BODIES.buttons + BODIES.blocks])


def served_places(served: ServedWorld) -> np.ndarray:
    model = copy.copy(served.model)
    data = mujoco.MjData(model)
    served.copy_into(model, data)
    return places(model, data)


@pytest.mark.parametrize("task", TASKS)
def test_the_same_seed_lays_out_the_same_scene_in_both_worlds(world: Tabletop, served: ServedWorld, task: str) -> None:
    for seed in (0, 8):
        assert served.reset(task, seed) == world.reset(task, seed)
        # The served world has been stepping meanwhile: the blocks have settled by a hair.
        np.testing.assert_allclose(served_places(served), places(world.model, world.data), atol=1e-3)
        names = [f"{name}_cap" for name in BODIES.buttons] + list(BODIES.blocks)
        for name in names[:3] if task == "push_button" else names[3:6]:
            mine, theirs = (w.model.geom_rgba[w.model.geom(name).id] for w in (world, served))
            np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("task", TASKS)
def test_a_scene_just_laid_out_is_not_done_and_says_so_with_its_sentence(served: ServedWorld, task: str) -> None:
    sentence = served.reset(task, 3)
    assert served.success() == (False, f"'{sentence}' is not done")


@pytest.mark.parametrize(("task", "variation"), [("pour_water", None), ("push_button", 99)])
def test_a_reset_that_is_refused_changes_nothing(served: ServedWorld, task: str, variation: int | None) -> None:
    sentence = served.reset("stack_blocks", 5)
    before = served_places(served)
    with pytest.raises(UnknownTaskError, match=r"choose one of|variations 0 to"):
        served.reset(task, 0, variation)
    np.testing.assert_allclose(served_places(served), before, atol=1e-3)
    assert sentence in served.success()[1]


def test_its_cameras_give_finite_depth_and_an_unknown_one_is_named(served: ServedWorld) -> None:
    served.reset("push_button", 1)
    cameras = WorldCameras(served)
    cameras.snapshot()
    for name in CAMERA_MOUNTS:
        color, depth = cameras.render(name)
        assert color.shape == (CAMERA.height, CAMERA.width, 3)
        assert np.isfinite(depth).all()
    with pytest.raises(ConfigurationError, match="no camera 'left'; the world has front, wrist"):
        cameras.render("left")
    cameras.close()


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
