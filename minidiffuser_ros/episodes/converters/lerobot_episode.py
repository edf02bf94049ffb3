"""Recorded episodes as frames for a LeRobot dataset: one per set of pictures, matched as the observer matches them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.arm.kinematics import MAX_GRIPPER_WIDTH, STATE_NAMES, FrankaKinematics
from minidiffuser_ros.contract.errors import EpisodeError, MessageError
from minidiffuser_ros.episodes.bag import EpisodeReader
from minidiffuser_ros.episodes.converters.lerobot_clips import Clip, Frame, Picture
from minidiffuser_ros.episodes.converters.lerobot_format import Shape
from minidiffuser_ros.episodes.keyposes import EpisodeKeypose, episode_keyposes
from minidiffuser_ros.episodes.samples import View, views_before, widened
from minidiffuser_ros.geometry.transform import pose_of, transform_from
from minidiffuser_ros.perception.assembly import opening_of
from minidiffuser_ros.perception.decoding import camera_from_info, color_from_image, joint_positions, stamp_to_ns
from minidiffuser_ros.perception.streams import SECOND_NS, MatchedSet, StampMatcher, StreamSettings

Array = NDArray[np.float64]

MILLIMETRE = 1e-3


def clip_of_episode(name: str, folder: Path) -> Clip:
    """The clip of an episode's folder. Raises EpisodeError for one that cannot be read or has no keypose."""
    reader = EpisodeReader(folder)
    frames = _Frames(reader)
    info = reader.info
    return Clip(
        name,
        info.task,
        info.variation,
        info.seed,
        (info.instruction,),
        info.spec,
        frames.shape,
        np.zeros((0, 10), np.float32),
        frames.all,
    )


class _Frames:
    """The matched sets of an episode, and what is known of each."""

    def __init__(self, reader: EpisodeReader) -> None:
        self._reader, self._kinematics = reader, FrankaKinematics()
        self._mounts = {mount.name: mount for mount in reader.info.mounts}
        traces = reader.traces()
        keyposes = episode_keyposes(traces, reader.marks())
        views = views_before([keypose.index for keypose in keyposes], traces)
        sizes, stamps, self._tools = None, [], []
        for match, infos in self._matches():
            if sizes is None:
                pictures = self._pictures(match, infos)
                sizes = {n: (p.color.shape[:2], p.depth.shape[:2]) for n, p in pictures.items()}
            stamps.append(match.newest_ns)
            self._tools.append(self._tool(match))
        if len(stamps) < 2 or sizes is None:
            raise EpisodeError("no two pictures were taken together in it")
        self._stamps = np.array(stamps, np.int64)
        self._steps = self._step_targets(views, keyposes)
        rate = max(1, round(SECOND_NS / float(np.median(np.diff(self._stamps)))))
        self.shape = Shape(sizes, MILLIMETRE, rate)

    def all(self) -> Iterator[Frame]:
        """Every frame, one after the other."""
        rows, ends = sorted(self._steps), sorted(self._steps)
        for number, (match, infos) in enumerate(self._matches()):
            following = self._tools[min(number + 1, len(self._tools) - 1)]
            # The keypose that this frame is on the way to: that of the last step before it, or of the first one.
            step = rows[max(int(np.searchsorted(ends, number, side="right")) - 1, 0)]
            tool = self._tools[number]
            yield Frame(
                match.newest_ns,
                np.append(self._state(match)[:7], tool[7]),
                tool[:7],
                following,
                self._steps[step],
                number in self._steps,
                self._pictures(match, infos),
            )

    def _step_targets(self, views: list[View], keyposes: list[EpisodeKeypose]) -> dict[int, Array]:
        """Number of the frame before each keypose → that keypose [8]; the last is repeated."""
        targets = [np.array([*k.keypose.position, *k.keypose.quat_wxyz, k.keypose.opening]) for k in keyposes]
        steps: dict[int, Array] = {}
        for number, (view, target) in enumerate(zip(views, [*targets, targets[-1]], strict=True), 1):
            frame = self._newest(view, number == 1)
            if frame is None or frame in steps:
                raise EpisodeError(f"before keypose {number} of {len(keyposes)} no picture was taken of its own")
            steps[frame] = target
        return steps

    def _newest(self, view: View, first: bool) -> int | None:
        """The newest frame of a view, or of a little more where it has none: as observations are chosen."""
        for wider in widened(view, first):
            frame = int(np.searchsorted(self._stamps, wider.not_after_ns, side="right")) - 1
            if frame >= 0 and self._stamps[frame] >= wider.not_before_ns:
                return frame
        return None

    def _matches(self) -> Iterator[tuple[MatchedSet, dict[str, Any]]]:
        """Every set of pictures that belong together, with the cameras' infos of then."""
        topics = self._reader.info.topics
        cameras = {name: topics.cameras[name] for name in self._reader.info.spec.cameras}
        groups = {name: (camera.color, camera.depth) for name, camera in cameras.items()}
        pictures = [topic for group in groups.values() for topic in group]
        matcher = StampMatcher(groups, topics.joint_states, StreamSettings())
        last = -1
        for topic, log_ns, message in self._reader.messages([*pictures, topics.joint_states]):
            try:
                state = joint_positions(message, STATE_NAMES) if topic not in pictures else message
            except MessageError:
                continue
            matcher.push(topic, stamp_to_ns(message.header.stamp), state, log_ns)
            match = matcher.match(last + 1)
            if match is not None and match.newest_ns > last:
                last = match.newest_ns
                yield match, self._reader.camera_infos(log_ns)

    def _state(self, match: MatchedSet) -> Array:
        return match.states[max(match.stamps_ns, key=match.stamps_ns.__getitem__)]

    def _tool(self, match: MatchedSet) -> Array:
        """[8] the tool's pose by the joints, and the opening."""
        state = self._state(match)
        position, quat_wxyz = pose_of(self._kinematics.forward(state[:7]))
        return np.array([*position, *quat_wxyz, opening_of(state[7:], MAX_GRIPPER_WIDTH)])

    def _pictures(self, match: MatchedSet, infos: dict[str, Any]) -> dict[str, Picture]:
        return {name: self._picture(name, match, infos) for name in self._reader.info.spec.cameras}

    def _picture(self, name: str, match: MatchedSet, infos: dict[str, Any]) -> Picture:
        topics, mount = self._reader.info.topics.cameras[name], self._mounts[name]
        depth = match.payloads[topics.depth]
        if depth.encoding not in ("16UC1", "mono16") or name not in infos or topics.depth_info:
            raise EpisodeError(
                f"camera '{name}' has no camera_info, depth with intrinsics of its own, or depth in "
                f"{depth.encoding!r:.20} instead of 16UC1, which a LeRobot dataset does not hold"
            )
        on_base = mount.parent_frame == self._reader.info.spec.policy_frame
        T_policy_parent = np.eye(4) if on_base else self._kinematics.forward(match.states[topics.depth][:7])
        return Picture(
            color_from_image(match.payloads[topics.color]),
            _counts(depth, topics.depth_scale),
            T_policy_parent @ transform_from(mount.position, mount.quat_wxyz),
            camera_from_info(infos[name]).matrix,
        )


def _counts(message: Any, scale: float) -> NDArray[np.uint16]:
    """Depth [H, W] in millimetres of a picture that counts in `scale` metres; 0 where it is farther than they reach."""
    from minidiffuser_ros.perception.decoding import depth_from_image

    # Metres in single precision keep millimetres up to 65.535 m apart.
    counts = np.round(depth_from_image(message, scale).astype(np.float64) / MILLIMETRE)
    return np.where(counts <= np.iinfo(np.uint16).max, counts, 0.0).astype(np.uint16)
