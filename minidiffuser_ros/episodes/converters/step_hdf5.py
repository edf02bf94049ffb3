"""Steps of real demonstrations in HDF5 files, as the collector of Mini-Diffuser writes them.

Their `collector_client.py` writes `TASK/dataset.h5`, and `realworld_downsample.py` a thinned copy, of this layout:

    episodes/episode_0/step_0/
        xyz           [P, 3]  m, in their frame `table`
        rgb           [P, 3]  bytes (fractions of 1 in the thinned copy)
        gripper       [7]     fr3_hand_tcp in that frame: position, quaternion x y z w; [8] in the copy: 1 for open
        joint_states  [9]     seven joints in rad and both fingers in m

Each step is a keypose, taken by hand: what was seen at a step becomes an observation, and the pose of the next step
its target; the last one repeats its own. A `StepLayout` tells of files with other names, or with pictures.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.contract.errors import ConfigurationError, EpisodeError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.contract.observation import ObservationSpec
from minidiffuser_ros.episodes.converters.hdf5_guard import GuardedFile
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
from minidiffuser_ros.episodes.converters.step_layout import CameraLayout, StepLayout, load_layout
from minidiffuser_ros.episodes.converters.steps import (
    MAX_STEPS,
    Cloud,
    LiftedStep,
    before_each_keypose,
    cloud_of,
    pose_from_xyzw,
)
from minidiffuser_ros.episodes.demonstration import demonstration_of
from minidiffuser_ros.geometry.camera import PinholeCamera
from minidiffuser_ros.perception.builder import CameraView, lift
from minidiffuser_ros.perception.calibration import BASE_FRAME

if TYPE_CHECKING:
    from minidiffuser_ros.arm.kinematics import FrankaKinematics

# The table of Mini-Diffuser's authors, whose top lies 4 cm below the origin.
REAL_SPEC = ObservationSpec(
    policy_frame="table",
    workspace_min=(0.1, -0.35, -0.2),
    workspace_max=(0.9, 0.5, 0.7),
    voxel_size=0.01,
    max_points=4000,
    table_height=-0.04,
    cameras=("front",),
)
RIGID_TOLERANCE = 1e-3
# Farther than this from where its joints put it, a tool was measured in another frame.
TOOL_TOLERANCE = 0.03


@dataclass(frozen=True)
class StepOptions:
    """How steps become demonstrations.

    instructions: file of sentences by task. layout: YAML file telling where a step keeps what. file: name of the file
    in each task's folder. remove_robot: take the arm's own points out, by its joints; the policy frame must be its
    base, fr3_link0. keep_going: leave out what cannot be read instead of stopping.
    """

    spec: ObservationSpec = REAL_SPEC
    instructions: Path | None = None
    layout: Path | None = None
    file: str = "dataset.h5"
    remove_robot: bool = False
    keep_going: bool = False

    def __post_init__(self) -> None:
        if self.remove_robot and self.spec.policy_frame != BASE_FRAME:
            raise ConfigurationError(
                f"the robot can be taken out of clouds in {BASE_FRAME} only, the spec's policy_frame is "
                f"{self.spec.policy_frame!r:.40}"
            )


def import_step_hdf5(source: Path, out: Path, options: StepOptions | None = None) -> int:
    """Write `out`/TASK/EPISODE.npz for every episode in `source`; how many are there afterwards.

    source: an HDF5 file in a folder named after its task, or a folder of such folders. Those that exist are kept.
    Raises EpisodeError naming the episode that cannot be read, ConfigurationError where there is no file.
    """
    options = options or StepOptions()
    layout, sentences = load_layout(options.layout), load_sentences(options.instructions)
    if source.is_file():
        files = [source]
    else:
        existing_folder(source, f"an HDF5 file or a folder of folders with a {options.file} in each")
        files = sorted(source.glob(f"*/{Path(options.file).name}"))
    if not files:
        raise ConfigurationError(f"{source} has no {options.file} in its folders: name one of their folders or files")
    jobs = []
    for path in files:
        name = checked_name(path.resolve().parent.name, f"the folder of {path}")
        task, variation = task_and_variation(name)
        told = sentences_of(sentences, task, variation)
        with GuardedFile(path) as file:
            episodes = sorted(file.groups(layout.episodes), key=lambda episode: (number_at_end(episode, 0), episode))
        for index, episode in enumerate(episodes):
            checked_name(episode, f"an episode in {path}")
            about = (task, variation, number_at_end(episode, index), told)
            make = partial(_make, path, episode, about, layout, options)
            jobs.append(Job(out / name / f"{episode}.npz", f"{path}, {episode}", make))
    return write_missing(jobs, options.keep_going)


def _make(
    path: Path, episode: str, about: tuple[str, int, int, tuple[str, ...]], layout: StepLayout, options: StepOptions
) -> Made:
    with GuardedFile(path) as file:
        top = f"{layout.episodes}/{episode}"
        numbers = [re.fullmatch(re.escape(layout.step) + r"(\d{1,6})", name) for name in file.names(top)]
        names = sorted((int(match[1]), match[0]) for match in numbers if match)
        if len(names) > MAX_STEPS:
            raise EpisodeError(f"it has {len(names)} steps, at most {MAX_STEPS} are read")
        reader = _StepReader(file, layout, options)
        steps = before_each_keypose((reader.step(f"{top}/{name}") for _, name in names), options.spec)
    return demonstration_of(*about, steps), None


class _StepReader:
    """Steps of one file."""

    def __init__(self, file: GuardedFile, layout: StepLayout, options: StepOptions) -> None:
        self._file, self._layout, self._spec = file, layout, options.spec
        self._kinematics: FrankaKinematics | None = None
        if options.remove_robot:
            from minidiffuser_ros.arm import kinematics  # needs mujoco, which reading does not

            self._kinematics = kinematics.FrankaKinematics()

    def step(self, top: str) -> LiftedStep:
        """The step at a path. Raises EpisodeError for what is missing or does not fit."""
        row = self._file.array(self._path(top, self._layout.joints), "f", (None,)).astype(np.float64)
        if len(row) not in (7, 9) or not np.isfinite(row).all():
            raise EpisodeError(f"'{top}' needs 7 finite joint positions, or 9 with the fingers, has {len(row)} numbers")
        pose = self._pose(top, row[7:])
        clouds = self._views(top) if self._layout.cameras else [self._cloud(top)]
        return LiftedStep(clouds, pose, row[:7], self._robot(top, row[:7], pose))

    def _pose(self, top: str, fingers: NDArray[np.float64]) -> Keypose:
        """The tool's pose; open or closed as the file says, or else by the fingers."""
        row = self._file.array(self._path(top, self._layout.tool), "f", (None,))
        if len(row) not in (7, 8):
            raise EpisodeError(f"'{top}' needs a tool pose of 7 numbers, or 8 with the gripper, has {len(row)}")
        if len(row) == 7 and not len(fingers):
            raise EpisodeError(f"'{top}' does not say whether the gripper is open: give 8 numbers or the finger joints")
        # A gripper around an object is closed, however wide that is: only fully opened fingers count as open.
        is_open = row[7] > 0.5 if len(row) == 8 else fingers[-1] > self._layout.open_above
        given = row[:7] if self._layout.quaternion == "xyzw" else row[[0, 1, 2, 4, 5, 6, 3]]
        return pose_from_xyzw(given, float(is_open))

    def _robot(self, top: str, joints: NDArray[np.float64], pose: Keypose) -> Sequence[Any]:
        if self._kinematics is None:
            return ()
        away = float(np.linalg.norm(self._kinematics.forward(joints)[:3, 3] - pose.position))
        if away > TOOL_TOLERANCE:
            raise EpisodeError(
                f"'{top}': the tool is {away:.3f} m from where the joints put it: {BASE_FRAME} is another frame"
            )
        from minidiffuser_ros.arm.self_shape import robot_volumes

        return robot_volumes(self._kinematics)(joints, pose.opening)

    def _cloud(self, top: str) -> Cloud:
        points = self._file.array(self._path(top, self._layout.points), "f", (None, 3))
        return cloud_of(points, self._file.array(self._path(top, self._layout.colors), "uf", (None, 3)))

    def _views(self, top: str) -> list[Cloud]:
        if missing := [name for name in self._spec.cameras if name not in self._layout.cameras]:
            raise EpisodeError(f"the layout has no cameras {missing}, which the observation spec names")
        return [lift(self._view(top, name, self._layout.cameras[name])) for name in self._spec.cameras]

    def _view(self, top: str, name: str, camera: CameraLayout) -> CameraView:
        color = self._file.array(self._path(top, camera.color), "u", (None, None, 3))
        depth = self._file.array(self._path(top, camera.depth), "uf", (None, None)).astype(np.float32)
        matrix = self._file.array(self._path(top, camera.intrinsics), "f", (3, 3)).astype(np.float64)
        transform = self._file.array(self._path(top, camera.pose), "f", (4, 4)).astype(np.float64)
        if color.dtype != np.uint8 or 0 in color.shape or 0 in depth.shape:
            raise EpisodeError(f"'{top}', camera {name}: pictures must be bytes and not empty")
        turn = transform[:3, :3]
        rigid = np.allclose(turn @ turn.T, np.eye(3), atol=RIGID_TOLERANCE) and np.allclose(transform[3], [0, 0, 0, 1])
        if not (rigid and np.isfinite(transform).all()):
            raise EpisodeError(
                f"'{top}', camera {name}: its pose is no rigid transform from the camera to the policy frame"
            )
        try:
            height, width = color.shape[:2]
            # Python's own floats: numpy's would make the points double and round them differently.
            fx, fy, cx, cy = (float(matrix[at]) for at in ((0, 0), (1, 1), (0, 2), (1, 2)))
            pinhole = PinholeCamera(width, height, fx, fy, cx, cy)
        except ValueError as error:
            raise EpisodeError(f"'{top}', camera {name}: {error}") from None
        return CameraView(name, color, depth * np.float32(camera.depth_unit), pinhole, transform, 0)

    @staticmethod
    def _path(top: str, path: str) -> str:
        return path if path.startswith("/") else f"{top}/{path}"
