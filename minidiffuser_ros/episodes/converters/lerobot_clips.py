"""Episodes as frames for a LeRobot dataset: from recorded episodes, and from demonstrations that keep pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.contract.episode import SUCCESS
from minidiffuser_ros.contract.errors import ConfigurationError, EpisodeError
from minidiffuser_ros.contract.observation import ObservationSpec
from minidiffuser_ros.episodes.converters.lerobot_format import Shape
from minidiffuser_ros.episodes.demonstration import load_demonstration
from minidiffuser_ros.episodes.recording import DEPTH_UNIT, Recording, load_recording

Array = NDArray[np.float64]

EPISODE_FILE = "metadata.yaml"
# Observations before keyposes have no rate; this one makes a frame's number its timestamp.
KEYPOSE_FPS = 1


@dataclass(frozen=True)
class Picture:
    """What a camera gave: color [H, W, 3], depth [h, w] in counts, T_policy_camera [4, 4], matrix [3, 3]."""

    color: NDArray[np.uint8]
    depth: NDArray[np.uint16]
    T_policy_camera: Array
    matrix: Array


@dataclass(frozen=True)
class Frame:
    """One row: state [8] joints in rad and opening, tool [7], action [8] and target [8] as in a keypose's row.

    is_step: a demonstration's observation is made of this frame.
    """

    stamp_ns: int
    state: Array
    tool: Array
    action: Array
    target: Array
    is_step: bool
    pictures: Mapping[str, Picture]


@dataclass(frozen=True)
class Clip:
    """One episode: what it says of itself, and its frames one after the other.

    trajectory: [N, 10] as in a Recording; empty where every frame is there.
    """

    name: str
    task: str
    variation: int
    seed: int
    instructions: tuple[str, ...]
    spec: ObservationSpec
    shape: Shape
    trajectory: NDArray[np.float32]
    frames: Callable[[], Iterator[Frame]]


def clip_sources(source: Path) -> dict[str, Path]:
    """Name → demonstration's file or episode's folder, for everything in `source`, or `source` itself.

    Raises ConfigurationError where there is nothing.
    """
    if source.is_file() or (source / EPISODE_FILE).is_file():
        return {source.stem if source.is_file() else source.name: source}
    files = sorted([*source.glob("*.npz"), *source.glob("*/*.npz")])
    found = {f.stem if f.parent == source else f"{f.parent.name}-{f.stem}": f for f in files}
    folders = sorted(f.parent for f in source.glob(f"*/{EPISODE_FILE}"))
    found |= {f.name: f for f in folders if not f.name.startswith(".") and not f.name.endswith(".partial")}
    if not found:
        raise ConfigurationError(f"{source} holds no recorded episodes and no demonstrations: name a folder of them")
    return dict(sorted(found.items()))


def outcome_of(path: Path) -> str:
    """How an episode is labelled; a demonstration is one that succeeded. Raises EpisodeError for a foreign folder."""
    if path.is_file():
        return SUCCESS
    from minidiffuser_ros.episodes.bag import EpisodeReader

    return EpisodeReader(path).info.outcome


def clip_of(name: str, path: Path, fps: int | None = None) -> Clip:
    """The clip in a demonstration's file or an episode's folder; `fps` is stated in place of the measured rate.

    Raises EpisodeError where there is none.
    """
    if path.is_file():
        clip = clip_of_demonstration(name, path)
    else:
        from minidiffuser_ros.episodes.converters.lerobot_episode import clip_of_episode

        clip = clip_of_episode(name, path)
    return clip if fps is None else replace(clip, shape=replace(clip.shape, fps=fps))


def clip_of_demonstration(name: str, path: Path) -> Clip:
    """One frame per observation. Raises EpisodeError for a file without pictures."""
    demonstration, recording = load_demonstration(path), load_recording(path)
    steps, cameras = len(demonstration.counts), demonstration.spec.cameras
    _check(path, recording, steps, len(cameras))
    color, depth = recording.images.shape[2:4], recording.depths.shape[2:4]
    stamps = _arrivals_ns(recording.trajectory, steps)

    def frames() -> Iterator[Frame]:
        for t in range(steps):
            pictures = {
                camera: Picture(
                    recording.images[t, c],
                    recording.depths[t, c],
                    recording.camera_poses[t, c],
                    recording.intrinsics[c],
                )
                for c, camera in enumerate(cameras)
            }
            state = np.append(demonstration.joints[t], demonstration.openings[t])
            target = demonstration.targets[t]
            yield Frame(stamps[t], state, demonstration.tool[t], target, target, True, pictures)

    sizes = dict.fromkeys(cameras, ((color[0], color[1]), (depth[0], depth[1])))
    return Clip(
        name,
        demonstration.task,
        demonstration.variation,
        demonstration.seed,
        demonstration.instructions,
        demonstration.spec,
        Shape(sizes, DEPTH_UNIT, KEYPOSE_FPS),
        recording.trajectory,
        frames,
    )


def _check(path: Path, recording: Recording, steps: int, cameras: int) -> None:
    shapes = (recording.images.shape[:2], recording.depths.shape[:2], recording.camera_poses.shape)
    right = (steps, cameras), (steps, cameras), (steps, cameras, 4, 4)
    whole = recording.images.ndim == 5 and recording.images.shape[4] == 3 and recording.depths.ndim == 4
    trajectory = recording.trajectory.ndim == 2 and recording.trajectory.shape[1] == 10
    if shapes != right or recording.intrinsics.shape != (cameras, 3, 3) or not (whole and trajectory):
        raise EpisodeError(
            f"{path}: its pictures do not fit its {steps} observations of {cameras} cameras: make it again"
        )


def _arrivals_ns(trajectory: NDArray[np.float32], steps: int) -> list[int]:
    """When each observation was made: at the end of the way to it, by the trajectory's own clock."""
    stamps = [0]
    for step in range(1, steps):
        way = trajectory[trajectory[:, 0] == step - 1]
        stamps.append(int(round(float(way[-1, 1]) * 1e9)) if len(way) else stamps[-1])
    return stamps
