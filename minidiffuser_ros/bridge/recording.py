"""What a recorder is told: which topics, whose pictures, when an episode may begin. And what it makes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image, JointState

from minidiffuser_ros.arm.kinematics import STATE_NAMES
from minidiffuser_ros.bridge.poses import joint_positions
from minidiffuser_ros.contract.calibration import CalibrationRecord, CameraPoseSettings
from minidiffuser_ros.contract.episode import CameraTopics, EpisodeInfo, EpisodeTopics
from minidiffuser_ros.contract.errors import ConfigurationError, MessageError, require_positive
from minidiffuser_ros.contract.observation import CameraMount, ObservationSpec
from minidiffuser_ros.episodes.liveness import LivenessSettings, StreamMeter
from minidiffuser_ros.episodes.timeline import topic_types
from minidiffuser_ros.episodes.typestore import message_definition
from minidiffuser_ros.episodes.writer import WriterSettings

COLOR_ENCODINGS, DEPTH_ENCODINGS = ("rgb8",), ("16UC1", "32FC1")


def _topic(default: str, description: str) -> Any:
    return field(default=default, metadata={"description": description})


@dataclass(frozen=True)
class RecorderSettings(CameraPoseSettings):
    """What is recorded, and where to. `{camera}` in a topic stands for each camera of the spec."""

    root: str = field(default="data/episodes", metadata={"description": "folder of the episodes"})
    color_topic: str = _topic("{camera}/color/image_raw", "colour, rgb8")
    depth_topic: str = _topic("{camera}/aligned_depth_to_color/image_raw", "depth, 16UC1 in mm or 32FC1 in m")
    info_topic: str = _topic("{camera}/color/camera_info", "intrinsics of the colour picture")
    joint_states_topic: str = _topic("joint_states", "seven joints and both fingers")
    tool_pose_topic: str = _topic("tcp_pose", "pose of the tool in the policy frame")
    gripper_topic: str = _topic("gripper_target", "opening asked of the gripper")
    extra_topics: str = _topic("", "more to record: topic:package/msg/Type, separated by blanks")
    max_duration_s: float = field(
        default=600.0,
        metadata={"description": "an episode is saved when it is this long", "unit": "s", "range": (1.0, 86400.0)},
    )
    liveness: LivenessSettings = field(default_factory=LivenessSettings)
    writer: WriterSettings = field(default_factory=WriterSettings)
    spec: ObservationSpec = field(default_factory=ObservationSpec)

    def __post_init__(self) -> None:
        require_positive(self, ("max_duration_s",))
        if not self.root:
            raise ConfigurationError("the parameter 'root' is empty; name the folder that is to hold the episodes")


def episode_topics(
    settings: RecorderSettings, cameras: Mapping[str, CameraTopics], keyposes: str, resolve: Callable[[str], str]
) -> EpisodeTopics:
    """Full names of everything an episode holds. Raises ConfigurationError if two of them are the same."""
    topics = EpisodeTopics(
        cameras,
        joint_states=resolve(settings.joint_states_topic),
        tool_pose=resolve(settings.tool_pose_topic),
        gripper_target=resolve(settings.gripper_topic),
        keyposes=resolve(keyposes),
    )
    names = topics.all()
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigurationError(f"{', '.join(twice)} would be recorded as two things; give each a topic of its own")
    return topics


def extra_topics(settings: RecorderSettings, resolve: Callable[[str], str]) -> dict[str, str]:
    """Topic → message type of what is recorded beside the episode. Raises ConfigurationError, EpisodeError."""
    extra = {}
    for entry in settings.extra_topics.split():
        topic, _, kind = entry.rpartition(":")
        if not topic or kind.count("/") != 2:
            raise ConfigurationError(f"extra_topics takes topic:package/msg/Type, separated by blanks, got '{entry}'")
        message_definition(kind)  # an unknown type is told now, and not when an episode begins
        extra[resolve(topic)] = kind
    return extra


def content_reasons(topics: EpisodeTopics, meters: dict[str, StreamMeter]) -> list[str]:
    """One sentence for each topic whose newest message is not what an episode holds; silent topics are passed over."""
    reasons = []
    for camera in topics.cameras.values():
        for topic, encodings in ((camera.color, COLOR_ENCODINGS), (camera.depth, DEPTH_ENCODINGS)):
            if (data := meters[topic].newest) is not None:
                encoding = deserialize_message(data, Image).encoding
                if encoding not in encodings:
                    reasons.append(
                        f"{topic} has the encoding '{encoding:.20}', an episode holds {' or '.join(encodings)}"
                    )
    if (data := meters[topics.joint_states].newest) is not None:
        try:
            joint_positions(deserialize_message(data, JointState), STATE_NAMES)
        except MessageError as error:
            reasons.append(f"{topics.joint_states}: {error}")
    return reasons


def recorded_types(topics: EpisodeTopics, extra: dict[str, str]) -> dict[str, str]:
    """Topic → message type of everything that is subscribed to; the recorder makes the keypose marks itself."""
    types = topic_types(topics) | extra
    return {topic: kind for topic, kind in types.items() if topic != topics.keyposes}


def episode_info(
    request: Any,
    settings: RecorderSettings,
    mounts: Mapping[str, CameraMount],
    records: tuple[CalibrationRecord, ...],
    topics: EpisodeTopics,
) -> EpisodeInfo:
    """What an episode will say of itself; `request` is a StartRecording or RecordEpisode. Raises EpisodeError."""
    return EpisodeInfo(
        task=request.task,
        instruction=request.instruction,
        operator=request.operator_name,
        spec=settings.spec,
        mounts=tuple(mounts[name] for name in settings.spec.cameras),
        topics=topics,
        variation=request.variation,
        seed=request.seed,
        calibrations=records,
    )
