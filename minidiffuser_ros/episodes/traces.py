"""How arm and gripper went through an episode, as arrays over time; what the operator marked on the way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Slerp

from minidiffuser_ros.arm.kinematics import JOINT_NAMES, MAX_GRIPPER_WIDTH, STATE_NAMES, FrankaKinematics
from minidiffuser_ros.contract.errors import EpisodeError, MessageError
from minidiffuser_ros.contract.keypose import QUATERNION_TOLERANCE
from minidiffuser_ros.geometry.rotation import quat_of, rotation
from minidiffuser_ros.geometry.transform import pose_of
from minidiffuser_ros.perception.assembly import opening_of
from minidiffuser_ros.perception.decoding import joint_positions, joint_velocities, stamp_to_ns
from minidiffuser_ros.perception.streams import SECOND_NS

Array = NDArray[np.float64]

MARK_ADDED, MARK_REMOVED, ALL_MARKS_REMOVED = 0, 2, 3  # actions of visualization_msgs/Marker


@dataclass(frozen=True)
class Traces:
    """N joint states by ascending stamp, and the rest at their stamps.

    times_ns [N] int64. joints [N, 7] rad. velocities [N, 7] rad/s, None where they were not recorded. opening [N]: the
    gripper as measured, in [0, 1]. tool [N, 7]: position in m and quat_wxyz in the policy frame. gripper_target [N]:
    the opening asked for last, in [0, 1]; NaN where none was recorded.
    """

    times_ns: NDArray[np.int64]
    joints: Array
    velocities: Array | None
    opening: Array
    tool: Array
    gripper_target: Array

    @property
    def seconds(self) -> Array:
        """[N] since the first joint state."""
        seconds: Array = (self.times_ns - self.times_ns[0]) / SECOND_NS
        return seconds


@dataclass(frozen=True)
class Mark:
    """A keypose that the operator marked: when, and where the tool was, position in m and quat_wxyz."""

    number: int
    stamp_ns: int
    position: tuple[float, float, float]
    quat_wxyz: tuple[float, float, float, float]


def traces_of(joint_states: Iterable[Any], tool_poses: Iterable[Any], targets: Iterable[Any]) -> Traces:
    """Traces from messages: JointState, PoseStamped, JointState. Messages that hold no numbers are left out.

    Raises EpisodeError where no joint state can be read.
    """
    rows, problem = _joint_rows(joint_states)
    if len(rows) < 2:
        raise EpisodeError(f"the episode has no two joint states that can be read{problem}")
    times = np.array([row[0] for row in rows], np.int64)
    joints = np.array([row[1][:7] for row in rows])
    given = [row[2] for row in rows if row[2] is not None]
    return Traces(
        times,
        joints,
        np.array(given) if len(given) == len(rows) else None,
        np.array([opening_of(row[1][7:], MAX_GRIPPER_WIDTH) for row in rows]),
        _tool_at(times, joints, tool_poses),
        _targets_at(times, targets),
    )


def marks_of(markers: Iterable[Any]) -> list[Mark]:
    """The marks that were not undone, by stamp; `markers` come in the order in which they were recorded."""
    marks: dict[int, Mark] = {}
    for marker in markers:
        if marker.action == MARK_ADDED:
            p, q = marker.pose.position, marker.pose.orientation
            pose = (float(p.x), float(p.y), float(p.z)), (float(q.w), float(q.x), float(q.y), float(q.z))
            marks[marker.id] = Mark(int(marker.id), stamp_to_ns(marker.header.stamp), *pose)
        elif marker.action == MARK_REMOVED:
            marks.pop(marker.id, None)
        elif marker.action == ALL_MARKS_REMOVED:
            marks.clear()
    return sorted(marks.values(), key=lambda mark: (mark.stamp_ns, mark.number))


def _joint_rows(messages: Iterable[Any]) -> tuple[list[tuple[int, Array, Array | None]], str]:
    """Stamp, joints and fingers [9], velocities [7]; what was wrong with a message that was left out."""
    rows: dict[int, tuple[Array, Array | None]] = {}
    problem = ""
    for message in messages:
        try:
            state = joint_positions(message, STATE_NAMES)
        except MessageError as error:
            problem = f": {error!s:.200}"
            continue
        velocities = joint_velocities(message, JOINT_NAMES)
        if not np.isfinite(state).all():
            problem = ": their numbers are not finite"
            continue
        if velocities is not None and not np.isfinite(velocities).all():
            velocities = None
        rows.setdefault(stamp_to_ns(message.header.stamp), (state, velocities))
    return [(stamp, *rows[stamp]) for stamp in sorted(rows)], problem


def _tool_at(times_ns: NDArray[np.int64], joints: Array, messages: Iterable[Any]) -> Array:
    """[N, 7] at the given times: between the recorded poses, or by the arm's kinematics where none were recorded."""
    poses: dict[int, Array] = {}
    for message in messages:
        p, q = message.pose.position, message.pose.orientation
        pose = np.array([p.x, p.y, p.z, q.w, q.x, q.y, q.z], np.float64)
        # An infinite quaternion has an infinite norm, which is not close to one either.
        if np.isfinite(pose[:3]).all() and abs(np.linalg.norm(pose[3:]) - 1.0) < QUATERNION_TOLERANCE:
            poses[stamp_to_ns(message.header.stamp)] = pose
    if len(poses) < 2:
        kinematics = FrankaKinematics()
        return np.array([np.concatenate(pose_of(kinematics.forward(row))) for row in joints])
    stamps = np.array(sorted(poses), np.int64)
    known = np.array([poses[stamp] for stamp in stamps.tolist()])
    # Seconds since the first joint state: nanoseconds since 1970 have more digits than a float.
    when, first = np.unique((stamps - times_ns[0]) / SECOND_NS, return_index=True)
    known, at = known[first], np.clip((times_ns - times_ns[0]) / SECOND_NS, when[0], when[-1])
    positions = [np.interp(at, when, known[:, axis]) for axis in range(3)]
    turns = rotation(known[:, 3:])
    quats = quat_of(Slerp(when, turns)(at)) if len(when) > 1 else np.repeat(quat_of(turns), len(at), axis=0)
    return np.column_stack([*positions, quats])


def _targets_at(times_ns: NDArray[np.int64], messages: Iterable[Any]) -> Array:
    """[N] the opening that was asked for last; NaN before the first."""
    asked = {
        stamp_to_ns(message.header.stamp): float(message.position[0])
        for message in messages
        if len(message.position) and 0.0 <= message.position[0] <= 1.0
    }
    if not asked:
        return np.full(len(times_ns), np.nan)
    stamps: Sequence[int] = sorted(asked)
    values = np.array([np.nan, *(asked[stamp] for stamp in stamps)])
    return values[np.searchsorted(np.array(stamps, np.int64), times_ns, side="right")]
