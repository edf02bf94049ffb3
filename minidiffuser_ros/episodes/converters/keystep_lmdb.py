"""Keysteps of RLBench in LMDB stores, as 3D-LOTUS and Mini-Diffuser make and train on them.

A store is a folder with one folder `task+variation` for each, an LMDB whose keys are `episode0`, `episode1`… Of each
message (see `message.py`) these are read:

- as their `generate_dataset_keysteps.py` writes it: `rgb` [T, C, H, W, 3] uint8, `pc` [T, C, H, W, 3] float, points
  in metres in the world frame; or as their `gen_simple_policy_data.py` thins it: `xyz` and `rgb`, a list of T clouds
  [P, 3]
- `action` [T, 8]: x y z, quaternion x y z w, and 1 for an open gripper: the gripper's state at keystep t, the first
  being the start
- `bbox_info` and `pose_info` (optional): `<link>_bbox` [T, 6], the lowest and the highest x, then y, then z in the
  frame of the link, and `<link>_pose` [T, 7], that frame in the world with its quaternion x y z w

Masks, which only a simulator knows, are not read. What was seen at keystep t becomes an observation and the state at
keystep t + 1 its target; the last one repeats its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.contract.errors import ConfigurationError, EpisodeError
from minidiffuser_ros.contract.observation import ObservationSpec
from minidiffuser_ros.episodes.converters.lmdb_pages import FILE, LmdbFile
from minidiffuser_ros.episodes.converters.message import array_in, decode_message
from minidiffuser_ros.episodes.converters.outputs import (
    Job,
    Made,
    checked_name,
    existing_folder,
    number_at_end,
    task_and_variation,
    write_missing,
)
from minidiffuser_ros.episodes.converters.sentences import load_sentences, sentences_of
from minidiffuser_ros.episodes.converters.steps import (
    MAX_STEPS,
    Cloud,
    LiftedStep,
    before_each_keypose,
    cloud_of,
    pose_from_xyzw,
)
from minidiffuser_ros.episodes.demonstration import demonstration_of
from minidiffuser_ros.geometry.transform import apply, transform_from
from minidiffuser_ros.geometry.volumes import OrientedBox

# RLBench's world: its origin on the floor, the table's top 0.752 m above it, the Panda behind x = -0.3.
RLBENCH_SPEC = ObservationSpec(
    policy_frame="rlbench_world",
    workspace_min=(-0.3, -0.5, 0.6),
    workspace_max=(0.7, 0.5, 1.6),
    voxel_size=0.01,
    max_points=4000,
    table_height=0.752,
    cameras=("left_shoulder", "right_shoulder", "wrist", "front"),
)

ROBOT_BOXES = ("all", "arm", "none")
LINKS = ("Panda_link0_visual", *(f"Panda_link{n}_respondable" for n in range(1, 8)))
GRIPPER = ("Panda_gripper_visual", "Panda_leftfinger_visual", "Panda_rightfinger_visual")


@dataclass(frozen=True)
class KeystepOptions:
    """How keysteps become demonstrations.

    instructions: file of sentences by task and variation (see `sentences.py`). robot: which of the boxes around the
    robot's links that a store keeps are taken out of the clouds: `all`, `arm` (hand and fingers stay, as in 3D-LOTUS)
    or `none`; a store without boxes keeps its robot. keep_going: leave out what cannot be read instead of stopping.
    """

    spec: ObservationSpec = RLBENCH_SPEC
    instructions: Path | None = None
    robot: str = "all"
    keep_going: bool = False

    def __post_init__(self) -> None:
        if self.robot not in ROBOT_BOXES:
            raise ConfigurationError(f"robot must be one of {', '.join(ROBOT_BOXES)}, not {self.robot!r:.40}")


def import_keystep_lmdb(source: Path, out: Path, options: KeystepOptions | None = None) -> int:
    """Write `out`/TASK+VARIATION/EPISODE.npz for every episode below `source`; how many are there afterwards.

    source: a store, or one of its folders `task+variation`. Those that exist are kept. Raises EpisodeError naming
    the episode that cannot be read, ConfigurationError where there is no store.
    """
    options = options or KeystepOptions()
    existing_folder(source, "a keystep store")
    sentences = load_sentences(options.instructions)
    folders = [source] if (source / FILE).is_file() else sorted(f for f in source.iterdir() if (f / FILE).is_file())
    if not folders:
        raise ConfigurationError(
            f"{source} holds no folders task+variation with a {FILE} in them: name a keystep store"
        )
    jobs = []
    for folder in folders:
        name = checked_name(folder.name, f"the folder {folder}")
        task, variation = task_and_variation(name)
        told = sentences_of(sentences, task, variation)
        with LmdbFile(folder) as store:
            keys = [key for key, _ in store.items()]
        for index, key in enumerate(keys):
            episode = checked_name(key.decode("ascii", "replace"), f"an episode in {folder}")
            about = (task, variation, number_at_end(episode, index), told)
            make = partial(_make, folder, key, about, options)
            jobs.append(Job(out / name / f"{episode}.npz", f"{folder}, {episode}", make))
    return write_missing(jobs, options.keep_going)


def _make(folder: Path, key: bytes, about: tuple[str, int, int, tuple[str, ...]], options: KeystepOptions) -> Made:
    with LmdbFile(folder) as store:
        value = next((value for name, value in store.items() if name == key), None)
        if value is None:
            raise EpisodeError("it is gone: the store was changed while it was read")
        # Decoded from a copy: no array may outlive the file that it would lie in.
        content = decode_message(bytes(value))
        del value
    steps = before_each_keypose(lifted_steps(content, options), options.spec)
    return demonstration_of(*about, steps), None


def lifted_steps(content: Mapping[str, Any], options: KeystepOptions) -> Iterator[LiftedStep]:
    """The steps in a message, one at a time. Raises EpisodeError saying what is missing or does not fit."""
    action = array_in(dict(content), "action", "f", (None, 8))
    if not 2 <= len(action) <= MAX_STEPS:
        raise EpisodeError(f"it has {len(action)} keysteps, a start and at least one keypose are needed")
    clouds = _thinned(content, len(action)) if "xyz" in content else _pictured(content, len(action), options.spec)
    boxes = _robot_boxes(content, len(action), options.robot)
    # These stores keep no joints.
    joints = np.zeros(7)
    for row, cloud, robot in zip(action, clouds, boxes, strict=True):
        yield LiftedStep(cloud, pose_from_xyzw(row[:7], float(row[7] > 0.5)), joints, robot)


def _pictured(content: Mapping[str, Any], count: int, spec: ObservationSpec) -> Iterator[list[Cloud]]:
    """A cloud per step and camera, of pictures of points."""
    points = array_in(dict(content), "pc", "f", (count, None, None, None, 3))
    colors = array_in(dict(content), "rgb", "uf", points.shape)
    if points.shape[1] != len(spec.cameras):
        raise EpisodeError(
            f"it has {points.shape[1]} cameras and the observation spec names {len(spec.cameras)} "
            f"({', '.join(spec.cameras)}): name those of the store, in its order"
        )
    return ([cloud_of(p, c) for p, c in zip(points[t], colors[t], strict=True)] for t in range(count))


def _thinned(content: Mapping[str, Any], count: int) -> Iterator[list[Cloud]]:
    """One merged cloud per step."""
    points, colors = content.get("xyz"), content.get("rgb")
    for name, arrays in (("xyz", points), ("rgb", colors)):
        listed = isinstance(arrays, list) and all(isinstance(a, np.ndarray) for a in arrays)
        if not listed or len(arrays or ()) != count:
            raise EpisodeError(f"'{name}' must be a list of {count} arrays, one per keystep")
    return ([cloud_of(p, c)] for p, c in zip(points or (), colors or (), strict=True))


def _robot_boxes(content: Mapping[str, Any], count: int, which: str) -> list[list[OrientedBox]]:
    """Boxes around the links at each step; none where the store has none."""
    sizes, poses = content.get("bbox_info"), content.get("pose_info")
    if which == "none" or not isinstance(sizes, dict) or not isinstance(poses, dict):
        return [[] for _ in range(count)]
    links = [
        (array_in(sizes, f"{link}_bbox", "f", (count, 6)), array_in(poses, f"{link}_pose", "f", (count, 7)))
        for link in (LINKS if which == "arm" else LINKS + GRIPPER)
        if f"{link}_bbox" in sizes and f"{link}_pose" in poses
    ]
    return [[_box(size[t], pose[t]) for size, pose in links] for t in range(count)]


def _box(bounds: NDArray[Any], pose: NDArray[Any]) -> OrientedBox:
    frame = pose_from_xyzw(pose, 0.0)
    low, high = bounds[::2].astype(np.float64), bounds[1::2].astype(np.float64)
    if not (np.isfinite(bounds).all() and (low <= high).all()):
        raise EpisodeError(f"a box around a link reaches from {low.tolist()} to {high.tolist()}")
    T_world_box = transform_from(frame.position, frame.quat_wxyz)
    T_world_box[:3, 3] = apply(T_world_box, 0.5 * (low + high))
    return OrientedBox(T_world_box, 0.5 * (high - low))
