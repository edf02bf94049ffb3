"""`simulator`: the table-top world with its cameras; the arm in it is reached over the Franka protocol."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.publisher import Publisher
from sensor_msgs.msg import CameraInfo, Image
from std_srvs.srv import Trigger

from minidiffuser_ros.arm.kinematics import BASE_FRAME
from minidiffuser_ros.bridge.conversions import (
    image_from_color,
    image_from_depth,
    info_from_camera,
    keypose_to_message,
)
from minidiffuser_ros.bridge.lifecycle import EXIT_CRASH, ManagedNode
from minidiffuser_ros.bridge.parameters import NodeParameters
from minidiffuser_ros.bridge.process import run_node
from minidiffuser_ros.bridge.qos import RELIABLE
from minidiffuser_ros.contract.errors import ConnectionLostError, MinidiffuserError
from minidiffuser_ros.simulation.protocol import ServedWorld, WorldCameras
from minidiffuser_ros.simulation.tasks import TASKS
from minidiffuser_ros.simulation.world import CAMERA, CAMERA_MOUNTS
from minidiffuser_ros.srv import ExpertKeypose, ResetSimulation


@dataclass(frozen=True)
class SimulatorSettings:
    """Where the arm is served, how often the cameras see, and what lies on the table at first."""

    address: str = field(default="127.0.0.2", metadata={"description": "Loopback address of the simulated arm"})
    camera_rate: float = field(
        default=5.0, metadata={"description": "Rate of each camera", "unit": "Hz", "range": (0.1, 60.0)}
    )
    task: str = field(
        default="push_button", metadata={"description": "Task laid out at the start", "choices": tuple(TASKS)}
    )
    variation: int = field(default=-1, metadata={"description": "Its variation; -1: drawn from the seed"})
    seed: int = field(default=0, metadata={"description": "Seed of its layout", "range": (0, 2**31 - 1)})


@dataclass(frozen=True)
class CameraTopics:
    """The publishers of one camera, named as realsense-ros names them."""

    color: Publisher
    depth: Publisher
    color_info: Publisher
    depth_info: Publisher

    @property
    def watched(self) -> bool:
        """Whether anybody listens to a picture."""
        return any(p.get_subscription_count() > 0 for p in (self.color, self.depth))


class SimulatorNode(ManagedNode):
    """The simulated world. Services `~/reset` (a task's objects; the arm stays), `~/success` (its rule holds) and
    `~/expert_keypose` (what its scripted expert would do next).
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("simulator", **kwargs)
        self._settings = NodeParameters(self, SimulatorSettings(), read_only=True)
        self._world: ServedWorld | None = None
        self._drawing: threading.Thread | None = None
        self._stop_drawing = threading.Event()
        self._cameras = {name: self._advertise(name) for name in CAMERA_MOUNTS}
        group = ReentrantCallbackGroup()
        self.create_service(ResetSimulation, "~/reset", self._on_reset, callback_group=group)
        self.create_service(Trigger, "~/success", self._on_success, callback_group=group)
        self.create_service(ExpertKeypose, "~/expert_keypose", self._on_expert_keypose, callback_group=group)

    def configure(self) -> None:
        """Build the world, serve its arm and lay out the first task."""
        settings = self._settings.value
        self._world = ServedWorld(settings.address)
        instruction = self._world.reset(settings.task, settings.seed, settings.variation)
        self.get_logger().info(f"a simulated FR3 waits at {settings.address} to '{instruction}'")

    def activate(self) -> None:
        """Let the cameras see."""
        self._stop_drawing.clear()
        self._drawing = threading.Thread(target=self._draw, args=(self._world,), name="cameras", daemon=True)
        self._drawing.start()

    def deactivate(self) -> None:
        """Close the cameras' eyes."""
        self._stop_drawing.set()
        if self._drawing is not None:
            self._drawing.join(5.0)
        self._drawing = None

    def cleanup(self) -> None:
        """End the world."""
        if self._world is not None:
            self._world.close()
        self._world = None

    def _draw(self, world: ServedWorld) -> None:
        """The thread of the cameras, owner of the GL context."""
        try:
            cameras = WorldCameras(world)
            period_s = 1.0 / self._settings.value.camera_rate
            due = time.monotonic()
            while not self._stop_drawing.wait(max(0.0, due - time.monotonic())):
                # After a late picture the next one is due a whole period later: no bursts.
                due = max(due + period_s, time.monotonic())
                watched = {name: topics for name, topics in self._cameras.items() if topics.watched}
                if watched:
                    cameras.snapshot()
                    stamp_ns = int(self.get_clock().now().nanoseconds)
                    for name, topics in watched.items():
                        self._publish(topics, cameras, name, stamp_ns)
            cameras.close()
        except ConnectionLostError as error:
            if not self._stop_drawing.is_set():
                self.end(str(error), EXIT_CRASH)
        except Exception as error:  # no pictures, no use: end rather than stay silent
            self.get_logger().fatal(f"cannot draw the cameras: {error}")
            self.end(f"cannot draw the cameras: {error}", EXIT_CRASH)

    def _publish(self, topics: CameraTopics, cameras: WorldCameras, name: str, stamp_ns: int) -> None:
        color, depth = cameras.render(name)
        frame = f"{name}_color_optical_frame"
        info = info_from_camera(CAMERA, frame, stamp_ns)
        topics.color_info.publish(info)
        topics.depth_info.publish(info)
        topics.color.publish(image_from_color(color, frame, stamp_ns))
        topics.depth.publish(image_from_depth(depth, frame, stamp_ns))

    def _on_reset(
        self, request: ResetSimulation.Request, response: ResetSimulation.Response
    ) -> ResetSimulation.Response:
        try:
            response.instruction = self._served().reset(request.task, request.seed, request.variation)
            response.success, response.message = True, f"laid out '{request.task}' with seed {request.seed}"
        except MinidiffuserError as error:
            response.message = str(error)
        return response

    def _on_success(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            response.success, response.message = self._served().success()
        except MinidiffuserError as error:
            response.message = str(error)
        return response

    def _on_expert_keypose(
        self, request: ExpertKeypose.Request, response: ExpertKeypose.Response
    ) -> ExpertKeypose.Response:
        try:
            keypose = self._served().expert_keypose(request.restart)
        except MinidiffuserError as error:
            response.message = str(error)
            return response
        response.success, response.finished = True, keypose is None
        if keypose is not None:
            response.keypose = keypose_to_message(keypose, BASE_FRAME, int(self.get_clock().now().nanoseconds))
        return response

    def _served(self) -> ServedWorld:
        """The world. Raises ConnectionLostError where there is none yet."""
        if self._world is None:
            raise ConnectionLostError("the simulator is not configured")
        return self._world

    def _advertise(self, name: str) -> CameraTopics:
        def topic(kind: Any, suffix: str) -> Publisher:
            return self.create_publisher(kind, f"{name}/{suffix}", RELIABLE)

        return CameraTopics(
            color=topic(Image, "color/image_raw"),
            depth=topic(Image, "aligned_depth_to_color/image_raw"),
            color_info=topic(CameraInfo, "color/camera_info"),
            depth_info=topic(CameraInfo, "aligned_depth_to_color/camera_info"),
        )


def main() -> int:
    """Run the node; returns the exit code."""
    return run_node(SimulatorNode)
