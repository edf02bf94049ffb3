"""What a recorded episode says of itself: task, sentence, outcome, how it is to be seen. No arrays, no bag.

It travels as the `custom_data` of a rosbag2 recording, which holds text only, so each value is one JSON document.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from minidiffuser_ros.contract.calibration import CalibrationRecord
from minidiffuser_ros.contract.errors import ConfigurationError, EpisodeError
from minidiffuser_ros.contract.observation import CameraMount, ObservationSpec
from minidiffuser_ros.contract.version import VERSION

# The file that makes a folder a rosbag2 recording.
METADATA = "metadata.yaml"
FORMAT = 1
UNLABELLED, SUCCESS, FAILURE = "unlabelled", "success", "failure"
OUTCOMES = (UNLABELLED, SUCCESS, FAILURE)
# Longer text is no name and no sentence, whatever it is.
MAX_TEXT = 1000


# Metres of one count of a depth picture in 16UC1, as ROS has it (REP 118).
DEPTH_SCALE = 0.001


def _own(default: Any, description: str, **about: Any) -> Any:
    return field(default=default, metadata={"description": description, **about})


@dataclass(frozen=True)
class CameraTopics:
    """The topics of one camera: colour, depth seen from the same place, intrinsics of the colour picture.

    depth_info: intrinsics of depth where they are not those of colour, scaled to the size of depth; empty: they are.
    depth_scale: metres of one count of depth in 16UC1.
    """

    color: str
    depth: str
    info: str
    depth_info: str = ""
    depth_scale: float = DEPTH_SCALE

    def names(self) -> list[str]:
        """Every topic once."""
        return [self.color, self.depth, self.info, *([self.depth_info] if self.depth_info else [])]

    def infos(self, camera: str) -> dict[str, str]:
        """Topics of intrinsics under the keys they are known by: the camera's name, and for depth the topic itself."""
        return {camera: self.info, **({self.depth_info: self.depth_info} if self.depth_info else {})}

    def to_dict(self) -> dict[str, Any]:
        """Plain values; what is as it mostly is, is left out, so that older versions can read it."""
        optional = {"depth_info": "", "depth_scale": DEPTH_SCALE}
        return {k: v for k, v in dataclasses.asdict(self).items() if v != optional.get(k)}


@dataclass(frozen=True)
class OwnTopics:
    """What one camera has of its own; an empty topic is that of all cameras."""

    color_topic: str = _own("", "colour of this camera; empty: as of all cameras")
    depth_topic: str = _own("", "depth of this camera, seen from the same place as colour; empty: as of all cameras")
    info_topic: str = _own("", "intrinsics of this camera's colour picture; empty: as of all cameras")
    depth_info_topic: str = _own("", "intrinsics of this camera's depth; empty: those of colour, scaled to its size")
    depth_scale: float = _own(DEPTH_SCALE, "metres of one count of depth in 16UC1", unit="m", range=(1e-6, 0.1))


@dataclass(frozen=True)
class EpisodeTopics:
    """Where a recording keeps what: full topic names.

    cameras: camera name → its topics (sensor_msgs Image, Image, CameraInfo). joint_states: seven joints and both
    fingers (sensor_msgs JointState). tool_pose: geometry_msgs PoseStamped in the policy frame. gripper_target: opening
    asked of the gripper, in [0, 1] (sensor_msgs JointState of one joint). keyposes: marks of the operator
    (visualization_msgs Marker, namespace `keypose`, action ADD to mark and DELETE to undo the same id).
    """

    cameras: Mapping[str, CameraTopics]
    joint_states: str
    tool_pose: str
    gripper_target: str
    keyposes: str

    def all(self) -> list[str]:
        """Every topic once."""
        pictures = [topic for camera in self.cameras.values() for topic in camera.names()]
        return [*pictures, self.joint_states, self.tool_pose, self.gripper_target, self.keyposes]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**vars(self), "cameras": {name: camera.to_dict() for name, camera in self.cameras.items()}}


@dataclass(frozen=True)
class EpisodeInfo:
    """Everything about an episode that is not in its messages.

    variation, seed: the layout of a simulated task, -1 on hardware. mounts: the calibration in use. calibrations: where
    it came from and how old it was, as far as that is known. Raises EpisodeError for values that cannot be.
    """

    task: str
    instruction: str
    operator: str
    spec: ObservationSpec
    mounts: tuple[CameraMount, ...]
    topics: EpisodeTopics
    outcome: str = UNLABELLED
    variation: int = -1
    seed: int = -1
    software_version: str = field(default=VERSION)
    calibrations: tuple[CalibrationRecord, ...] = ()

    def __post_init__(self) -> None:
        for name in ("task", "instruction", "operator", "software_version"):
            value = getattr(self, name)
            if not isinstance(value, str) or len(value) > MAX_TEXT or not value.isprintable():
                raise EpisodeError(
                    f"'{name}' must be printable text of at most {MAX_TEXT} characters, is {value!r:.60}"
                )
        if not self.task or not self.instruction.strip():
            raise EpisodeError("an episode needs the name of its task and a sentence that tells what is done in it")
        if self.outcome not in OUTCOMES:
            raise EpisodeError(f"an outcome is one of {', '.join(OUTCOMES)}, not {self.outcome!r:.60}")
        if any(isinstance(n, bool) or not isinstance(n, int) or n < -1 for n in (self.variation, self.seed)):
            raise EpisodeError(f"variation and seed must be whole numbers from -1, are {self.variation}, {self.seed}")
        mounted = {mount.name for mount in self.mounts}
        if missing := [name for name in self.spec.cameras if name not in mounted or name not in self.topics.cameras]:
            raise EpisodeError(f"no pose or no topics for the cameras {missing} that the observation spec names")

    def labelled(self, outcome: str) -> EpisodeInfo:
        """The same with another outcome. Raises EpisodeError for one that does not exist."""
        return dataclasses.replace(self, outcome=outcome)

    def to_custom_data(self) -> dict[str, str]:
        """Text by key for rosbag2's `custom_data`, with hashes of spec and calibration."""
        spec, calibration = self.spec.to_dict(), [dataclasses.asdict(mount) for mount in self.mounts]
        values: dict[str, Any] = {
            "format": FORMAT,
            "task": self.task,
            "instruction": self.instruction,
            "operator": self.operator,
            "outcome": self.outcome,
            "variation": self.variation,
            "seed": self.seed,
            "software_version": self.software_version,
            "topics": self.topics.to_dict(),
            "spec": spec,
            "spec_sha256": _digest(spec),
            "calibration": calibration,
            "calibration_sha256": _digest(calibration),
            RECORDS: [dataclasses.asdict(record) for record in self.calibrations],
        }
        return {key: _text(value) for key, value in values.items()}

    @classmethod
    def from_custom_data(cls, data: Mapping[str, str]) -> EpisodeInfo:
        """Inverse of `to_custom_data`. Raises EpisodeError for anything else, naming the key that is wrong."""
        values = {key: _parsed(key, data) for key in KEYS}
        if values["format"] != FORMAT:
            raise EpisodeError(f"the episode has format {values['format']!r:.20}, this version reads {FORMAT}")
        for key in ("spec", "calibration"):
            if _digest(values[key]) != values[f"{key}_sha256"]:
                raise EpisodeError(f"'{key}' is not what was recorded: its hash differs")
        try:
            return cls(
                spec=ObservationSpec.from_dict(values["spec"]),
                mounts=tuple(_mount(entry) for entry in values["calibration"]),
                topics=_topics(values["topics"]),
                **{key: values[key] for key in ("task", "instruction", "operator", "outcome", "variation", "seed")},
                software_version=values["software_version"],
                # Not among the keys that must be there: episodes from before it was kept have none.
                calibrations=tuple(
                    CalibrationRecord.from_dict(entry) for entry in _parsed(RECORDS, {RECORDS: "[]", **data})
                ),
            )
        except (TypeError, ValueError, KeyError, AttributeError, ConfigurationError) as error:
            raise EpisodeError(f"the episode's description does not hold what it should: {error!s:.200}") from None


KEYS = (
    "format", "task", "instruction", "operator", "outcome", "variation", "seed", "software_version", "topics", "spec",
    "spec_sha256", "calibration", "calibration_sha256",
)  # fmt: skip
RECORDS = "calibration_records"


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _digest(value: Any) -> str:
    return hashlib.sha256(_text(value).encode()).hexdigest()


def _parsed(key: str, data: Mapping[str, str]) -> Any:
    text = data.get(key)
    if not isinstance(text, str):
        raise EpisodeError(f"the recording has no '{key}' among its custom data: it was not made by this package")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise EpisodeError(f"'{key}' in the recording's custom data is no JSON: {text!r:.60}") from None


def _topics(values: Mapping[str, Any]) -> EpisodeTopics:
    cameras = {str(name): CameraTopics(**topics) for name, topics in values["cameras"].items()}
    topics = EpisodeTopics(cameras, *(values[f.name] for f in dataclasses.fields(EpisodeTopics)[1:]))
    if not all(isinstance(name, str) and name for name in topics.all()):
        raise ValueError("topics must be names")
    scales = [camera.depth_scale for camera in cameras.values()]
    if not all(type(scale) in (int, float) and math.isfinite(scale) and scale > 0 for scale in scales):
        raise ValueError("a depth_scale must be a number of metres above 0")
    return topics


def _mount(entry: Mapping[str, Any]) -> CameraMount:
    position, quat = (tuple(float(x) for x in entry[key]) for key in ("position", "quat_wxyz"))
    if len(position) != 3 or len(quat) != 4:
        raise ValueError("a camera's pose is three numbers and a quaternion of four")
    return CameraMount(str(entry["name"]), str(entry["parent_frame"]), position, quat)
