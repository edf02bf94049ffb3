"""The recorder as a real node, fed by made-up cameras and an arm; its bags are opened with other people's readers."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcap.reader import make_reader
from rclpy.action import ActionClient
from rclpy.context import Context
from rclpy.node import Node
from recorded_robot import PICTURE_RATE_HZ, STATE_RATE_HZ, RecordedRobot
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore
from spinning import eventually, parameters, ros_context, spinning
from std_msgs.msg import String
from std_srvs.srv import Trigger
from visualization_msgs.msg import Marker

from minidiffuser_ros.action import RecordEpisode
from minidiffuser_ros.bridge.qos import LATCHED, RELIABLE
from minidiffuser_ros.contract.episode import SUCCESS, UNLABELLED
from minidiffuser_ros.contract.errors import MinidiffuserError
from minidiffuser_ros.episodes.audit import read_audit
from minidiffuser_ros.episodes.library import TRASH, partial_episodes, read_info, saved_episodes
from minidiffuser_ros.episodes.repair import repair_episode
from minidiffuser_ros.msg import RecorderStatus
from minidiffuser_ros.nodes.recorder import RecorderNode
from minidiffuser_ros.srv import LabelEpisode, StartRecording

pytestmark = pytest.mark.ros

CALIBRATION = Path(__file__).parents[2] / "config" / "simulation_cameras.yaml"
ACTION_CANCELED, ACTION_SUCCEEDED, ACTION_ABORTED = 5, 4, 6


class Rig:
    """A running recorder, what it listens to, and a client."""

    def __init__(self, context: Context, root: Path, **settings: object) -> None:
        self.root = root
        self.robot = RecordedRobot(context)
        self.settings = {
            "root": str(root),
            "calibration": str(CALIBRATION),
            "writer.min_free_mb": 1.0,
            "liveness.silent_after_s": 0.5,
            **settings,
        }
        self.client = Node("client", context=context)
        self.statuses: list[RecorderStatus] = []
        self.marks: list[Marker] = []
        self.client.create_subscription(RecorderStatus, "recorder/status", self.statuses.append, LATCHED)
        self.client.create_subscription(Marker, "recorder/keyposes", self._on_mark, RELIABLE)
        # Made long before they are used: a server drops the answer to a client that it has not found yet.
        kinds = {"start": StartRecording, "label": LabelEpisode}
        names = ("start", "stop", "discard", "mark_keypose", "undo_keypose", "label")
        self._clients = {
            name: self.client.create_client(kinds.get(name, Trigger), f"recorder/{name}") for name in names
        }
        self.action = ActionClient(self.client, RecordEpisode, "recorder/record_episode")

    def make_recorder(self, context: Context) -> RecorderNode:
        """The recorder in this process."""
        self.recorder = RecorderNode(context=context, parameter_overrides=parameters(**self.settings))
        return self.recorder

    def start_process(self) -> subprocess.Popen[bytes]:
        """The recorder in a process of its own, as a launch file starts it."""
        words = [word for name, value in self.settings.items() for word in ("-p", f"{name}:={value}")]
        return subprocess.Popen([sys.executable, "-m", "minidiffuser_ros.nodes", "recorder", "--ros-args", *words])

    def _on_mark(self, marker: Marker) -> None:
        """As RViz does: what is deleted is gone."""
        self.marks = [] if marker.action == Marker.DELETEALL else [*self.marks, marker]

    def call(self, name: str, request: Any = None) -> Any:
        """Call a service of the recorder; a Trigger where no request is given."""
        kind = {"start": StartRecording, "label": LabelEpisode}.get(name, Trigger)
        assert self._clients[name].wait_for_service(10.0)
        future = self._clients[name].call_async(request or kind.Request())
        return eventually(lambda: future.result() if future.done() else None, 20.0)

    def start(self, task: str = "open_drawer") -> StartRecording.Response:
        request = StartRecording.Request(
            task=task, instruction="open the drawer", operator_name="Ada", variation=2, seed=7
        )
        return self.call("start", request)

    def started(self) -> str:
        """Wait until everything arrives, then start; returns the episode's name."""
        eventually(self.recorder_is_ready, 20.0)
        answer = self.start()
        assert answer.success, answer.message
        return str(answer.episode)

    def recorder_is_ready(self) -> bool:
        return bool(self.statuses) and not self.statuses[-1].reasons


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with ros_context() as context:
        rig = Rig(context, tmp_path / "episodes")
        with spinning(context, rig.robot, rig.make_recorder(context), rig.client):
            yield rig


def contents(folder: Path) -> dict[str, list[tuple[int, Any]]]:
    """Topic → (log time, message), through rosbags; MCAP's own reader must agree about all of it."""
    found: dict[str, list[tuple[int, Any]]] = {}
    with AnyReader([folder], default_typestore=get_typestore(Stores.ROS2_JAZZY)) as reader:
        for connection, log_ns, data in reader.messages():
            found.setdefault(connection.topic, []).append((log_ns, reader.deserialize(data, connection.msgtype)))
        assert reader.message_count == sum(map(len, found.values()))
    with next(folder.glob("*.mcap")).open("rb") as file:
        mcap = make_reader(file, validate_crcs=True)
        summary = mcap.get_summary()
        counted = {channel.topic: 0 for channel in summary.channels.values()}
        for _, channel, _ in mcap.iter_messages():
            counted[channel.topic] += 1
    assert {topic: count for topic, count in counted.items() if count} == {t: len(m) for t, m in found.items()}
    assert summary.statistics.message_count == sum(counted.values())
    ids = {channel.topic: number for number, channel in summary.channels.items()}
    assert all(summary.statistics.channel_message_counts.get(ids[t], 0) == n for t, n in counted.items())
    return found


def test_an_episode_holds_every_message_of_every_topic_between_start_and_stop(rig: Rig) -> None:
    name = rig.started()
    before = dict(rig.robot.published)
    time.sleep(1.0)
    during = {topic: count - before[topic] for topic, count in rig.robot.published.items()}
    answer = rig.call("stop")
    assert answer.success, answer.message
    (folder,) = saved_episodes(rig.root)
    assert folder.name == name
    assert not partial_episodes(rig.root)
    info, found = read_info(folder), contents(folder)
    assert [record.source for record in info.calibrations] == [str(CALIBRATION)] * 2
    assert (info.task, info.instruction, info.operator) == ("open_drawer", "open the drawer", "Ada")
    assert (info.outcome, info.variation, info.seed) == (UNLABELLED, 2, 7)
    for topic, count in during.items():
        assert len(found[f"/{topic}"]) >= count, topic
    times = [log_ns for messages in found.values() for log_ns, _ in messages]
    assert all(abs(log_ns - time.time_ns()) < 60e9 for log_ns in times)
    assert found["/joint_states"][0][1].name == list(rig.robot.joint_names)
    audit = read_audit(folder)
    assert audit.clean, audit.problems
    assert {topic: entry.received for topic, entry in audit.topics.items() if entry.received} == {
        topic: len(messages) for topic, messages in found.items()
    }


def test_marks_carry_the_newest_tool_pose_and_an_undone_one_is_deleted(rig: Rig) -> None:
    assert not rig.call("mark_keypose").success
    rig.started()
    assert not rig.call("undo_keypose").success
    for position in ([0.5, 0.1, 0.2], [0.6, -0.1, 0.4]):
        rig.robot.tool = np.array(position)
        time.sleep(0.3)
        assert rig.call("mark_keypose").success
    eventually(lambda: rig.statuses[-1].keyposes == 2)
    assert rig.call("undo_keypose").success
    eventually(lambda: rig.statuses[-1].keyposes == 1)
    eventually(lambda: len(rig.marks) == 3)
    assert rig.call("stop").success
    (folder,) = saved_episodes(rig.root)
    marks = [message for _, message in contents(folder)["/recorder/keyposes"]]
    assert [(m.ns, m.action, m.id) for m in marks] == [("keypose", 0, 1), ("keypose", 0, 2), ("keypose", 2, 2)]
    positions = [(m.pose.position.x, m.pose.position.y, m.pose.position.z) for m in marks[:2]]
    np.testing.assert_allclose(positions, [[0.5, 0.1, 0.2], [0.6, -0.1, 0.4]])
    assert [(m.ns, m.action, m.id) for m in rig.marks] == [(m.ns, m.action, m.id) for m in marks]


def test_nothing_starts_while_a_topic_is_silent_and_every_one_of_them_is_named(rig: Rig) -> None:
    eventually(rig.recorder_is_ready, 20.0)
    rig.robot.silent = {"tcp_pose", "front/color/image_raw"}
    time.sleep(1.0)
    answer = rig.start()
    assert not answer.success
    assert "/tcp_pose has been silent for" in answer.message
    assert "/front/color/image_raw has been silent for" in answer.message
    assert "wrist" not in answer.message
    assert not list(rig.root.iterdir())


def test_old_stamps_wrong_encodings_and_missing_joints_keep_a_recording_from_starting(rig: Rig) -> None:
    eventually(rig.recorder_is_ready, 20.0)
    rig.robot.stamp_offset_ns = -60_000_000_000
    rig.robot.color_encoding = "bgr8"
    rig.robot.joint_names = rig.robot.joint_names[:7]
    time.sleep(0.5)
    answer = rig.start()
    assert not answer.success
    for words in ("/joint_states is stamped 60", "encoding 'bgr8'", "lacks fr3_finger_joint1"):
        assert words in answer.message


def test_a_topic_that_falls_silent_while_recording_is_told_within_its_limit(rig: Rig) -> None:
    rig.started()
    rig.robot.silent = {"wrist/color/image_raw"}
    silenced = time.monotonic()
    status = eventually(lambda: next((s for s in reversed(rig.statuses) if s.reasons and s.state == s.RECORDING), None))
    assert time.monotonic() - silenced < 2.0
    assert status.reasons[0].startswith("/wrist/color/image_raw ")
    assert rig.call("stop").success
    (folder,) = saved_episodes(rig.root)
    assert not read_audit(folder).clean


def test_a_topic_that_never_came_is_named_by_the_audit_of_the_saved_episode(rig: Rig) -> None:
    eventually(rig.recorder_is_ready, 20.0)
    rig.robot.silent = {"wrist/color/camera_info"}
    time.sleep(0.2)  # still fresh enough to start
    assert rig.start().success
    time.sleep(0.3)
    assert rig.call("stop").success
    (folder,) = saved_episodes(rig.root)
    assert "/wrist/color/camera_info: nothing was recorded" in read_audit(folder).problems


def test_a_discarded_episode_lies_in_the_trash_and_the_next_one_starts(rig: Rig) -> None:
    name = rig.started()
    assert rig.call("discard").success
    assert [path.name for path in (rig.root / TRASH).iterdir()] == [f"{name}.partial"]
    assert not saved_episodes(rig.root)
    assert rig.start().success
    assert rig.call("stop").success
    assert len(saved_episodes(rig.root)) == 1


def test_a_label_goes_to_the_episode_named_or_to_the_last_one_and_paths_are_refused(rig: Rig) -> None:
    name = rig.started()
    assert not rig.call("label", LabelEpisode.Request(episode=name, outcome=SUCCESS)).success
    assert rig.call("stop").success
    (folder,) = saved_episodes(rig.root)
    for wrong in ("../episodes", "/tmp", "nothing", f"./{name}"):
        assert not rig.call("label", LabelEpisode.Request(episode=wrong, outcome=SUCCESS)).success
    assert not rig.call("label", LabelEpisode.Request(outcome="perfect")).success
    assert read_info(folder).outcome == UNLABELLED
    assert rig.call("label", LabelEpisode.Request(outcome=SUCCESS)).success
    assert read_info(folder).outcome == SUCCESS
    contents(folder)  # still a whole bag


def test_a_second_start_is_refused_and_leaves_the_first_recording_alone(rig: Rig) -> None:
    rig.started()
    answer = rig.start()
    assert not answer.success
    assert "is being recorded" in answer.message
    assert rig.call("stop").success
    assert not rig.call("stop").success


def test_the_action_records_until_stop_and_a_cancel_discards(rig: Rig) -> None:
    eventually(rig.recorder_is_ready, 20.0)
    assert rig.action.wait_for_server(10.0)
    goal = RecordEpisode.Goal(task="open_drawer", instruction="open the drawer", variation=-1, seed=-1)
    feedback: list[Any] = []

    def begin() -> tuple[Any, Any]:
        sent = rig.action.send_goal_async(goal, feedback_callback=feedback.append)
        handle = eventually(lambda: sent.result() if sent.done() else None)
        assert handle.accepted
        eventually(lambda: any(s.state == s.RECORDING for s in rig.statuses[-2:]))
        return handle, handle.get_result_async()

    _, result = begin()
    eventually(lambda: len(feedback) >= 2)
    assert rig.call("stop").success
    answer = eventually(lambda: result.result() if result.done() else None)
    assert (answer.status, answer.result.success) == (ACTION_SUCCEEDED, True)
    assert [f.name for f in saved_episodes(rig.root)] == [answer.result.episode]
    rig.statuses.clear()
    handle, result = begin()
    handle.cancel_goal_async()
    answer = eventually(lambda: result.result() if result.done() else None)
    assert (answer.status, answer.result.success) == (ACTION_CANCELED, False)
    assert len(saved_episodes(rig.root)) == 1
    assert not partial_episodes(rig.root)


def test_the_end_of_the_node_saves_what_is_being_recorded_unlabelled(tmp_path: Path) -> None:
    with ros_context() as context:
        rig = Rig(context, tmp_path)
        with spinning(context, rig.robot, rig.make_recorder(context), rig.client):
            name = rig.started()
            time.sleep(0.5)
    (folder,) = saved_episodes(tmp_path)
    assert folder.name == name
    assert read_info(folder).outcome == UNLABELLED
    assert len(contents(folder)["/joint_states"]) > 10


def test_an_episode_that_grows_too_long_is_saved(tmp_path: Path) -> None:
    with ros_context() as context:
        rig = Rig(context, tmp_path, max_duration_s=1.0)
        with spinning(context, rig.robot, rig.make_recorder(context), rig.client):
            rig.started()
            eventually(lambda: saved_episodes(tmp_path))
            status = eventually(lambda: next((s for s in rig.statuses if "lasted" in s.message), None))
            assert status.state == RecorderStatus.IDLE


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("calibration", "", "'calibration' is empty"),
        ("extra_topics", "/own:nowhere_msgs/msg/Own", "nowhere_msgs/msg/Own"),
        ("extra_topics", "/own", "topic:package/msg/Type"),
        ("tool_pose_topic", "joint_states", "recorded as two things"),
        ("writer__compression", "rar", "compression"),
    ],
)
def test_a_wrong_setting_ends_the_node_with_a_sentence(tmp_path: Path, setting: str, value: str, words: str) -> None:
    with ros_context() as context:
        overrides = parameters(**{"root": str(tmp_path), "calibration": str(CALIBRATION), setting: value})
        try:
            recorder = RecorderNode(context=context, parameter_overrides=overrides)
        except MinidiffuserError as error:
            message = str(error)
        else:
            with spinning(context, recorder):
                eventually(recorder.ended.is_set)
                assert recorder.exit_code == 2
                message = recorder.stop_reason
        assert words in message


def test_extra_topics_are_recorded_and_not_waited_for(tmp_path: Path) -> None:
    with ros_context() as context:
        rig = Rig(context, tmp_path, extra_topics="notes:std_msgs/msg/String silence:std_msgs/msg/String")
        notes = rig.client.create_publisher(String, "notes", RELIABLE)
        with spinning(context, rig.robot, rig.make_recorder(context), rig.client):
            rig.started()
            for word in ("one", "two"):
                notes.publish(String(data=word))
            time.sleep(0.3)
            assert rig.call("stop").success
    (folder,) = saved_episodes(tmp_path)
    assert [message.data for _, message in contents(folder)["/notes"]] == ["one", "two"]
    assert read_audit(folder).clean


def test_a_write_that_fails_ends_the_recording_with_a_sentence_and_the_next_one_can_begin(rig: Rig) -> None:
    name = rig.started()
    time.sleep(0.3)
    rig.recorder._session.take.writer._bag._file.close()
    status = eventually(lambda: next((s for s in rig.statuses if s.state == s.ERROR), None))
    assert "repair the episode" in status.message
    assert [folder.name for folder in partial_episodes(rig.root)] == [f"{name}.partial"]
    assert rig.start().success
    assert rig.call("stop").success
    assert len(saved_episodes(rig.root)) == 1


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_the_process_the_episode_is_saved_or_can_be(tmp_path: Path, end: signal.Signals) -> None:
    with ros_context() as context:
        rig = Rig(context, tmp_path)
        with spinning(context, rig.robot, rig.client), rig.start_process() as process:
            try:
                name = rig.started()
                time.sleep(2.5)
                process.send_signal(end)
                code = process.wait(15.0)
            finally:
                process.kill()
    if end is signal.SIGKILL:
        assert code == -signal.SIGKILL
        (partial,) = partial_episodes(tmp_path)
        report = repair_episode(partial)
        assert report.audit.problems[0].startswith("its end is missing")
    else:
        assert code == 0
        assert not partial_episodes(tmp_path)
    (folder,) = saved_episodes(tmp_path)
    assert folder.name == name
    assert read_info(folder).outcome == UNLABELLED
    found = contents(folder)
    # At most what was written within the last second is lost.
    assert len(found["/joint_states"]) > 1.0 * STATE_RATE_HZ
    assert len(found["/wrist/color/image_raw"]) > 1.0 * PICTURE_RATE_HZ
