"""Observations out of a recording: the observer's own matching and assembly, fed with the messages of a bag."""

from __future__ import annotations

import numpy as np

from minidiffuser_ros.arm.kinematics import (
    BASE_FRAME,
    MAX_GRIPPER_WIDTH,
    STATE_NAMES,
    TOOL_FRAME,
    FrankaKinematics,
)
from minidiffuser_ros.arm.self_shape import robot_volumes
from minidiffuser_ros.contract.episode import EpisodeInfo
from minidiffuser_ros.contract.errors import EpisodeError, MessageError, ObservationError
from minidiffuser_ros.contract.keypose import QUATERNION_TOLERANCE
from minidiffuser_ros.contract.observation import Observation
from minidiffuser_ros.episodes.bag import EpisodeReader
from minidiffuser_ros.perception.assembly import ObservationAssembly
from minidiffuser_ros.perception.decoding import joint_positions, stamp_to_ns
from minidiffuser_ros.perception.streams import SECOND_NS, StreamSettings

MAX_METRES = 100.0
# Log times (s) before and after the moment asked for between which its pictures are looked for; wider if need be.
WINDOWS_S = ((0.8, 0.5), (3.0, 3.0))


class EpisodeObserver:
    """What a running observer would have answered at moments of an episode. Raises EpisodeError for foreign cameras."""

    def __init__(self, reader: EpisodeReader, settings: StreamSettings | None = None) -> None:
        info, kinematics = reader.info, FrankaKinematics()
        self._reader, self._settings = reader, settings or StreamSettings()
        if problem := _problem(info):
            raise EpisodeError(f"{reader.folder}: {problem}: its description was made by hand or for another arm")
        mounts = {mount.name: mount for mount in info.mounts}
        self._assembly = ObservationAssembly(
            info.spec, info.topics.cameras, mounts, kinematics.forward, robot_volumes(kinematics), MAX_GRIPPER_WIDTH
        )

    def observe(self, not_after_ns: int, not_before_ns: int = 0) -> Observation:
        """The newest observation of pictures stamped between the two.

        Raises ObservationError with the reasons why there is none.
        """
        error = ObservationError(["nothing was recorded then"])
        for before_s, after_s in WINDOWS_S:
            try:
                return self._observe(not_after_ns, not_before_ns, before_s, after_s)
            except ObservationError as found:
                error = found
        raise error

    def _observe(self, not_after_ns: int, not_before_ns: int, before_s: float, after_s: float) -> Observation:
        topics = self._reader.info.topics
        matcher = self._assembly.matcher(topics.joint_states, self._settings)
        pictures = [name for camera in self._assembly.topics.values() for name in (camera.color, camera.depth)]
        start_ns, stop_ns = not_after_ns - round(before_s * SECOND_NS), not_after_ns + round(after_s * SECOND_NS)
        last_ns = 0
        for topic, log_ns, message in self._reader.messages(
            [*pictures, topics.joint_states], max(start_ns, 0), stop_ns
        ):
            stamp_ns = stamp_to_ns(message.header.stamp)
            if stamp_ns > not_after_ns:
                continue
            last_ns = max(last_ns, log_ns)
            try:
                state = joint_positions(message, STATE_NAMES) if topic not in pictures else message
            except MessageError as error:
                matcher.report_fault(topic, f"{topic}: {error}")
                continue
            matcher.push(topic, stamp_ns, state, log_ns)
        match = matcher.match(not_before_ns)
        if match is None:
            raise ObservationError(matcher.reasons(last_ns, not_before_ns) or ["no pictures were taken together then"])
        return self._assembly.assemble(match, self._reader.camera_infos(last_ns))


def _problem(info: EpisodeInfo) -> str:
    """What keeps a description that can be read from being this arm's and these cameras'; empty where nothing does."""
    if info.spec.policy_frame != BASE_FRAME:
        return f"the policy frame must be '{BASE_FRAME}', is {info.spec.policy_frame!r:.40}"
    for mount in info.mounts:
        if mount.parent_frame not in (BASE_FRAME, TOOL_FRAME):
            return f"cameras must be mounted in '{BASE_FRAME}' or '{TOOL_FRAME}', one is in '{mount.parent_frame:.40}'"
        if not (
            np.isfinite(mount.position).all() and abs(np.linalg.norm(mount.quat_wxyz) - 1.0) < QUATERNION_TOLERANCE
        ):
            return f"the pose of camera '{mount.name:.40}' is none"
    spec = info.spec
    numbers = [*spec.workspace_min, *spec.workspace_max, spec.voxel_size, spec.table_height, spec.table_margin]
    # True is an int, too.
    if (
        not all(isinstance(n, (int, float)) and abs(n) < MAX_METRES for n in numbers)
        or type(spec.max_points) is not int
    ):
        return "the observation spec needs lengths in metres and a whole number of points"
    used = [topic for name in spec.cameras for topic in info.topics.cameras[name].names()]
    topics = [*used, info.topics.joint_states]
    return "" if len(set(topics)) == len(topics) else "each stream needs a topic of its own"
