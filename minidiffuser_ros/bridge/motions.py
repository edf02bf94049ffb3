"""Goals of the arm, and the ways to them ↔ messages."""

from __future__ import annotations

import numpy as np
from builtin_interfaces.msg import Duration
from nav_msgs.msg import Path
from numpy.typing import ArrayLike, NDArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from minidiffuser_ros.arm.goal import KeyposeGoal, goal_from_numbers
from minidiffuser_ros.bridge.headers import header, stamp_to_ns
from minidiffuser_ros.bridge.poses import pose_from_message, stamped_pose
from minidiffuser_ros.geometry.transform import pose_of
from minidiffuser_ros.msg import Keypose as KeyposeMessage

NANOSECONDS = 1_000_000_000
Array = NDArray[np.float64]


def goal_from_message(message: KeyposeMessage) -> KeyposeGoal:
    """The goal of a message. Raises GoalRejectedError with the code of everything that makes no sense in it."""
    position, quat_wxyz = pose_from_message(message.pose)
    return goal_from_numbers(
        position,
        quat_wxyz,
        message.opening,
        stamp_ns=stamp_to_ns(message.header.stamp),
        frame=message.header.frame_id,
        way=message.motion,
        approach_m=message.approach,
        retreat_m=message.retreat,
    )


def trajectory_to_message(
    names: tuple[str, ...], times_s: ArrayLike, joints: ArrayLike, velocities: ArrayLike, frame_id: str, stamp_ns: int
) -> JointTrajectory:
    """JointTrajectory through joints [N, 7] at times [N] s."""
    points = []
    for time_s, positions, speeds in zip(np.asarray(times_s), np.asarray(joints), np.asarray(velocities), strict=True):
        sec, nanosec = divmod(int(round(float(time_s) * NANOSECONDS)), NANOSECONDS)
        points.append(
            JointTrajectoryPoint(
                positions=positions.tolist(),
                velocities=speeds.tolist(),
                time_from_start=Duration(sec=sec, nanosec=nanosec),
            )
        )
    return JointTrajectory(header=header(frame_id, stamp_ns), joint_names=list(names), points=points)


def tool_path_to_message(tools: Array, frame_id: str, stamp_ns: int) -> Path:
    """Path of the tool through `T_base_tool` [N, 4, 4]; no poses: a path to be shown no longer."""
    poses = [stamped_pose(*pose_of(tool), frame_id, stamp_ns) for tool in tools]
    return Path(header=header(frame_id, stamp_ns), poses=poses)
