"""What there is to say of an episode, in words: for tables, and everything about one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.contract.errors import EpisodeError
from minidiffuser_ros.episodes.cache import open_cache
from minidiffuser_ros.episodes.catalog import CACHED, RECORDED, Listed
from minidiffuser_ros.episodes.demonstration import Demonstration, load_demonstration


def keyposes_words(episode: Listed) -> str:
    """How many keyposes lead through the episode; `auto` where they are found in the motion of a recording."""
    if episode.steps is not None:
        return str(episode.steps - 1)  # the last step repeats the last keypose
    if not episode.marks:
        return "auto"
    # Here, as machines that only train have no rosbags.
    from minidiffuser_ros.episodes.bag import EpisodeReader
    from minidiffuser_ros.episodes.traces import marks_of

    try:
        reader = EpisodeReader(episode.path)
        marks = marks_of([message for _, _, message in reader.messages([reader.info.topics.keyposes])])
    except EpisodeError:
        return "?"
    return str(len(marks)) if marks else "auto"


def audit_words(episode: Listed) -> str:
    """What the audit of a recording said when it was saved; nothing for what has none."""
    if episode.kind != RECORDED:
        return ""
    # Here, as machines that only train have no rosbags.
    from minidiffuser_ros.episodes.audit import read_audit

    try:
        problems = len(read_audit(episode.path).problems)
    except EpisodeError:
        return "none"
    return f"{problems} problem{'s' if problems > 1 else ''}" if problems else "clean"


def details_of(episode: Listed) -> Iterator[str]:
    """Everything about one episode, line by line. Raises EpisodeError where it cannot be read."""
    yield f"{'name':<14}{episode.name}"
    yield f"{'is':<14}{_kind(episode)}, {episode.path}"
    yield f"{'task':<14}{episode.task}, variation {episode.variation}, seed {episode.seed}"
    for number, sentence in enumerate(episode.instructions):
        yield f"{'' if number else 'sentence':<14}{sentence}"
    yield f"{'outcome':<14}{episode.outcome}"
    if episode.duration_s is not None:
        yield f"{'duration':<14}{episode.duration_s:.2f} s"
    for label, sha256 in (("source", episode.source_sha256), ("content", episode.content_sha256)):
        if sha256:
            yield f"{label:<14}sha256 {sha256}"
    for key, value in episode.spec.to_dict().items():
        yield f"{'spec':<14}{key} {value}"
    if episode.kind == RECORDED:
        yield from _recorded(episode)
    else:
        yield from _steps(
            open_cache(episode.path).demonstration(episode.name)
            if episode.kind == CACHED
            else load_demonstration(episode.path)
        )


def _kind(episode: Listed) -> str:
    return {RECORDED: "a recorded episode", CACHED: "an episode of a cache"}.get(episode.kind, "a demonstration")


def _steps(d: Demonstration) -> Iterator[str]:
    yield f"{'steps':<14}{len(d.counts)}, {int(d.counts.sum())} points"
    yield f"{'step':>4}{'points':>8}  {'tool (m)':<24}{'keypose after it (m)':<24}{'quat_wxyz':<32}opening"
    for i, count in enumerate(d.counts):
        tool, target = d.tool[i], d.targets[i]
        poses = f"{_numbers(tool[:3]):<24}{_numbers(target[:3]):<24}{_numbers(target[3:7]):<32}"
        yield f"{i:>4}{count:>8}  {poses}{target[7]:.2f}"


def _recorded(episode: Listed) -> Iterator[str]:
    from minidiffuser_ros.episodes.audit import read_audit
    from minidiffuser_ros.episodes.library import read_info

    info = read_info(episode.path)
    yield f"{'operator':<14}{info.operator or 'not named'}"
    yield f"{'recorded by':<14}minidiffuser_ros {info.software_version}"
    for mount in info.mounts:
        pose = f"{_numbers(np.array(mount.position))} m, quat_wxyz {_numbers(np.array(mount.quat_wxyz))}"
        yield f"{'camera':<14}{mount.name} at {pose} in {mount.parent_frame}"
    try:
        audit = read_audit(episode.path)
    except EpisodeError as error:
        yield f"{'audit':<14}none: {error}"
        return
    yield f"{'audit':<14}{'clean' if audit.clean else f'{len(audit.problems)} problems'}"
    for problem in audit.problems:
        yield f"{'':<14}{problem}"
    width = max(map(len, audit.topics), default=0)
    yield f"{'topic':<{width}}{'messages':>10}{'expected':>10}{'Hz':>8}{'gaps':>6}{'longest s':>11}"
    for name, t in audit.topics.items():
        yield f"{name:<{width}}{t.received:>10}{t.expected:>10}{t.rate_hz:>8.1f}{t.gaps:>6}{t.largest_gap_s:>11.3f}"


def _numbers(values: NDArray[np.float64]) -> str:
    return " ".join(f"{value:+.3f}" for value in values)
