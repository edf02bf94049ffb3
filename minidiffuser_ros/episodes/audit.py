"""Is an episode complete? What was expected and received, gaps, streams that do not fit together, clocks that jump."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.contract.episode import EpisodeInfo
from minidiffuser_ros.contract.errors import EpisodeError
from minidiffuser_ros.contract.files import replace_file
from minidiffuser_ros.episodes.metadata import read_recording
from minidiffuser_ros.episodes.scan import BagScan, scan_timelines
from minidiffuser_ros.episodes.timeline import Timeline
from minidiffuser_ros.perception.calibration import TOOL_FRAME
from minidiffuser_ros.perception.streams import SECOND_NS

AUDIT = "audit.json"
# An interval this many times the usual one is a gap: one message is missing from it.
LONG = 1.75
# Key of the custom data that says that an episode was repaired, and what was wrong with it.
REPAIRED = "repaired"
MAX_BYTES = 2**20
# A publisher's count that leaps farther than this began anew; the messages between were never sent.
MAX_LEAP = 100_000
Array = NDArray[np.int64]


@dataclass(frozen=True)
class AuditSettings:
    """What an episode must keep to be called clean.

    max_lost: fraction of the expected messages of a topic. max_gap_s: longest silence of a topic. max_apart_s: between
    a colour picture and its depth picture. max_state_apart_s: between a picture and the joint states next to it.
    clock_tolerance_s: change of the delay between a stamp and its arrival that counts as a jump of a clock.
    """

    max_lost: float = 0.02
    max_gap_s: float = 0.5
    max_apart_s: float = 0.02
    max_state_apart_s: float = 0.1
    clock_tolerance_s: float = 0.5


@dataclass(frozen=True)
class TopicAudit:
    """One topic: messages received, expected, and not written because the writer's queue was full; intervals from which
    messages are missing; stamps that repeat their predecessor's; how often its clock jumped."""

    received: int
    expected: int
    dropped: int
    rate_hz: float
    gaps: int
    largest_gap_s: float
    repeated: int
    clock_jumps: int


@dataclass(frozen=True)
class Audit:
    """One episode. apart_s: camera → seconds between colour and depth that 95 % of the pictures stay under.
    problems: one sentence each."""

    duration_s: float
    topics: dict[str, TopicAudit]
    apart_s: dict[str, float]
    problems: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def audit_episode(folder: Path, settings: AuditSettings | None = None) -> Audit:
    """Read an episode's bag and judge it. What the writer dropped is known from the audit made at its end.

    Raises EpisodeError for a folder that is none, or a bag that cannot be read to its end.
    """
    recording = read_recording(folder)
    scan = BagScan(recording.file)
    timelines = scan_timelines(scan)
    if scan.damage:
        raise EpisodeError(f"{scan.path} is not whole: {scan.damage}; discard the episode or take it from a copy")
    try:
        dropped = {topic: entry.dropped for topic, entry in read_audit(folder).topics.items()}
    except EpisodeError:
        dropped = {}
    return audit_timelines(recording.info, timelines, dropped, settings, repaired=recording.about.get(REPAIRED, ""))


def audit_timelines(
    info: EpisodeInfo,
    timelines: Mapping[str, Timeline],
    dropped: Mapping[str, int],
    settings: AuditSettings | None = None,
    repaired: str = "",
) -> Audit:
    """Judge the times of an episode's messages, by topic. repaired: what a repair had to say, one problem more."""
    settings = settings or AuditSettings()
    times = [t.log_ns for t in timelines.values() if len(t)]
    start, end = (min(map(min, times)), max(map(max, times))) if times else (0, 0)
    # Marks come when the operator makes them: nothing can be expected of their topic.
    marks = {info.topics.keyposes}
    topics = {
        name: _topic(timeline, start, end, dropped.get(name, 0), settings, name not in marks)
        for name, timeline in timelines.items()
    }
    required = [name for name in info.topics.all() if name not in marks]
    problems = [repaired] if repaired else []
    problems += [
        f"{name}: nothing was recorded" for name in required if name not in topics or not topics[name].received
    ]
    for name in required:
        if name in topics and topics[name].received:
            problems += [f"{name}: {words}" for words in _topic_problems(topics[name], settings)]
    apart = {}
    for camera in info.topics.cameras:
        apart_s, words = _camera(info, camera, timelines, settings)
        problems += [f"camera '{camera}': {w}" for w in words]
        if apart_s is not None:
            apart[camera] = apart_s
    return Audit((end - start) / SECOND_NS, topics, apart, tuple(problems))


def write_audit(folder: Path, audit: Audit) -> None:
    """Put the audit beside the bag, whole or not at all."""
    text = json.dumps(dataclasses.asdict(audit), indent=1)
    replace_file(folder / AUDIT, lambda path: path.write_text(text, encoding="utf-8"))


def read_audit(folder: Path) -> Audit:
    """The audit made when the episode was saved or repaired. Raises EpisodeError if there is none."""
    path = folder / AUDIT
    try:
        if path.stat().st_size > MAX_BYTES:
            raise EpisodeError(f"{path} has more than {MAX_BYTES} bytes: it is no audit; make a new one")
        return _parsed(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise EpisodeError(f"cannot read {path} ({error.strerror}): audit the episode") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise EpisodeError(f"{path} is no audit ({error!s:.100}): audit the episode again") from None


def _parsed(values: dict[str, Any]) -> Audit:
    kinds: dict[str, Any] = {
        f.name: float if f.name.endswith(("_s", "_hz")) else int for f in dataclasses.fields(TopicAudit)
    }
    topics = {
        str(name): TopicAudit(**{key: kind(entry[key]) for key, kind in kinds.items()})
        for name, entry in values["topics"].items()
    }
    apart = {str(camera): float(value) for camera, value in values["apart_s"].items()}
    if not isinstance(values["problems"], list):
        raise ValueError("its problems are no list")
    return Audit(float(values["duration_s"]), topics, apart, tuple(map(str, values["problems"])))


def _topic(
    timeline: Timeline, start: int, end: int, dropped: int, settings: AuditSettings, regular: bool
) -> TopicAudit:
    log, stamps = np.sort(np.array(timeline.log_ns, np.int64)), np.array(timeline.stamp_ns, np.int64)
    received = len(log)
    if received < 2 or not regular:
        gap_s = (end - start) / SECOND_NS if regular else 0.0
        return TopicAudit(received, received + dropped, dropped, 0.0, 0, gap_s, 0, 0)
    repeated, jumps = (0, 0) if stamps.min() < 0 else _stamps(np.array(timeline.log_ns, np.int64), stamps, settings)
    # Stamps are steadier than arrivals, as long as their clock is.
    intervals = np.diff(log if jumps or stamps.min() < 0 else np.sort(stamps))
    usual = float(np.median(intervals)) or 1.0
    long = intervals > LONG * usual
    lost = _lost(timeline)
    if lost is None:
        lost = int(np.round(intervals[long] / usual - 1).sum())
    # The time before the first message and after the last one counts as silence too; what was only held up on its way,
    # as a message that is sent again, is none.
    silences = np.concatenate([[log[0] - start], intervals, [end - log[-1]]])
    for edge in (0, -1):
        lost += round(silences[edge] / usual) if silences[edge] > settings.max_gap_s * SECOND_NS else 0
    return TopicAudit(
        received=received,
        expected=received + max(lost, dropped),
        dropped=dropped,
        rate_hz=float((received - 1) * SECOND_NS / max(log[-1] - log[0], 1)),
        gaps=int(long.sum()),
        largest_gap_s=float(silences.max() / SECOND_NS),
        repeated=repeated,
        clock_jumps=jumps,
    )


def _lost(timeline: Timeline) -> int | None:
    """Messages that the publisher counted and nobody wrote; None where it did not count."""
    sequence = np.array(timeline.sequence, np.uint64).astype(np.int64)
    if sequence.min() <= 0:
        return None
    steps = np.diff(np.sort(sequence))
    return int((steps[(steps > 1) & (steps < MAX_LEAP)] - 1).sum())


def _stamps(log: Array, stamps: Array, settings: AuditSettings) -> tuple[int, int]:
    """How many stamps repeat their predecessor's, and how often a clock jumped."""
    steps = np.diff(stamps)
    leaps = np.abs(np.diff(log - stamps)) > settings.clock_tolerance_s * SECOND_NS
    # A message that was held up arrives late with an honest stamp: a jump also turns stamps back, or leaps ahead.
    return int((steps == 0).sum()), int(((steps < 0) | (leaps & (steps > np.diff(log)))).sum())


def _topic_problems(topic: TopicAudit, settings: AuditSettings) -> list[str]:
    problems = []
    lost = topic.expected - topic.received
    if lost > settings.max_lost * topic.expected:
        problems.append(f"{lost} of {topic.expected} messages are missing")
    if topic.largest_gap_s > settings.max_gap_s:
        problems.append(f"silent for {topic.largest_gap_s:.2f} s")
    if topic.repeated > settings.max_lost * topic.received:
        problems.append(f"{topic.repeated} of {topic.received} messages repeat the stamp before: is it frozen?")
    if topic.clock_jumps:
        problems.append(f"its clock jumped {topic.clock_jumps} times")
    return problems


def _camera(
    info: EpisodeInfo, camera: str, timelines: Mapping[str, Timeline], settings: AuditSettings
) -> tuple[float | None, list[str]]:
    """Seconds between colour and depth, and what is wrong with the camera as a whole."""
    names, problems = info.topics.cameras[camera], []
    color, depth, states = (
        np.sort(np.array(timelines[topic].stamp_ns, np.int64)) if topic in timelines else np.zeros(0, np.int64)
        for topic in (names.color, names.depth, info.topics.joint_states)
    )
    apart_s = None
    if len(color) and len(depth):
        apart_s = float(np.percentile(_distance(color, depth), 95) / SECOND_NS)
        if apart_s > settings.max_apart_s:
            problems.append(f"colour and depth are {apart_s:.3f} s apart; they must be of one moment")
    if len(color) and len(states):
        unknown = int((_distance(color, states) > settings.max_state_apart_s * SECOND_NS).sum())
        moves = any(mount.name == camera and mount.parent_frame == TOOL_FRAME for mount in info.mounts)
        if unknown > settings.max_lost * len(color):
            words = "its pose is not known" if moves else "the arm's pose is not known"
            problems.append(f"for {unknown} of {len(color)} pictures {words}: no joint states were near them")
    return apart_s, problems


def _distance(moments: Array, others: Array) -> Array:
    """Nanoseconds from each moment to the nearest of the others, which are sorted."""
    after = np.searchsorted(others, moments)
    left, right = others[np.maximum(after - 1, 0)], others[np.minimum(after, len(others) - 1)]
    distance: Array = np.minimum(np.abs(moments - left), np.abs(right - moments))
    return distance
