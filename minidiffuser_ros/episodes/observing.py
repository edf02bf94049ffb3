"""Observations out of a recording: the observer's own matching and assembly, fed with the messages of a bag."""

from __future__ import annotations

from minidiffuser_ros.arm.kinematics import FINGER_NAMES, JOINT_NAMES, MAX_GRIPPER_WIDTH, TOOL_FRAME, FrankaKinematics
from minidiffuser_ros.arm.self_shape import robot_volumes
from minidiffuser_ros.contract.errors import EpisodeError, MessageError, ObservationError
from minidiffuser_ros.contract.observation import Observation
from minidiffuser_ros.episodes.bag import EpisodeReader
from minidiffuser_ros.perception.assembly import ObservationAssembly
from minidiffuser_ros.perception.decoding import joint_positions, stamp_to_ns
from minidiffuser_ros.perception.streams import StreamSettings

SECOND_NS = 1_000_000_000
# Log times (s) before and after the moment asked for between which its pictures are looked for; wider if need be.
WINDOWS_S = ((0.8, 0.5), (3.0, 3.0))


class EpisodeObserver:
    """What a running observer would have answered at moments of an episode. Raises EpisodeError for foreign cameras."""

    def __init__(self, reader: EpisodeReader, settings: StreamSettings | None = None) -> None:
        info, kinematics = reader.info, FrankaKinematics()
        self._reader, self._settings = reader, settings or StreamSettings()
        mounts = {mount.name: mount for mount in info.mounts}
        frames = (info.spec.policy_frame, TOOL_FRAME)
        if strange := [f"{m.name} in '{m.parent_frame:.40}'" for m in info.mounts if m.parent_frame not in frames]:
            raise EpisodeError(
                f"{reader.folder}: cameras must be mounted in {' or '.join(frames)}, not {', '.join(strange)}"
            )
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
                state = joint_positions(message, (*JOINT_NAMES, *FINGER_NAMES)) if topic not in pictures else message
            except MessageError as error:
                matcher.report_fault(topic, f"{topic}: {error}")
                continue
            matcher.push(topic, stamp_ns, state, log_ns)
        match = matcher.match(not_before_ns)
        if match is None:
            raise ObservationError(matcher.reasons(last_ns, not_before_ns) or ["no pictures were taken together then"])
        return self._assembly.assemble(match, self._reader.camera_infos(last_ns))
