"""Poses, keyposes and joints ↔ numpy. ROS writes quaternions xyzw; this file is where they turn into wxyz."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion, Transform
from numpy.typing import ArrayLike, NDArray
from sensor_msgs.msg import JointState

from minidiffuser_ros.bridge.headers import header
from minidiffuser_ros.contract.errors import MessageError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.geometry.transform import transform_from
from minidiffuser_ros.msg import Keypose as KeyposeMessage
from minidiffuser_ros.perception.decoding import joint_positions

__all__ = [
    "joint_positions",
    "joint_state",
    "keypose_from_message",
    "keypose_to_message",
    "pose_from_message",
    "pose_to_message",
    "stamped_pose",
    "transform_from_message",
]

Array = NDArray[np.float64]


def pose_to_message(position: ArrayLike, quat_wxyz: ArrayLike) -> Pose:
    """Pose of a position [3] in metres and a quaternion [4]."""
    x, y, z = (float(v) for v in np.asarray(position))
    qw, qx, qy, qz = (float(v) for v in np.asarray(quat_wxyz))
    return Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=qx, y=qy, z=qz, w=qw))


def pose_from_message(message: Pose) -> tuple[Array, Array]:
    """Position [3] and `quat_wxyz` [4], as they stand: not normalised, not checked."""
    p, q = message.position, message.orientation
    return np.array([p.x, p.y, p.z]), np.array([q.w, q.x, q.y, q.z])


def stamped_pose(position: ArrayLike, quat_wxyz: ArrayLike, frame_id: str, stamp_ns: int) -> PoseStamped:
    """PoseStamped of a position [3] in metres and a quaternion [4]."""
    return PoseStamped(header=header(frame_id, stamp_ns), pose=pose_to_message(position, quat_wxyz))


def transform_from_message(message: Transform) -> Array:
    """`T_parent_child` [4, 4] of a TF transform. Raises MessageError for a quaternion that is not of length one."""
    t, q = message.translation, message.rotation
    quat_wxyz = np.array([q.w, q.x, q.y, q.z])
    if not abs(np.linalg.norm(quat_wxyz) - 1.0) < 1e-2:
        raise MessageError(f"a transform needs a unit quaternion, got xyzw ({q.x}, {q.y}, {q.z}, {q.w})")
    return transform_from([t.x, t.y, t.z], quat_wxyz)


def keypose_to_message(keypose: Keypose, frame_id: str, stamp_ns: int) -> KeyposeMessage:
    """Message of a keypose in `frame_id`, stamped with the observation it answers."""
    return KeyposeMessage(
        header=header(frame_id, stamp_ns),
        pose=pose_to_message(keypose.position, keypose.quat_wxyz),
        opening=float(keypose.opening),
    )


def keypose_from_message(message: KeyposeMessage) -> Keypose:
    """The keypose of a message. Raises ConfigurationError for values that are no pose."""
    position, quat_wxyz = pose_from_message(message.pose)
    return Keypose(position, quat_wxyz, message.opening)


def joint_state(
    names: Sequence[str],
    positions: ArrayLike,
    stamp_ns: int,
    frame_id: str = "",
    velocities: ArrayLike | None = None,
) -> JointState:
    """JointState of positions [N] in radians (metres for fingers) and, where known, velocities [N]."""
    values = [float(v) for v in np.asarray(positions)]
    if len(values) != len(names):
        raise MessageError(f"{len(names)} joint names but {len(values)} positions")
    message = JointState(header=header(frame_id, stamp_ns), name=list(names), position=values)
    if velocities is not None:
        message.velocity = [float(v) for v in np.asarray(velocities)]
    return message
