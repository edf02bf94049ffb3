"""Writes one episode as it happens: serialised messages in, a rosbag2 folder with one MCAP file out.

Whoever receives the messages only puts them into a queue; a thread compresses and writes them in chunks, each of which
can be read without the ones after it. A process that is killed loses what was still in memory: the queue and at most
`flush_s` of what was written. The folder is `NAME.partial` until everything is on the disk.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from minidiffuser_ros.contract.episode import EpisodeInfo
from minidiffuser_ros.contract.errors import ConfigurationError, EpisodeError
from minidiffuser_ros.contract.files import sync_folder
from minidiffuser_ros.episodes.audit import audit_timelines, write_audit
from minidiffuser_ros.episodes.bag_file import BagFile
from minidiffuser_ros.episodes.library import PARTIAL, claim_folder, discard_episode, finish_folder
from minidiffuser_ros.episodes.metadata import write_metadata
from minidiffuser_ros.episodes.timeline import topic_types
from minidiffuser_ros.episodes.typestore import message_definition

MEGABYTE = 1_000_000
COMPRESSION_NAMES = ("none", "lz4", "zstd")


@dataclass(frozen=True)
class WriterSettings:
    """How an episode is written."""

    compression: str = field(
        default="zstd", metadata={"description": "of each chunk of the file", "choices": COMPRESSION_NAMES}
    )
    chunk_mb: float = field(
        default=4.0,
        metadata={
            "description": "data compressed at once, of pictures or of the rest",
            "unit": "MB",
            "range": (0.01, 64.0),
        },
    )
    queue_mb: float = field(
        default=256.0,
        metadata={"description": "data waiting to be written; more is dropped", "unit": "MB", "range": (1.0, 16384.0)},
    )
    flush_s: float = field(
        default=1.0, metadata={"description": "how often chunks are ended early", "unit": "s", "range": (0.05, 60.0)}
    )
    min_free_mb: float = field(
        default=2000.0,
        metadata={"description": "free disk space without which nothing starts", "unit": "MB", "range": (1.0, 1e8)},
    )

    def __post_init__(self) -> None:
        if self.compression not in COMPRESSION_NAMES:
            raise ConfigurationError(
                f"compression is one of {', '.join(COMPRESSION_NAMES)}, not '{self.compression:.40}'"
            )
        for name in ("chunk_mb", "queue_mb", "flush_s", "min_free_mb"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"{name} must be above 0, got {getattr(self, name)}")


@dataclass(frozen=True)
class _Message:
    topic: str
    log_ns: int
    data: bytes
    sequence: int


class EpisodeWriter:
    """One recording from its start to `save` or `discard`. `write` may be called from any thread.

    folder: `ROOT/NAME.partial`. error: one sentence once writing has failed; what comes after it is dropped, what came
    before stays in the folder for `repair_episode`.
    """

    def __init__(
        self,
        root: Path,
        info: EpisodeInfo,
        settings: WriterSettings | None = None,
        extra_topics: Mapping[str, str] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Make the folder and open the file. extra_topics: topic → message type, beside those of the episode.

        Raises EpisodeError if the disk has no room, or `root` cannot be written to.
        """
        self.info = info
        self.settings = settings or WriterSettings()
        self.types = topic_types(info.topics) | dict(extra_topics or {})
        self.error = ""
        for kind in self.types.values():
            message_definition(kind)  # an unknown one is refused before anything is made
        self.folder = claim_folder(root, info.task, now())
        self._changed = threading.Condition()
        self._queue: deque[_Message] = deque()
        self._queued, self._written_bytes = 0, 0
        self._closing = self._discarded = False
        self._received = dict.fromkeys(self.types, 0)
        self._dropped = dict.fromkeys(self.types, 0)
        try:
            self._check_space(root)
            compression = self.settings.compression.replace("none", "")
            path, chunk_bytes = self.folder / f"{self.name}.mcap", int(self.settings.chunk_mb * MEGABYTE)
            self._bag = BagFile(path, self.types, info.to_custom_data(), compression, chunk_bytes)
            self._write_metadata()
        except (OSError, EpisodeError) as error:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise error if isinstance(error, EpisodeError) else EpisodeError(self._sentence(error)) from None
        self._thread = threading.Thread(target=self._work, name="episode writer", daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        """Name of the episode."""
        return self.folder.name.removesuffix(PARTIAL)

    @property
    def received(self) -> dict[str, int]:
        """Messages taken into the queue so far, by topic."""
        with self._changed:
            return dict(self._received)

    @property
    def dropped(self) -> dict[str, int]:
        """Messages for which there was no room, or that came after an error, by topic."""
        with self._changed:
            return dict(self._dropped)

    @property
    def written_bytes(self) -> int:
        """Bytes of messages that have been written, before compression."""
        return self._written_bytes

    def write(self, topic: str, log_ns: int, data: bytes, sequence: int = 0) -> bool:
        """Queue one serialised message (CDR) of a topic of the episode; returns whether there was room.

        log_ns: when it was received. sequence: the publisher's count, 0 where it is not known. What comes after `save`
        or `discard` belongs to no episode and is not counted. Never waits.
        """
        with self._changed:
            if self._closing:
                return False
            if self.error or self._queued + len(data) > self.settings.queue_mb * MEGABYTE:
                self._dropped[topic] += 1
                return False
            self._queue.append(_Message(topic, log_ns, data, sequence))
            self._queued += len(data)
            self._received[topic] += 1
            self._changed.notify()
            return True

    def save(self) -> Path:
        """Write what is queued, audit, put everything on the disk and rename; returns the folder of the episode.

        Raises EpisodeError if that fails; the folder stays `.partial` then, with all that was written.
        """
        self._close()
        if self.error:
            raise EpisodeError(self.error)
        try:
            self._write_metadata()
            write_audit(self.folder, audit_timelines(self.info, self._bag.timelines, self.dropped))
            sync_folder(self.folder)
            return finish_folder(self.folder)
        except OSError as error:
            raise EpisodeError(self._sentence(error)) from None

    def discard(self) -> Path:
        """Move the recording to the trash as it is, and stop; returns where it lies now. Raises EpisodeError."""
        with self._changed:
            self._closing = self._discarded = True
            self._queue.clear()
        # First of all: killed from here on, it is not taken for a recording that somebody wanted.
        try:
            return discard_episode(self.folder)
        finally:
            self._close()

    # -- inner workings -------------------------------------------------------------------------------------------

    def _check_space(self, root: Path) -> None:
        free_mb = shutil.disk_usage(root).free / MEGABYTE
        if free_mb < self.settings.min_free_mb:
            raise EpisodeError(
                f"{root} has {free_mb:.0f} MB free and an episode is not begun with less than "
                f"{self.settings.min_free_mb:.0f} MB: free some space or record elsewhere"
            )

    def _write_metadata(self) -> None:
        write_metadata(self.folder, f"{self.name}.mcap", self.info, self.types, self._bag.timelines)

    def _close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        try:
            self._write_queue()
            if not self._discarded:
                self._bag.finish()
        except Exception as error:  # whatever it is, the recorder must hear of it and go on
            self._fail(self._sentence(error))
        finally:
            self._bag.abandon()

    def _write_queue(self) -> None:
        flushed = time.monotonic()
        while not self._is_done():
            if message := self._next():
                self._bag.add(message.topic, message.log_ns, message.data, message.sequence)
                self._written_bytes += len(message.data)
                with self._changed:
                    self._queued -= len(message.data)
            if time.monotonic() - flushed > self.settings.flush_s:
                self._bag.flush()
                flushed = time.monotonic()

    def _is_done(self) -> bool:
        with self._changed:
            return self._closing and not self._queue

    def _next(self) -> _Message | None:
        """The oldest message; None when there is none within `flush_s`."""
        with self._changed:
            if not self._queue and not self._closing:
                self._changed.wait(self.settings.flush_s)
            return self._queue.popleft() if self._queue else None

    def _fail(self, sentence: str) -> None:
        """From now on everything is dropped, beginning with what still waits."""
        with self._changed:
            self.error = sentence
            for message in self._queue:
                self._received[message.topic] -= 1
                self._dropped[message.topic] += 1
            self._queue.clear()

    def _sentence(self, error: Exception) -> str:
        reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        return (
            f"writing {self.folder} failed ({reason}): free or mend the disk, then repair the episode; "
            "what was written until then is in it"
        )
