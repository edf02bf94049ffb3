"""One MCAP file as rosbag2 keeps it: opened once, filled with serialised messages, finished."""

from __future__ import annotations

import fcntl
import json
import os
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from mcap.writer import CompressionType, Writer

from minidiffuser_ros.episodes.metadata import message_definition
from minidiffuser_ros.episodes.timeline import STAMPED, Timeline

COMPRESSIONS = {"none": CompressionType.NONE, "lz4": CompressionType.LZ4, "zstd": CompressionType.ZSTD}
# Name of the MCAP metadata record that repeats `custom_data`, so that the file alone says what it is; and its key for
# topic and type of each channel with a checksum, which the format keeps in the first chunk only.
RECORD, CHANNELS = "minidiffuser_episode", "channels"


class BagFile:
    """Written in chunks, each of which can be read without the ones after it. Only one thread may use it."""

    def __init__(
        self, path: Path, types: Mapping[str, str], about: Mapping[str, str], compression: str, chunk_bytes: int
    ) -> None:
        """Make the file and lock it for as long as this process lives.

        types: topic → message type. about: kept in a record at the beginning. Raises FileExistsError rather than
        overwrite, other OSError if the file cannot be written, EpisodeError for a message type that is unknown.
        """
        definitions = {kind: message_definition(kind)[0] for kind in types.values()}
        self.timelines = {topic: Timeline(kind in STAMPED) for topic, kind in types.items()}
        self._file = path.open("xb", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._mcap = Writer(self._file, chunk_bytes, COMPRESSIONS[compression])
            self._mcap.start("ros2")
            channels = json.dumps(list(types.items()))
            self._mcap.add_metadata(RECORD, {**about, CHANNELS: f"{zlib.crc32(channels.encode())} {channels}"})
            self._mcap.flush()
            schemas = {k: self._mcap.register_schema(k, "ros2msg", text.encode()) for k, text in definitions.items()}
            metadata = {"offered_qos_profiles": ""}
            self._channels = {
                topic: self._mcap.register_channel(topic, "cdr", schemas[kind], metadata)
                for topic, kind in types.items()
            }
        except BaseException:
            self.abandon()
            raise

    def add(self, topic: str, log_ns: int, data: bytes | memoryview, sequence: int) -> None:
        """Append one message. Raises OSError."""
        # The format has room for 32 bits of the publisher's count.
        self._mcap.add_message(self._channels[topic], log_ns, data, log_ns, sequence & 0xFFFFFFFF)
        self.timelines[topic].add(log_ns, data, sequence)

    def flush(self) -> None:
        """End the chunk in progress and hand everything to the operating system. Raises OSError."""
        self._mcap.flush()

    def finish(self) -> None:
        """Write the index, put everything on the disk and close. Raises OSError."""
        self._mcap.finish()
        self._mcap.flush()  # the last bytes of `finish` are still in a buffer
        os.fsync(self._file.fileno())
        self._file.close()

    def abandon(self) -> None:
        """Close without an index."""
        with suppress(OSError):
            self._file.close()


def is_being_written(path: Path) -> bool:
    """Whether a process that lives holds the lock of a `BagFile`."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
