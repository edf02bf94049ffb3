"""`recorder`: keeps demonstrations as they happen, one rosbag2 folder each.

Callbacks of topics only copy bytes into a queue; an episode is saved in a worker.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from geometry_msgs.msg import PoseStamped
from rclpy.action import CancelResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.serialization import deserialize_message, serialize_message
from std_srvs.srv import Trigger
from visualization_msgs.msg import Marker

from minidiffuser_ros.action import RecordEpisode
from minidiffuser_ros.bridge.camera_poses import CameraPoses
from minidiffuser_ros.bridge.camera_topics import camera_topics
from minidiffuser_ros.bridge.conversions import header
from minidiffuser_ros.bridge.intake import Intake
from minidiffuser_ros.bridge.keypose_marks import keypose_mark, keypose_unmark, no_keyposes
from minidiffuser_ros.bridge.lifecycle import ManagedNode
from minidiffuser_ros.bridge.parameters import NodeParameters
from minidiffuser_ros.bridge.process import run_node
from minidiffuser_ros.bridge.qos import LATCHED, RELIABLE
from minidiffuser_ros.bridge.recorder_status import answering, recorder_status
from minidiffuser_ros.bridge.recording import (
    RecorderSettings,
    content_reasons,
    episode_info,
    episode_topics,
    extra_topics,
    recorded_types,
)
from minidiffuser_ros.bridge.waitables import ActionServer
from minidiffuser_ros.bridge.worker import Worker
from minidiffuser_ros.contract.errors import BusyError, ConfigurationError, EpisodeError, MinidiffuserError
from minidiffuser_ros.episodes.library import partial_episodes
from minidiffuser_ros.episodes.liveness import silence_reasons
from minidiffuser_ros.episodes.session import RecordingSession, Take
from minidiffuser_ros.episodes.timeline import topic_types
from minidiffuser_ros.msg import RecorderStatus
from minidiffuser_ros.srv import LabelEpisode, StartRecording

# What goes wrong is told within the first, everything else within the second.
WATCH_PERIOD_S, STATUS_PERIOD_S = 0.1, 0.5
KEYPOSES = "~/keyposes"


class RecorderNode(ManagedNode):
    """Services `~/start ~/stop ~/discard ~/mark_keypose ~/undo_keypose ~/label`, action `~/record_episode`.

    Publishes `~/status` and the marks on `~/keyposes`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("recorder", **kwargs)
        self.settings = NodeParameters(self, RecorderSettings(), read_only=True).value
        cameras = camera_topics(self, self.settings, self.settings.spec.cameras)
        self._topics = episode_topics(self.settings, cameras, KEYPOSES, self.resolve_topic_name)
        self._extra = extra_topics(self.settings, self.resolve_topic_name)
        self._types = topic_types(self._topics) | self._extra
        self._session = RecordingSession(
            Path(self.settings.root).expanduser(), self.settings.writer, self.settings.max_duration_s
        )
        self._poses: CameraPoses | None = None
        self._intake = Intake(self, recorded_types(self._topics, self._extra))
        self._worker: Worker | None = None
        self._told: tuple[Any, ...] = ()
        self._told_at = float("-inf")
        self._status = self.create_publisher(RecorderStatus, "~/status", LATCHED)
        self._keyposes = self.create_publisher(Marker, KEYPOSES, RELIABLE)
        self._requests = ReentrantCallbackGroup()
        self.create_service(StartRecording, "~/start", self._on_start, callback_group=self._requests)
        self.create_service(LabelEpisode, "~/label", self._on_label, callback_group=self._requests)
        for name, act in (
            ("~/stop", self._save),
            ("~/discard", self._discard),
            ("~/mark_keypose", self._mark),
            ("~/undo_keypose", self._unmark),
        ):
            self.create_service(Trigger, name, answering(act), callback_group=self._requests)
        self._server = ActionServer(
            self, RecordEpisode, "~/record_episode", self._on_record, callback_group=self._requests,
            cancel_callback=lambda handle: CancelResponse.ACCEPT,
        )  # fmt: skip
        # A steady clock: pictures must be watched while simulated time stands still.
        clock, group = Clock(clock_type=ClockType.STEADY_TIME), MutuallyExclusiveCallbackGroup()
        self.create_timer(WATCH_PERIOD_S, self._watch, callback_group=group, clock=clock)

    # -- lifecycle ------------------------------------------------------------------------------------------------

    def configure(self) -> None:
        """Read the calibration, make the folder."""
        self._poses = CameraPoses(self, self.settings, self.settings.spec.cameras)
        try:
            self._session.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"cannot make the folder '{self._session.root}' ({error.strerror})") from None
        self._worker = Worker("recorder")
        if unfinished := partial_episodes(self._session.root):
            names = ", ".join(folder.name for folder in unfinished)
            self.get_logger().warning(f"recordings that were never finished: {names}; repair or discard them")

    def deactivate(self) -> None:
        """Save what is being recorded, unlabelled: nothing is lost."""
        if self._session.take is not None:
            self._save(self.stop_reason or "deactivated")
        elif self._worker is not None:
            self._worker.cancel()  # waits for an episode that is being saved

    def cleanup(self) -> None:
        """End the worker, stop listening to TF."""
        if self._poses is not None:
            self._poses.close()
        if self._worker is not None:
            self._worker.stop()
        self._worker = None

    # -- an episode -----------------------------------------------------------------------------------------------

    def _begin(self, request: Any) -> Take:
        """Start an episode. Raises MinidiffuserError with every reason why not."""
        if not self.is_active:
            raise BusyError("the recorder is not active; activate it first")
        assert self._poses is not None
        if reasons := self._poses.reasons():
            raise EpisodeError("no recording was started: " + "; ".join(reasons))
        info = episode_info(request, self.settings, self._poses.mounts, self._poses.records, self._topics)
        if reasons := self._silences(True) + content_reasons(self._topics, self._intake.meters):
            raise EpisodeError("no recording was started: " + "; ".join(reasons))
        take = self._session.begin(info, self._extra)
        self._intake.begin(take.writer)
        self._keyposes.publish(no_keyposes())
        self.get_logger().info(self._session.message)
        return take

    def _silences(self, stamped: bool) -> list[str]:
        required = {topic: meter for topic, meter in self._intake.meters.items() if topic not in self._extra}
        return silence_reasons(required, self._types, self.settings.liveness, self._now_ns(), stamped)

    def _save(self, why: str = "") -> str:
        """Save the episode in the worker and wait for it. Raises MinidiffuserError."""
        self._finish(lambda: self._session.save(why))
        return self._session.message

    def _discard(self) -> str:
        self._finish(self._session.discard)
        return self._session.message

    def _finish(self, act: Callable[[], Path]) -> None:
        if self._worker is None:
            raise BusyError("the recorder is not configured")
        self._intake.writer = None
        try:
            self._worker.start(lambda cancelled: act()).result()
        finally:
            self.get_logger().info(self._session.message)
            self._watch()

    def _mark(self) -> str:
        take, topic = self._session.take, self._topics.tool_pose
        if take is None:
            raise EpisodeError("nothing is being recorded: start an episode before marking keyposes in it")
        silent_s, newest = self._intake.meters[topic].silent_s(), self._intake.meters[topic].newest
        if newest is None or silent_s is None or silent_s > self.settings.liveness.silent_after_s:
            raise EpisodeError(f"{topic} is silent: nobody knows where the tool is")
        tool = deserialize_message(newest, PoseStamped)
        self._publish_mark(take, keypose_mark(self._session.next_mark(), tool, self._now_ns()))
        return f"keypose {len(take.marks)} marked"

    def _unmark(self) -> str:
        take, index = self._session.take, self._session.undo_mark()
        if take is not None:
            self._publish_mark(take, keypose_unmark(index, self.settings.spec.policy_frame, self._now_ns()))
        return "the last keypose is taken back"

    def _publish_mark(self, take: Take, marker: Marker) -> None:
        self._keyposes.publish(marker)
        # Into the bag at once: through the middleware a mark could come after the end.
        take.writer.write(self._topics.keyposes, time.time_ns(), serialize_message(marker))

    # -- services and the action ----------------------------------------------------------------------------------

    def _on_start(self, request: StartRecording.Request, response: StartRecording.Response) -> StartRecording.Response:
        try:
            response.episode = self._begin(request).writer.name
        except MinidiffuserError as error:
            response.message = str(error)
            return response
        response.success, response.message = True, self._session.message
        return response

    def _on_label(self, request: LabelEpisode.Request, response: LabelEpisode.Response) -> LabelEpisode.Response:
        try:
            response.message = f"{self._session.label(request.episode, request.outcome)} is {request.outcome}"
            response.success = True
        except MinidiffuserError as error:
            response.message = str(error)
        return response

    def _on_record(self, handle: ServerGoalHandle) -> RecordEpisode.Result:
        try:
            take = self._begin(handle.request)
        except MinidiffuserError as error:
            handle.abort()
            return RecordEpisode.Result(message=str(error))
        while not take.ended.wait(STATUS_PERIOD_S):
            feedback = RecordEpisode.Feedback(duration_s=take.duration_s, keyposes=len(take.marks))
            feedback.bytes = take.writer.written_bytes
            handle.publish_feedback(feedback)
            if handle.is_cancel_requested and take is self._session.take:
                answering(self._discard)(None, Trigger.Response())
        discarded = handle.is_cancel_requested and not take.saved
        (handle.succeed if take.saved else handle.canceled if discarded else handle.abort)()
        return RecordEpisode.Result(success=take.saved, message=take.message, episode=take.episode)

    # -- status ---------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        take = self._session.take
        reasons = self._silences(take is None)
        why = self._session.reason_to_end()
        reasons = [*([why] if why else []), *([] if self.is_active else ["the recorder is not active"]), *reasons]
        now = time.monotonic()
        told = (self._session.state, self._session.message, [reason.split(" ", 1)[0] for reason in reasons])
        if told != self._told or now - self._told_at >= STATUS_PERIOD_S:
            self._told, self._told_at = told, now
            self._publish_status(take, reasons)
        if why and take is not None:
            self.get_logger().warning(f"the recording ends: {why}")
            answering(lambda: self._save(why))(None, Trigger.Response())

    def _publish_status(self, take: Take | None, reasons: list[str]) -> None:
        stamped = header(self.settings.spec.policy_frame, self._now_ns())
        self._status.publish(recorder_status(stamped, self._session, take, self._intake, reasons))

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)


def main() -> int:
    """Entry point of the node."""
    return run_node(RecorderNode)
