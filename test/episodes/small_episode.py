"""Episodes of made-up messages: the right topics, types and stamps, and a few random bytes instead of content."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mcap.reader import make_reader
from rosbags.rosbag2 import Reader

from minidiffuser_ros.contract.episode import CameraTopics, EpisodeInfo, EpisodeTopics
from minidiffuser_ros.contract.observation import CameraMount, ObservationSpec
from minidiffuser_ros.episodes.metadata import bag_file
from minidiffuser_ros.episodes.writer import EpisodeWriter, WriterSettings

START_NS = 1_770_000_000_000_000_000
PICTURE_NS, STATE_NS = 1_000_000_000 // 15, 10_000_000
TOPICS = EpisodeTopics(
    {
        name: CameraTopics(
            f"/{name}/color/image_raw", f"/{name}/aligned_depth_to_color/image_raw", f"/{name}/color/camera_info"
        )
        for name in ("front", "wrist")
    },
    "/joint_states",
    "/tcp_pose",
    "/gripper_target",
    "/recorder/keyposes",
)
MOUNTS = (
    CameraMount("front", "fr3_link0", (1.0, 0.0, 0.5), (1.0, 0.0, 0.0, 0.0)),
    CameraMount("wrist", "fr3_hand_tcp", (0.05, 0.0, -0.1), (1.0, 0.0, 0.0, 0.0)),
)
SMALL = WriterSettings(chunk_mb=0.01, flush_s=0.05, queue_mb=1.0, min_free_mb=1.0)


@dataclass(frozen=True)
class Sent:
    """One message of a made-up episode."""

    topic: str
    log_ns: int
    stamp_ns: int
    sequence: int
    size: int = 200

    def data(self) -> bytes:
        """CDR of a header's stamp, then bytes that depend on the message only."""
        seconds, nanoseconds = divmod(self.stamp_ns, 1_000_000_000)
        rng = np.random.default_rng([self.sequence, sum(self.topic.encode())])
        return struct.pack("<4BiI", 0, 1, 0, 0, seconds, nanoseconds) + rng.bytes(self.size)


def info(task: str = "open_drawer") -> EpisodeInfo:
    return EpisodeInfo(task, "open the drawer", "Ada", ObservationSpec(), MOUNTS, TOPICS, variation=1, seed=3)


def small_stream(duration_s: float = 2.0, latency_ns: int = 2_000_000) -> list[Sent]:
    """What a healthy robot sends: pictures at 15 Hz, everything else at 100 Hz, in the order of arrival."""
    sent = []
    for topic in TOPICS.all()[:-1]:
        period = STATE_NS if topic.count("/") == 1 else PICTURE_NS
        stamps = range(START_NS, START_NS + int(duration_s * 1e9), period)
        sent += [Sent(topic, stamp + latency_ns, stamp, n + 1) for n, stamp in enumerate(stamps)]
    return sorted(sent, key=lambda message: (message.log_ns, message.topic))


def begun(root: Path, settings: WriterSettings = SMALL, task: str = "open_drawer") -> EpisodeWriter:
    return EpisodeWriter(root, info(task), settings, now=lambda: START_NS / 1e9)


def written(root: Path, sent: list[Sent], settings: WriterSettings = SMALL) -> EpisodeWriter:
    """A writer that was given all of `sent`."""
    writer = begun(root, settings)
    for message in sent:
        assert writer.write(message.topic, message.log_ns, message.data(), message.sequence)
    return writer


def saved(root: Path, sent: list[Sent], settings: WriterSettings = SMALL) -> Path:
    return written(root, sent, settings).save()


def messages_of(folder: Path) -> list[tuple[str, int, bytes]]:
    """(topic, log time, data) of a bag through rosbags' reader, in the order of time."""
    with Reader(folder) as reader:
        found = [(connection.topic, log_ns, bytes(data)) for connection, log_ns, data in reader.messages()]
        assert reader.message_count == len(found)
    return found


def check_with_mcap(folder: Path) -> int:
    """MCAP's own reader finds checksums, index and statistics in order; returns the number of messages."""
    with bag_file(folder).open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        summary = reader.get_summary()
        assert summary is not None
        assert reader.get_header().profile == "ros2"
        counts = dict.fromkeys(summary.channels, 0)
        times = []
        for _, channel, message in reader.iter_messages():
            counts[channel.id] += 1
            times.append(message.log_time)
        statistics = summary.statistics
        assert statistics.message_count == len(times) == sum(counts.values())
        assert {k: n for k, n in statistics.channel_message_counts.items() if n} == {
            k: n for k, n in counts.items() if n
        }
        assert (statistics.message_start_time, statistics.message_end_time) == (
            min(times, default=0),
            max(times, default=0),
        )
        assert statistics.chunk_count == len(summary.chunk_indexes)
        assert statistics.channel_count == len(summary.channels)
        assert statistics.schema_count == len(summary.schemas)
        for index in summary.chunk_indexes:
            assert index.message_start_time <= index.message_end_time
    return len(times)


def keep(sent: list[Sent], wanted: Callable[[Sent], bool]) -> list[Sent]:
    return [message for message in sent if wanted(message)]


def as_written(sent: list[Sent]) -> Iterator[tuple[str, int, bytes]]:
    return ((message.topic, message.log_ns, message.data()) for message in sent)


def holds_beginnings(found: list[tuple[str, int, bytes]], sent: list[Sent]) -> bool:
    """Whether every topic's messages are the first ones that were sent on it, and all are in the order of time.

    Small messages and pictures reach the disk apart from each other.
    """
    by_topic: dict[str, list[tuple[str, int, bytes]]] = {}
    for message in as_written(sent):
        by_topic.setdefault(message[0], []).append(message)
    for topic, expected in by_topic.items():
        got = [message for message in found if message[0] == topic]
        if got != expected[: len(got)]:
            return False
    times = [log_ns for _, log_ns, _ in found]
    return times == sorted(times) and {topic for topic, _, _ in found} <= set(by_topic)
