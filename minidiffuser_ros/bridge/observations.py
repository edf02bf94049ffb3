"""An observation as the answer of `~/capture`, and back."""

from __future__ import annotations

import json

import numpy as np

from minidiffuser_ros.bridge.clouds import cloud_from_points, points_from_cloud
from minidiffuser_ros.bridge.headers import stamp_to_ns
from minidiffuser_ros.bridge.poses import pose_from_message, pose_to_message
from minidiffuser_ros.contract.errors import MessageError, ObservationError
from minidiffuser_ros.contract.observation import Observation, ObservationSpec
from minidiffuser_ros.srv import Capture


def fill_capture(response: Capture.Response, observation: Observation, lift_ms: float) -> Capture.Response:
    """Write an observation into the response of `~/capture`."""
    spec = observation.spec
    response.success = True
    response.message = f"{len(observation.points)} points"
    response.points = cloud_from_points(observation.points, observation.colors, spec.policy_frame, observation.stamp_ns)
    response.tool_pose = pose_to_message(observation.tool_position, observation.tool_quat_wxyz)
    response.joint_positions = np.asarray(observation.joint_positions, dtype=np.float64)
    response.opening = float(observation.opening)
    response.spec = json.dumps(spec.to_dict())
    response.lift_ms = float(lift_ms)
    return response


def refuse_capture(response: Capture.Response, error: ObservationError) -> Capture.Response:
    """Write the reasons why there is no observation into the response of `~/capture`."""
    response.success = False
    response.message = str(error)
    response.reasons = list(error.reasons)
    return response


def observation_from_capture(response: Capture.Response) -> Observation:
    """The observation of a successful answer.

    Raises ObservationError with the observer's reasons when it answered that there is none, and MessageError when the
    answer cannot be read.
    """
    if not response.success:
        raise ObservationError(list(response.reasons) or [response.message])
    try:
        spec = ObservationSpec.from_dict(json.loads(response.spec))
    except json.JSONDecodeError as error:
        raise MessageError(
            f"the observer sent a spec that is no JSON ({error}); do both sides run one version?"
        ) from error
    points, colors = points_from_cloud(response.points)
    position, quat_wxyz = pose_from_message(response.tool_pose)
    return Observation(
        points=points,
        colors=colors,
        tool_position=position,
        tool_quat_wxyz=quat_wxyz,
        joint_positions=np.array(response.joint_positions, dtype=np.float64),
        opening=float(response.opening),
        stamp_ns=stamp_to_ns(response.points.header.stamp),
        spec=spec,
    )
