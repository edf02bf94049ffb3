"""One recording after another: begin, mark, save or throw away, and what to say of it meanwhile. No ROS."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from minidiffuser_ros.contract.episode import EpisodeInfo
from minidiffuser_ros.contract.errors import BusyError, EpisodeError
from minidiffuser_ros.episodes.library import label_episode
from minidiffuser_ros.episodes.writer import MEGABYTE, EpisodeWriter, WriterSettings

# A recording ends by itself while there is still room to finish its file.
RESERVE = 0.1


class State(IntEnum):
    """What the recorder does; the numbers are those of RecorderStatus."""

    IDLE = 0
    RECORDING = 1
    SAVING = 2
    ERROR = 3


@dataclass
class Take:
    """One recording. `ended` is set when it was saved, discarded or has failed; the rest of the fields tell how."""

    writer: EpisodeWriter
    started: float = field(default_factory=time.monotonic)
    marks: list[int] = field(default_factory=list)
    last_mark: int = 0
    ended: threading.Event = field(default_factory=threading.Event)
    saved: bool = False
    message: str = ""
    episode: str = ""

    @property
    def duration_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started


class RecordingSession:
    """Holds at most one recording. Methods may be called from any thread; `save` and `discard` take their time."""

    def __init__(self, root: Path, settings: WriterSettings, max_duration_s: float) -> None:
        self.root, self.settings, self.max_duration_s = root, settings, max_duration_s
        self.state, self.message, self.episode = State.IDLE, "ready", ""
        self._take: Take | None = None
        self._lock = threading.Lock()

    @property
    def take(self) -> Take | None:
        """The recording that runs; None while there is none, or it is being saved."""
        return self._take

    def begin(self, info: EpisodeInfo, extra_topics: Mapping[str, str]) -> Take:
        """Start a recording. Raises BusyError while there is one, EpisodeError if it cannot be written."""
        with self._lock:
            if self._take is not None or self.state is State.SAVING:
                raise BusyError(f"{self.episode} is being recorded: stop or discard it before the next one")
            take = self._take = Take(EpisodeWriter(self.root, info, self.settings, extra_topics))
            self.state, self.episode = State.RECORDING, take.writer.name
            self.message = f"recording {self.episode}: '{info.instruction}'"
            return take

    def save(self, why: str = "") -> Path:
        """Finish the recording; returns its folder. Raises EpisodeError if there is none or it cannot be written."""
        take = self._end(State.SAVING, f"saving {self.episode}")
        try:
            folder = take.writer.save()
        except EpisodeError as error:
            self._tell(take, State.ERROR, False, str(error))
            raise
        except Exception as error:
            self._tell(take, State.ERROR, False, f"saving {self.episode} failed: {error}")
            raise
        self.episode = folder.name
        count = sum(take.writer.received.values())
        self._tell(take, State.IDLE, True, f"saved {folder.name}: {count} messages{f' ({why})' if why else ''}")
        return folder

    def discard(self) -> Path:
        """Stop the recording and move it to the trash; returns where it lies. Raises EpisodeError if there is none."""
        take = self._end(State.SAVING, f"discarding {self.episode}")
        try:
            folder = take.writer.discard()
        except EpisodeError as error:
            self._tell(take, State.ERROR, False, str(error))
            raise
        self._tell(take, State.IDLE, False, f"discarded {take.writer.name}")
        return folder

    def reason_to_end(self) -> str:
        """Why the recording must end now: too long, the disk nearly full, a failed write. Empty if it may go on."""
        take = self._take
        if take is None:
            return ""
        if take.writer.error:
            return take.writer.error
        if take.duration_s > self.max_duration_s:
            return f"it has lasted the {self.max_duration_s:g} s that an episode may"
        try:
            free_mb = shutil.disk_usage(self.root).free / MEGABYTE
        except OSError as error:
            return f"the folder {self.root} cannot be read any more ({error.strerror})"
        return f"only {free_mb:.0f} MB are free" if free_mb < RESERVE * self.settings.min_free_mb else ""

    def next_mark(self) -> int:
        """Number of a new keypose mark. Raises EpisodeError if nothing is recorded."""
        take = self._recording()
        take.last_mark += 1
        take.marks.append(take.last_mark)
        return take.last_mark

    def undo_mark(self) -> int:
        """Take the last mark back; returns its number. Raises EpisodeError if there is none."""
        take = self._recording()
        if not take.marks:
            raise EpisodeError("no keypose has been marked in this episode: there is nothing to undo")
        return take.marks.pop()

    def label(self, name: str, outcome: str) -> str:
        """Judge a saved episode, the last one if `name` is empty; returns its name. Raises EpisodeError."""
        name = name or self.episode
        if not name or Path(name).name != name or name.startswith("."):
            raise EpisodeError(f"'{name:.80}' names no episode: give the name of a folder in {self.root}")
        if self._take is not None and name == self._take.writer.name:
            raise EpisodeError(f"{name} is still being recorded: stop it before it is judged")
        label_episode(self.root / name, outcome)
        return name

    def _recording(self) -> Take:
        take = self._take
        if take is None:
            raise EpisodeError("nothing is being recorded: start an episode first")
        return take

    def _end(self, state: State, message: str) -> Take:
        with self._lock:
            take = self._recording()
            self._take, self.state, self.message = None, state, message
            return take

    def _tell(self, take: Take, state: State, saved: bool, message: str) -> None:
        self.state, self.message = state, message
        take.saved, take.message, take.episode = saved, message, self.episode
        take.ended.set()
