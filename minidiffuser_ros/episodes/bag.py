"""A recorded episode: its messages, and the traces and marks in them.

Only what is not a picture is kept in memory; pictures pass by one after the other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from minidiffuser_ros.contract.episode import EpisodeInfo
from minidiffuser_ros.contract.errors import EpisodeError
from minidiffuser_ros.episodes.mcap_file import MAX_MESSAGE, Channel, McapFile
from minidiffuser_ros.episodes.mcap_records import unpack
from minidiffuser_ros.episodes.metadata import read_recording
from minidiffuser_ros.episodes.timeline import topic_types
from minidiffuser_ros.episodes.traces import Mark, Traces, marks_of, traces_of
from minidiffuser_ros.episodes.typestore import typestore

__all__ = ["EpisodeReader", "Mark", "Traces"]

END_OF_TIME = 1 << 64
MAX_STATES = 2_000_000  # joint states, poses, marks and infos together: half an hour at 1 kHz


class EpisodeReader:
    """Reads the folder of an episode. Raises EpisodeError for everything that is not an episode's.

    info: what it says of itself.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        recording = read_recording(self.folder)
        self.info: EpisodeInfo = recording.info
        self._file, self._packed_messages = recording.file, recording.packed_messages
        self._types = topic_types(self.info.topics)

    def messages(
        self, topics: Collection[str] | None = None, start_ns: int = 0, stop_ns: int = END_OF_TIME
    ) -> Iterator[tuple[str, int, Any]]:
        """Topic, log time and message, by log time, of the given topics, or of all whose type ROS 2 brings.

        Log time is when the recorder received it, in nanoseconds; only start_ns <= log time < stop_ns. A message has
        the fields of its ROS type; its arrays are numpy's.
        """
        with McapFile(self._file) as file:
            wanted = self._wanted(file, topics)
            for channel, log_ns, content in file.messages(wanted, start_ns, stop_ns):
                yield channel.topic, log_ns, self._message(channel, content)

    def traces(self) -> Traces:
        """How arm and gripper went through the episode."""
        topics, states = self.info.topics, self._read[0]
        try:
            return traces_of(states[topics.joint_states], states[topics.tool_pose], states[topics.gripper_target])
        except EpisodeError as error:
            raise EpisodeError(f"{self.folder}: {error}") from None

    def marks(self) -> list[Mark]:
        """What the operator marked and did not undo, by stamp."""
        return marks_of(self._read[0][self.info.topics.keyposes])

    def camera_infos(self, until_ns: int) -> dict[str, Any]:
        """Camera name → its newest CameraInfo that was recorded until then (log time), or else its first one.

        The intrinsics that depth has of its own are found under their topic.
        """
        found = {}
        infos = [entry for name, topics in self.info.topics.cameras.items() for entry in topics.infos(name).items()]
        for name, topic in infos:
            known = self._read[1][topic]
            earlier = [message for log_ns, message in known if log_ns <= until_ns]
            if known:
                found[name] = earlier[-1] if earlier else known[0][1]
        return found

    @cached_property
    def _read(self) -> tuple[dict[str, list[Any]], dict[str, list[tuple[int, Any]]]]:
        """By topic: messages of joints, tool, gripper and marks; log time and CameraInfo, where it changes."""
        t = self.info.topics
        states: dict[str, list[Any]] = {t.joint_states: [], t.tool_pose: [], t.gripper_target: [], t.keyposes: []}
        infos: dict[str, list[tuple[int, Any]]] = {
            topic: [] for name, camera in t.cameras.items() for topic in camera.infos(name).values()
        }
        last: dict[str, tuple[int, int, bytes]] = {}
        for count, (topic, log_ns, message) in enumerate(self.messages([*states, *infos])):
            if count >= MAX_STATES:
                raise EpisodeError(
                    f"{self.folder} has more than {MAX_STATES} messages beside pictures: it is longer than an episode"
                )
            if topic in states:
                states[topic].append(message)
                continue
            content = (message.width, message.height, message.k.tobytes())
            if last.get(topic) != content:
                last[topic] = content
                infos[topic].append((log_ns, message))
        return states, infos

    def _wanted(self, file: McapFile, topics: Collection[str] | None) -> set[str]:
        """The topics to read. Raises EpisodeError where one of the episode's holds another type than it must."""
        known = typestore().types
        for channel in file.channels.values():
            must = self._types.get(channel.topic, channel.type)
            if channel.type != must or (channel.topic in self._types and channel.encoding != "cdr"):
                raise EpisodeError(
                    f"{self.folder}: topic {channel.topic!r:.80} holds {channel.type!r:.60}, an episode {must} "
                    "there, in the encoding cdr"
                )
        present = {channel.topic: channel for channel in file.channels.values()}
        if topics is None:
            return {name for name, channel in present.items() if channel.type in known and channel.encoding == "cdr"}
        for name in topics:
            if name in present and (present[name].type not in known or present[name].encoding != "cdr"):
                raise EpisodeError(
                    f"{self.folder}: topic {name!r:.80} holds {present[name].type!r:.60}, no type of ROS 2"
                )
        return set(topics)

    def _message(self, channel: Channel, content: bytes) -> Any:
        if self._packed_messages:
            try:
                content, whole = unpack(content, "zstd", MAX_MESSAGE)
            except ValueError:
                whole = False
            if not whole:
                raise EpisodeError(f"{self.folder}: a message on {channel.topic} cannot be unpacked: it is damaged")
        try:
            return typestore().deserialize_cdr(content, channel.type)
        except Exception:  # damaged bytes make it raise almost anything
            raise EpisodeError(
                f"{self.folder}: a message on {channel.topic} is no {channel.type}: the recording is damaged"
            ) from None
