"""The topics of cameras and arm, as they come in: who publishes, how often, what is in a message, how old it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from minidiffuser_ros.cli.doctor_findings import Finding, State
from minidiffuser_ros.contract.episode import DEPTH_SCALE, CameraTopics
from minidiffuser_ros.contract.errors import MessageError
from minidiffuser_ros.perception.decoding import (
    camera_from_info,
    check_color,
    check_depth,
    depth_from_image,
    joint_positions,
)

if TYPE_CHECKING:
    from minidiffuser_ros.bridge.graph_probe import TopicSample

GROUP = "cameras"
MIN_PICTURES_HZ, MIN_STATES_HZ = 2.0, 10.0
# Of stamps against this machine's clock; beyond the second the observer calls a topic stale.
LATE_S, STALE_S = 0.5, 1.5
# A table is seen from this far; what lies beyond was given in another unit.
NEAR_M, FAR_M = 0.1, 10.0
# Focal lengths over the width of a picture: lenses from 127 to 19 degrees.
FOCAL_RANGE = (0.25, 3.0)
OTHER_SHAPE = 0.02


def camera_findings(
    cameras: Mapping[str, CameraTopics], samples: Mapping[str, TopicSample], seconds: float
) -> Iterator[Finding]:
    """seconds: how long was listened."""
    for camera, topics in cameras.items():
        color, depth, info = (samples[topic] for topic in (topics.color, topics.depth, topics.info))
        yield judged(f"{camera} color", color, seconds, MIN_PICTURES_HZ, color_problem)
        scale = topics.depth_scale
        yield judged(f"{camera} depth", depth, seconds, MIN_PICTURES_HZ, lambda m, s=scale: depth_problem(m, s))
        yield judged(f"{camera} intrinsics", info, seconds, 0.0, lambda m, c=color: info_problem(m, c.newest))
        if topics.depth_info:
            own = samples[topics.depth_info]
            yield judged(f"{camera} depth intrinsics", own, seconds, 0.0, lambda m, d=depth: info_problem(m, d.newest))


def state_finding(sample: TopicSample, seconds: float, names: tuple[str, ...]) -> Finding:
    """Of the joint states."""
    return judged("joint states", sample, seconds, MIN_STATES_HZ, lambda message: joints_problem(message, names))


def judged(check: str, sample: TopicSample, seconds: float, min_rate_hz: float, problem: Any) -> Finding:
    """One topic. problem(message) -> (what is wrong, what to do), empty where nothing is."""

    def finding(state: State, found: str, advice: str = "") -> Finding:
        return Finding(GROUP, check, state, found, advice)

    topic = sample.topic
    if not sample.publishers:
        if sample.other_types:
            advice = "name the topic of this type in the observer's parameters"
            return finding(
                State.FAIL, f"{topic} carries {', '.join(sample.other_types)} instead of {sample.kind}", advice
            )
        return finding(State.FAIL, f"nobody publishes {topic}", "start its node, or check namespace and topic names")
    if len(sample.incompatible) == sample.publishers:
        return finding(
            State.FAIL, f"{topic} is offered with a quality of service that does not fit: {sample.incompatible[0]}",
            "change the QoS of its publisher",
        )  # fmt: skip
    if sample.newest is None:
        advice = "is the device connected and streaming? With several machines: check the firewall and the domain"
        return finding(State.FAIL, f"{topic} is published, but nothing came within {seconds:g} s", advice)
    wrong, advice = problem(sample.newest)
    if wrong:
        return finding(State.FAIL, f"{topic}: {wrong}", advice)
    late_s = abs(sample.newest_age_s)
    age = f"{late_s:.1f} s" if late_s >= 1.0 else f"{late_s * 1e3:.0f} ms"
    age = f"stamped {age} {'before' if sample.newest_age_s >= 0 else 'after'} arrival"
    text = f"{sample.rate_hz:.1f} Hz, {described(sample.newest)}{age}"
    if late_s > LATE_S:
        state = State.FAIL if late_s > STALE_S else State.WARN
        return finding(state, text, "synchronise the clocks of the machines (chrony), or the network is overloaded")
    if sample.rate_hz < min_rate_hz:
        return finding(State.WARN, text, f"at least {min_rate_hz:g} Hz are wanted: lower resolution or load")
    if sample.publishers > 1:
        return finding(State.WARN, f"{sample.publishers} nodes publish {topic}", "end all of them but one")
    return finding(State.OK, text)


def described(message: Any) -> str:
    """Encoding and size of a picture."""
    return f"{message.encoding} {message.width}x{message.height}, " if hasattr(message, "encoding") else ""


def color_problem(message: Any) -> tuple[str, str]:
    """Can it be read."""
    try:
        check_color(message)
    except MessageError as error:
        return str(error), "set the camera's colour format to rgb8 or bgr8"
    return "", ""


def depth_problem(message: Any, scale: float = DEPTH_SCALE) -> tuple[str, str]:
    """Can it be read, is there anything in it, and is it in metres or in counts of `scale` as its encoding says."""
    try:
        check_depth(message)
    except MessageError as error:
        return str(error), "set the camera's depth format to 16UC1 (mm) or 32FC1 (m)"
    depth = depth_from_image(message, scale)
    valid = depth[np.isfinite(depth) & (depth > 0.0)]
    if not len(valid):
        return "no pixel has a depth", "is the lens covered, or the camera nearer than its shortest distance?"
    median = float(np.median(valid))
    if not NEAR_M < median < FAR_M:
        unit = f"counts of {scale:g} m" if message.encoding != "32FC1" else "metres"
        return f"the median depth would be {median:.3g} m", f"{message.encoding} must be in {unit}: set the depth unit"
    return "", ""


def info_problem(message: Any, picture: Any) -> tuple[str, str]:
    """Are the intrinsics those of a lens, and of the picture (None: not known)."""
    try:
        camera = camera_from_info(message)
    except MessageError as error:
        return str(error), "calibrate the camera"
    low, high = FOCAL_RANGE
    if not all(low < f / camera.width < high for f in (camera.fx, camera.fy)):
        return (
            f"focal lengths {camera.fx:.0f}, {camera.fy:.0f} px for a width of {camera.width}",
            "calibrate the camera",
        )
    if not (0 < camera.cx < camera.width and 0 < camera.cy < camera.height):
        return f"its centre ({camera.cx:.0f}, {camera.cy:.0f}) lies outside of the picture", "calibrate the camera"
    if picture is not None and abs(picture.width * camera.height / (picture.height * camera.width) - 1) > OTHER_SHAPE:
        return (
            f"it is for {camera.width}x{camera.height}, the picture is {picture.width}x{picture.height}",
            "publish the intrinsics of the profile in use",
        )
    return "", ""


def joints_problem(message: Any, names: tuple[str, ...]) -> tuple[str, str]:
    """Are all joints there, and numbers."""
    try:
        positions = joint_positions(message, names)
    except MessageError as error:
        return str(error), "start the arm node, or remap joint_states to the topic that has arm and fingers"
    if not np.isfinite(positions).all():
        return "positions that are no numbers", "restart the arm node"
    return "", ""
