"""A matched set of messages becomes an observation: by these lines in the running observer and from a recording."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.contract.episode import CameraTopics
from minidiffuser_ros.contract.errors import MessageError, ObservationError
from minidiffuser_ros.contract.observation import CameraMount, Observation, ObservationSpec
from minidiffuser_ros.geometry.transform import transform_from
from minidiffuser_ros.perception.builder import CameraView, Cloud, ObservationBuilder, RobotVolumes
from minidiffuser_ros.perception.decoding import (
    camera_from_info,
    check_color,
    check_depth,
    color_from_image,
    depth_from_image,
)
from minidiffuser_ros.perception.streams import MatchedSet, StampMatcher, StreamSettings

Array = NDArray[np.float64]

# Two pictures whose sides are in proportions farther apart than this do not show the same view.
PROPORTION_TOLERANCE = 0.02


class ObservationAssembly:
    """Lifts matched sets of one robot's topics.

    topics: camera name → its topics, which name the streams of the matcher, too. mounts: camera name → its pose; the
    mapping is kept, as poses may become known later.
    forward: joints [7] in rad → T_policy_tool [4, 4]. robot_volumes: as the ObservationBuilder wants them.
    max_width: distance of the open fingers in metres. Joint states are vectors [9]: joints, then both fingers in m.
    """

    def __init__(
        self,
        spec: ObservationSpec,
        topics: Mapping[str, CameraTopics],
        mounts: Mapping[str, CameraMount],
        forward: Callable[[Array], Array],
        robot_volumes: RobotVolumes | None,
        max_width: float,
    ) -> None:
        self.spec = spec
        self.topics = {name: topics[name] for name in spec.cameras}
        self.mounts = mounts
        self._forward, self._max_width = forward, max_width
        self._builder = ObservationBuilder(spec, robot_volumes)

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """The streams of pictures that a matcher keeps together, by camera."""
        return {name: (topics.color, topics.depth) for name, topics in self.topics.items()}

    def matcher(self, joint_states: str, settings: StreamSettings) -> StampMatcher:
        """A matcher of the cameras' pictures and the joint states on topic `joint_states`."""
        return StampMatcher(self.groups, joint_states, settings)

    def assemble(self, match: MatchedSet, infos: Mapping[str, Any]) -> Observation:
        """Lift a matched set. infos: camera name → the newest CameraInfo message of those that have arrived;
        topic → that of depth, where depth has its own.

        Raises ObservationError with every reason why it cannot.
        """
        return self.assemble_with_surroundings(match, infos)[0]

    def assemble_with_surroundings(self, match: MatchedSet, infos: Mapping[str, Any]) -> tuple[Observation, Cloud]:
        """`assemble`, and the whole cloud, of which the observation keeps some points."""
        if problems := self.problems(match, infos):
            raise ObservationError(problems)
        try:
            views = [self._view(camera, match, infos) for camera in self.spec.cameras]
            # The cameras agree about one moment; the arm's pose is that of the last picture.
            state = match.states[max(match.stamps_ns, key=match.stamps_ns.__getitem__)]
            joints = state[:7]
            opening = opening_of(state[7:], self._max_width)
            return self._builder.build_with_surroundings(views, joints, opening, self._forward(joints), match.newest_ns)
        except MessageError as error:
            raise ObservationError([str(error)]) from error

    def problems(self, match: MatchedSet, infos: Mapping[str, Any]) -> list[str]:
        """Every reason why these messages give no views, found without a look at their pixels."""
        return [reason for camera in self.spec.cameras for reason in self._problems_of(camera, match, infos)]

    def _problems_of(self, camera: str, match: MatchedSet, infos: Mapping[str, Any]) -> list[str]:
        topics = self.topics[camera]
        if camera not in self.mounts:
            return [f"the pose of camera '{camera}' is not known yet"]
        if missing := [topic for key, topic in topics.infos(camera).items() if key not in infos]:
            return [f"nothing has arrived on {topic} yet" for topic in missing]
        lens_of_depth = (topics.depth_info, topics.depth_info) if topics.depth_info else (camera, topics.info)
        pairs = (
            (topics.color, check_color, (camera, topics.info)),
            (topics.depth, check_depth, lens_of_depth),
        )
        problems = []
        for topic, check, (key, info_topic) in pairs:
            picture = match.payloads[topic]
            try:
                check(picture)
            except MessageError as error:
                problems.append(f"{topic}: {error}")
                continue
            try:
                lens = camera_from_info(infos[key])
            except MessageError as error:
                problems.append(f"{info_topic}: {error}")
                continue
            # Another size is scaled; another shape is another view.
            if abs(picture.width * lens.height / (picture.height * lens.width) - 1.0) > PROPORTION_TOLERANCE:
                problems.append(
                    f"the pictures on {topic} are {picture.width}x{picture.height} and cannot show the view of "
                    f"{lens.width}x{lens.height} pixels that {info_topic} tells of; check the camera's profiles, and "
                    "that depth is aligned to colour"
                )
        return list(dict.fromkeys(problems))

    def _view(self, camera: str, match: MatchedSet, infos: Mapping[str, Any]) -> CameraView:
        topics, mount = self.topics[camera], self.mounts[camera]
        T_parent_camera = transform_from(mount.position, mount.quat_wxyz)
        # A camera on the hand moved with it: its pose belongs to the depth picture's own stamp.
        on_base = mount.parent_frame == self.spec.policy_frame
        T_policy_parent = np.eye(4) if on_base else self._forward(match.states[topics.depth][:7])
        return CameraView(
            name=camera,
            color=color_from_image(match.payloads[topics.color]),
            depth=depth_from_image(match.payloads[topics.depth], topics.depth_scale),
            camera=camera_from_info(infos[camera]),
            depth_camera=camera_from_info(infos[topics.depth_info]) if topics.depth_info else None,
            T_policy_camera=T_policy_parent @ T_parent_camera,
            stamp_ns=match.stamps_ns[topics.depth],
        )


def opening_of(fingers: Array, max_width: float) -> float:
    """The gripper's opening in [0, 1] from the ways [2] of its fingers in metres."""
    return float(np.clip(fingers.sum() / max_width, 0.0, 1.0))
