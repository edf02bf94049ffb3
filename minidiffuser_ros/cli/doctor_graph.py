"""The running graph as the doctor's groups need it, asked once: the observer's settings, and what its topics send."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from minidiffuser_ros.cli.doctor_cameras import camera_findings, state_finding
from minidiffuser_ros.cli.doctor_findings import Finding, State
from minidiffuser_ros.contract.episode import DEPTH_SCALE, CameraTopics, OwnTopics
from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.contract.observation import ObservationSpec

if TYPE_CHECKING:
    from minidiffuser_ros.bridge.graph_probe import TopicSample

GROUP = "cameras"
SPEC = "spec."
TEMPLATES = ("color_topic", "depth_topic", "info_topic")


@dataclass(frozen=True)
class GraphView:
    """What was found. spec: the running observer's, None where none runs; `problem` says why there is nothing else."""

    problem: str = ""
    cameras: Mapping[str, CameraTopics] = field(default_factory=dict)
    samples: Mapping[str, TopicSample] = field(default_factory=dict)
    joint_states: str = ""
    spec: ObservationSpec | None = None
    calibration: str = ""
    checkpoint: str = ""
    seconds: float = 0.0


def look(namespace: str, seconds: float) -> GraphView:
    """Ask the graph, and listen for so many seconds (0: not at all). Needs ROS."""
    from minidiffuser_ros.bridge.camera_topics import own_prefix
    from minidiffuser_ros.bridge.graph_probe import CAMERA_INFO, IMAGE, JOINT_STATE, GraphProbe
    from minidiffuser_ros.bridge.parameters import parameter_names
    from minidiffuser_ros.nodes.observer import JOINT_STATES, ObserverSettings

    defaults = ObserverSettings()
    with GraphProbe(namespace) as probe:
        values = probe.parameters("observer", parameter_names(defaults))
        policy = probe.parameters("policy", ["checkpoint"]) or {}
        try:
            spec = spec_of(values) if values else None
        except ConfigurationError as error:
            return GraphView(f"the observer's settings cannot be read, is it of this version? {error}")
        chosen = {name: (values or {}).get(name, getattr(defaults, name)) for name in TEMPLATES}
        cameras = {}
        for camera in (spec or defaults.spec).cameras:
            own = [f"{own_prefix(camera)}.{name}" for name in parameter_names(OwnTopics())]
            told = (probe.parameters("observer", own) or {}) if values else {}
            settings = {name.rpartition(".")[2]: value for name, value in told.items()}
            cameras[camera] = topics_of(camera, chosen, settings, probe.node.resolve_topic_name)
        joint_states = probe.node.resolve_topic_name(JOINT_STATES)
        kinds = {joint_states: JOINT_STATE}
        for topics in cameras.values():
            kinds |= {topics.color: IMAGE, topics.depth: IMAGE}
            kinds |= dict.fromkeys(topics.infos("").values(), CAMERA_INFO)
        samples = probe.listen(kinds, seconds) if seconds > 0 else {}
    return GraphView(
        cameras=cameras, samples=samples, joint_states=joint_states, spec=spec, seconds=seconds,
        calibration=str((values or {}).get("calibration", "")), checkpoint=str(policy.get("checkpoint", "")),
    )  # fmt: skip


def topics_of(
    camera: str, templates: Mapping[str, str], own: Mapping[str, Any], resolve: Callable[[str], str]
) -> CameraTopics:
    """Topics of one camera. templates: of all cameras, by parameter; own: what parameters this one has itself."""
    color, depth, info = (resolve((own.get(n) or templates[n]).replace("{camera}", camera)) for n in TEMPLATES)
    depth_info = str(own.get("depth_info_topic", ""))
    return CameraTopics(
        color, depth, info, resolve(depth_info) if depth_info else "", float(own.get("depth_scale", DEPTH_SCALE))
    )


def spec_of(values: Mapping[str, Any]) -> ObservationSpec:
    """The spec among an observer's parameters. Raises ConfigurationError for one of another version."""
    fields = {name.removeprefix(SPEC): value for name, value in values.items() if name.startswith(SPEC)}
    return ObservationSpec.from_dict({k: v if isinstance(v, str | int | float) else list(v) for k, v in fields.items()})


def graph_findings(view: GraphView) -> Iterator[Finding]:
    """The group of the cameras."""
    from minidiffuser_ros.arm.kinematics import STATE_NAMES

    if view.problem:
        yield Finding(GROUP, "graph", State.SKIP, view.problem)
        return
    if not any(sample.publishers or sample.other_types for sample in view.samples.values()):
        topics = f"{', '.join(view.cameras)} and {view.joint_states}"
        advice = "start it first, or give its --namespace; ROS_DOMAIN_ID must be the same"
        yield Finding(GROUP, "graph", State.SKIP, f"nothing is published for {topics}: no graph runs", advice)
        return
    yield from camera_findings(view.cameras, view.samples, view.seconds)
    yield state_finding(view.samples[view.joint_states], view.seconds, STATE_NAMES)
