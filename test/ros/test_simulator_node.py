"""The simulator as a real node: its cameras, its tasks, and an arm that does a task over the Franka protocol."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import mujoco
import numpy as np
import pytest
from rclpy.context import Context
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image
from spinning import eventually, parameters, ros_context, spinning
from std_srvs.srv import Trigger

from minidiffuser_ros.arm.envelope import SafetyEnvelope
from minidiffuser_ros.arm.executor import KeyposeExecutor
from minidiffuser_ros.arm.franky_arm import FrankyArm
from minidiffuser_ros.arm.goal import KeyposeGoal
from minidiffuser_ros.bridge.conversions import camera_from_info, color_from_image, depth_from_image, stamp_to_ns
from minidiffuser_ros.bridge.qos import SENSOR_DATA
from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.geometry.transform import apply, transform_from
from minidiffuser_ros.nodes.simulator import SimulatorNode
from minidiffuser_ros.simulation.protocol import ServedWorld
from minidiffuser_ros.simulation.stage import Stage
from minidiffuser_ros.simulation.tasks import make_task
from minidiffuser_ros.simulation.tasks.objects import BUTTON_CAP_TOP
from minidiffuser_ros.simulation.world import CAMERA, CAMERA_MOUNTS, SceneBuilder
from minidiffuser_ros.srv import ExpertKeypose, ResetSimulation

pytestmark = pytest.mark.ros

TASK, SEED = "push_button", 7


def address() -> str:
    pid = os.getpid()
    return f"127.203.{pid // 250 % 250}.{1 + pid % 250}"


class Watcher(Node):
    """Keeps every message of both cameras, by topic."""

    def __init__(self, context: Context) -> None:
        super().__init__("watcher", context=context)
        self.received: dict[str, list[Any]] = {}
        for camera in CAMERA_MOUNTS:
            for kind, suffix in (
                (Image, "color/image_raw"),
                (Image, "aligned_depth_to_color/image_raw"),
                (CameraInfo, "color/camera_info"),
                (CameraInfo, "aligned_depth_to_color/camera_info"),
            ):
                messages = self.received.setdefault(f"{camera}/{suffix}", [])
                self.create_subscription(kind, f"{camera}/{suffix}", messages.append, SENSOR_DATA)

    def call(self, kind: Any, name: str, request: Any = None) -> Any:
        client = self.create_client(kind, f"simulator/{name}")
        assert client.wait_for_service(10.0)
        future = client.call_async(request or kind.Request())
        eventually(future.done)
        return future.result()

    def reset(self, task: str, variation: int = -1) -> Any:
        return self.call(ResetSimulation, "reset", ResetSimulation.Request(task=task, variation=variation, seed=SEED))

    def pictures(self, camera: str, after_ns: int) -> tuple[np.ndarray, np.ndarray]:
        """Colour and depth of one camera with the same stamp, taken after `after_ns`."""

        def pair() -> tuple[np.ndarray, np.ndarray] | None:
            depths = {
                stamp_to_ns(m.header.stamp): m for m in self.received[f"{camera}/aligned_depth_to_color/image_raw"]
            }
            for message in self.received[f"{camera}/color/image_raw"]:
                stamp_ns = stamp_to_ns(message.header.stamp)
                if stamp_ns > after_ns and stamp_ns in depths:
                    return color_from_image(message), depth_from_image(depths[stamp_ns])
            return None

        found = eventually(pair)
        assert found is not None
        return found

    def now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)


@pytest.fixture(scope="module")
def watcher() -> Iterator[Watcher]:
    with ros_context() as context:
        node = SimulatorNode(context=context, parameter_overrides=parameters(address=address(), camera_rate=4.0))
        watching = Watcher(context)
        with spinning(context, node, watching):
            eventually(lambda: node.is_active, timeout_s=20.0)
            yield watching


def test_a_reset_answers_with_the_sentence_and_success_starts_false(watcher: Watcher) -> None:
    assert "' is not done" in watcher.call(Trigger, "success").message, "a task is laid out from the start"
    answer = watcher.reset(TASK, variation=0)
    assert answer.success, answer.message
    assert answer.instruction == "push the red button"
    verdict = watcher.call(Trigger, "success")
    assert not verdict.success
    assert verdict.message == "'push the red button' is not done"


@pytest.mark.parametrize(("task", "variation"), [("fold_laundry", -1), (TASK, 99)])
def test_an_unknown_task_or_variation_is_refused_by_name(watcher: Watcher, task: str, variation: int) -> None:
    before = watcher.reset(TASK, variation=1).instruction
    answer = watcher.reset(task, variation)
    assert not answer.success
    assert ("'fold_laundry'" if task == "fold_laundry" else "99") in answer.message
    assert before in watcher.call(Trigger, "success").message, "a refused reset must leave the task alone"


def test_the_expert_is_asked_keypose_by_keypose_and_begins_again(watcher: Watcher) -> None:
    def ask(restart: bool = False) -> Any:
        answer = watcher.call(ExpertKeypose, "expert_keypose", ExpertKeypose.Request(restart=restart))
        assert answer.success, answer.message
        return answer

    watcher.reset(TASK, variation=0)
    hover, press = ask().keypose.pose.position, ask().keypose.pose.position
    assert (hover.x, hover.y) == (press.x, press.y)
    assert hover.z > press.z + 0.02
    assert ask().finished
    assert ask(restart=True).keypose.pose.position == hover
    watcher.reset(TASK, variation=1)
    assert ask().keypose.pose.position == hover, "after a reset the expert begins anew"


@pytest.mark.parametrize("camera", sorted(CAMERA_MOUNTS))
def test_a_camera_speaks_as_realsense_does(watcher: Watcher, camera: str) -> None:
    color, depth = watcher.pictures(camera, watcher.now_ns())
    assert color.shape == (CAMERA.height, CAMERA.width, 3)
    assert depth.shape == (CAMERA.height, CAMERA.width)
    assert color.std() > 10.0
    for kind in ("color", "aligned_depth_to_color"):
        info = watcher.received[f"{camera}/{kind}/camera_info"][-1]
        assert camera_from_info(info) == CAMERA
        assert info.header.frame_id == f"{camera}_color_optical_frame"
        assert watcher.received[f"{camera}/{kind}/image_raw"][-1].header.frame_id == info.header.frame_id


def test_the_pictures_show_the_objects_where_the_task_put_them(watcher: Watcher) -> None:
    watcher.reset(TASK, variation=2)
    color, depth = watcher.pictures("front", watcher.now_ns())
    mount = CAMERA_MOUNTS["front"]
    points = apply(transform_from(mount.position, mount.quat_wxyz), CAMERA.deproject(depth).reshape(-1, 3))
    data, _ = laid_out(variation=2)
    cap = data.body("button_0").xpos
    near = (np.linalg.norm(points[:, :2] - cap[:2], axis=1) < 0.015) & (points[:, 2] > 0.03)
    assert near.sum() > 10
    assert np.median(points[near, 2]) == pytest.approx(BUTTON_CAP_TOP, abs=0.01)
    red, green, blue = np.median(color.reshape(-1, 3)[near], axis=0)
    assert blue > 1.5 * max(red, green), "variation 2 is the blue button"


def test_the_expert_does_the_task_over_the_franka_protocol(watcher: Watcher) -> None:
    watcher.reset(TASK, variation=0)
    _, keyposes = laid_out(variation=0)
    arm = FrankyArm(address())
    executor = KeyposeExecutor(arm, SafetyEnvelope())
    before = arm.state().joints
    watcher.reset(TASK, variation=0)
    np.testing.assert_allclose(arm.state().joints, before, atol=2e-3, err_msg="a reset must not move the arm")
    for keypose in keyposes:
        outcome = executor.execute(KeyposeGoal(keypose), 0.4)
        assert outcome.success, outcome.message
    verdict = watcher.call(Trigger, "success")
    assert verdict.success, verdict.message
    assert executor.home(0.4).success
    arm.close()


def test_an_address_that_cannot_be_served_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="free loopback address"):
        ServedWorld("8.8.8.8")


def laid_out(variation: int) -> tuple[mujoco.MjData, list[Keypose]]:
    """The same layout in a world of our own, and the keyposes of its expert."""
    task, scene = make_task(TASK), SceneBuilder()
    task.build(scene)
    model = scene.compile()
    stage = Stage(model, mujoco.MjData(model))
    task.reset(stage, SEED, variation)
    return stage.data, list(task.expert(stage))
