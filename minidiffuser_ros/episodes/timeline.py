"""When the messages of one topic were taken, received and sent: what an audit needs, a few bytes for each."""

from __future__ import annotations

import struct
from array import array

from minidiffuser_ros.contract.episode import EpisodeTopics
from minidiffuser_ros.perception.streams import SECOND_NS

IMAGE, CAMERA_INFO, JOINT_STATE = "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo", "sensor_msgs/msg/JointState"
POSE, MARKER = "geometry_msgs/msg/PoseStamped", "visualization_msgs/msg/Marker"
# Messages that begin with a std_msgs/Header, and so with a stamp.
STAMPED = frozenset({IMAGE, CAMERA_INFO, JOINT_STATE, POSE, MARKER})
# Types of an episode's topics that take a few hundred bytes a message.
SMALL = STAMPED - {IMAGE}
# CDR: four bytes that tell the byte order, then seconds and nanoseconds.
_STAMPS = {0: struct.Struct(">4xiI"), 1: struct.Struct("<4xiI")}


def topic_types(topics: EpisodeTopics) -> dict[str, str]:
    """Message type of each topic of an episode."""
    types: dict[str, str] = {}
    for camera in topics.cameras.values():
        types |= {camera.color: IMAGE, camera.depth: IMAGE, camera.info: CAMERA_INFO}
        types |= {camera.depth_info: CAMERA_INFO} if camera.depth_info else {}
    types |= {topics.joint_states: JOINT_STATE, topics.tool_pose: POSE}
    return types | {topics.gripper_target: JOINT_STATE, topics.keyposes: MARKER}


def header_stamp_ns(data: bytes | memoryview) -> int | None:
    """Stamp of a serialised message that begins with a header; None where there is none to read."""
    layout = _STAMPS.get(data[1]) if len(data) >= 12 and data[0] == 0 else None
    if layout is None:
        return None
    seconds, nanoseconds = layout.unpack_from(data)
    return int(seconds) * SECOND_NS + int(nanoseconds)


class Timeline:
    """Times in nanoseconds of the messages of one topic, in the order in which they were written.

    log_ns: received. stamp_ns: of the header, -1 where there is none. sequence: the publisher's own count, 0 where it
    is not known.
    """

    def __init__(self, stamped: bool) -> None:
        self.stamped = stamped
        self.log_ns, self.stamp_ns, self.sequence = array("q"), array("q"), array("Q")

    def __len__(self) -> int:
        return len(self.log_ns)

    def add(self, log_ns: int, data: bytes | memoryview, sequence: int = 0) -> None:
        """Note one message."""
        stamp_ns = header_stamp_ns(data) if self.stamped else None
        self.log_ns.append(log_ns)
        self.stamp_ns.append(-1 if stamp_ns is None else stamp_ns)
        self.sequence.append(sequence)
