"""What a policy is trained on is what it sees: a recording played to the observer and read offline, bit by bit."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from rclpy.context import Context
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from recorded_episode import START_NS, TOPICS, record_demonstration
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from spinning import eventually, parameters, ros_context, spinning

from minidiffuser_ros.bridge.conversions import observation_from_capture, stamp_to_ns
from minidiffuser_ros.bridge.qos import RELIABLE
from minidiffuser_ros.contract.observation import CameraMount, Observation
from minidiffuser_ros.episodes.bag import END_OF_TIME, EpisodeReader
from minidiffuser_ros.episodes.keyposes import episode_keyposes
from minidiffuser_ros.episodes.mcap_file import McapFile
from minidiffuser_ros.episodes.metadata import bag_file
from minidiffuser_ros.episodes.observing import EpisodeObserver
from minidiffuser_ros.episodes.samples import demonstration_from_episode, views_before
from minidiffuser_ros.nodes.observer import ObserverNode
from minidiffuser_ros.srv import Capture

pytestmark = pytest.mark.ros

CLOCK_TOLERANCE_NS = 100_000_000

KINDS = {TOPICS.joint_states: JointState} | {
    topic: kind
    for camera in TOPICS.cameras.values()
    for topic, kind in ((camera.color, Image), (camera.depth, Image), (camera.info, CameraInfo))
}


class Player:
    """Publishes a recording's messages, as they are in the file, up to a stamp, and then asks for an observation.

    It keeps the time of the graph, for messages that are old when they arrive are not acted on.
    """

    def __init__(self, context: Context, folder: Path, observer: ObserverNode) -> None:
        self.node = Node("player", context=context)
        self._observer = observer
        self._outputs = {topic: self.node.create_publisher(kind, topic, RELIABLE) for topic, kind in KINDS.items()}
        self._clock = self.node.create_publisher(Clock, "/clock", RELIABLE)
        self._captures = self.node.create_client(Capture, "observer/capture")
        with McapFile(bag_file(folder)) as file:
            found = file.messages(list(KINDS), 0, END_OF_TIME)
            self._left = [(channel.topic, deserialize_message(raw, KINDS[channel.topic])) for channel, _, raw in found]

    def play(self, until_ns: int) -> None:
        """In the order in which they were recorded; none is sent before the one before it has arrived."""
        due = [stamp_to_ns(message.header.stamp) <= until_ns for _, message in self._left]
        for (topic, message), is_due in zip(self._left, due, strict=True):
            if is_due:
                self._set_clock(message)
                self._outputs[topic].publish(message)
                self._await(topic, message)
        self._left = [entry for entry, is_due in zip(self._left, due, strict=True) if not is_due]

    def capture(self) -> Observation:
        assert self._captures.wait_for_service(10.0)
        future = self._captures.call_async(Capture.Request(timeout_s=1.0))
        return observation_from_capture(eventually(lambda: future.result() if future.done() else None, 15.0))

    def _set_clock(self, message: CameraInfo | Image | JointState) -> None:
        self._clock.publish(Clock(clock=message.header.stamp))
        now_ns = stamp_to_ns(message.header.stamp)
        eventually(lambda: abs(self._observer.get_clock().now().nanoseconds - now_ns) < CLOCK_TOLERANCE_NS)

    def _await(self, topic: str, message: CameraInfo | Image | JointState) -> None:
        deadline = time.monotonic() + 10.0
        while not self._arrived(topic, message):
            assert time.monotonic() < deadline, f"a message on {topic} does not arrive"
            time.sleep(0.0005)

    def _arrived(self, topic: str, message: CameraInfo | Image | JointState) -> bool:
        for camera, topics in TOPICS.cameras.items():
            if topic == topics.info:
                info = self._observer._streams.infos.get(camera)
                return info is not None and info.header.stamp == message.header.stamp
        return stamp_to_ns(message.header.stamp) in self._observer._matcher._streams[topic].payloads


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parity") / "episode"
    record_demonstration(folder)
    return folder


@pytest.fixture
def player(folder: Path, tmp_path: Path) -> Iterator[Player]:
    calibration = tmp_path / "cameras.yaml"
    cameras = [_entry(mount) for mount in EpisodeReader(folder).info.mounts]
    calibration.write_text(yaml.safe_dump({"cameras": cameras}))
    with ros_context() as context:
        observer = ObserverNode(
            context=context,
            parameter_overrides=parameters(
                calibration=str(calibration), autostart=True, use_sim_time=True, streams__frozen_after=0
            ),
        )
        player = Player(context, folder, observer)
        with spinning(context, observer, player.node):
            connected = [*player._outputs.values(), player._clock]
            eventually(lambda: all(output.get_subscription_count() for output in connected) or None, 10.0)
            yield player


def assert_same(live: Observation, offline: Observation) -> None:
    for name in ("points", "colors", "tool_position", "tool_quat_wxyz", "joint_positions"):
        mine, theirs = getattr(live, name), getattr(offline, name)
        assert mine.dtype == theirs.dtype
        assert mine.tobytes() == theirs.tobytes(), name
    assert (live.opening, live.stamp_ns, live.spec) == (offline.opening, offline.stamp_ns, offline.spec)


def test_the_running_observer_and_the_reader_of_the_recording_see_the_same(player: Player, folder: Path) -> None:
    observer = EpisodeObserver(EpisodeReader(folder))
    # Standing and in motion, with the gripper open, on its way and closed.
    for seconds in (0.4, 1.1, 2.9, 4.27, 6.0, 9.3):
        moment = START_NS + round(seconds * 1e9)
        player.play(moment)
        live = player.capture()
        assert moment - 300_000_000 <= live.stamp_ns <= moment
        assert_same(live, observer.observe(moment))


def test_every_step_of_the_demonstration_is_what_the_observer_would_have_answered(player: Player, folder: Path) -> None:
    demonstration, reader = demonstration_from_episode(folder), EpisodeReader(folder)
    traces = reader.traces()
    views = views_before([keypose.index for keypose in episode_keyposes(traces)], traces)
    starts = np.concatenate([[0], np.cumsum(demonstration.counts)])
    for step, view in enumerate(views):
        player.play(view.not_after_ns)
        live = player.capture()
        points = slice(starts[step], starts[step + 1])
        assert live.points.tobytes() == demonstration.points[points].tobytes()
        assert live.colors.tobytes() == demonstration.colors[points].tobytes()
        pose = np.concatenate([live.tool_position, live.tool_quat_wxyz])
        assert pose.tobytes() == demonstration.tool[step].tobytes()
        assert live.opening == demonstration.openings[step]
        assert live.joint_positions.tobytes() == demonstration.joints[step].tobytes()


def _entry(mount: CameraMount) -> dict[str, object]:
    return {
        "name": mount.name,
        "parent_frame": mount.parent_frame,
        "position": list(mount.position),
        "quat_wxyz": list(mount.quat_wxyz),
    }
