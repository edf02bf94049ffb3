"""Demonstrations out of the rows of a LeRobot dataset: pictures lifted by the observation builder."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.arm.kinematics import FrankaKinematics
from minidiffuser_ros.arm.self_shape import robot_volumes
from minidiffuser_ros.contract.errors import ConfigurationError, EpisodeError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.contract.observation import Observation, ObservationSpec
from minidiffuser_ros.episodes.converters import lerobot_format as lerobot
from minidiffuser_ros.episodes.converters.lerobot_reader import LeRobotReader, Rows
from minidiffuser_ros.episodes.converters.outputs import Made
from minidiffuser_ros.episodes.converters.pictures import color_from, depth_from
from minidiffuser_ros.episodes.demonstration import demonstration_of
from minidiffuser_ros.episodes.recording import DEPTH_UNIT, Recording
from minidiffuser_ros.geometry.camera import PinholeCamera
from minidiffuser_ros.geometry.transform import transform_from
from minidiffuser_ros.perception.builder import CameraView, ObservationBuilder
from minidiffuser_ros.perception.calibration import BASE_FRAME

UNITS = {"mm": 1e-3}
MAX_STEPS = 10_000

# Views by camera, and their depth in counts.
Views = dict[str, tuple[CameraView, NDArray[np.uint16]]]


@dataclass(frozen=True)
class CameraFormat:
    """A camera of the dataset: sizes (height, width) of its pictures and metres per count of its depth."""

    color: tuple[int, int]
    depth: tuple[int, int]
    depth_unit: float


@dataclass(frozen=True)
class DemonstrationSource:
    """A dataset that has everything that demonstrations are made of."""

    reader: LeRobotReader
    spec: ObservationSpec
    cameras: Mapping[str, CameraFormat]
    keep_pictures: bool
    builder: ObservationBuilder = field(compare=False)

    @classmethod
    def of(cls, reader: LeRobotReader, spec: ObservationSpec | None, keep_pictures: bool) -> DemonstrationSource:
        """Raises ConfigurationError with one sentence that names all that is missing."""
        if spec is None and reader.spec is None:
            raise ConfigurationError(
                f"{reader.root} does not say how observations are made of it: give an observation spec"
            )
        try:
            spec = spec or ObservationSpec.from_dict(reader.spec or {})
        except (TypeError, ValueError) as error:
            raise EpisodeError(f"{reader.root / lerobot.EXTRAS} is damaged ({error!s:.80}): copy it again") from None
        needed = [lerobot.STATE, lerobot.TOOL]
        for camera in spec.cameras:
            needed += [lerobot.color_key(camera), lerobot.depth_key(camera)]
            needed += [lerobot.intrinsics_key(camera), lerobot.pose_key(camera)]
        missing = [name for name in needed if name not in reader.features]
        if missing:
            raise ConfigurationError(
                f"{reader.root} lacks {', '.join(missing)}: points need colour, depth, intrinsics and pose of each "
                "camera, and observations joints with the gripper's opening and the tool's pose"
            )
        if (
            len(reader.features[lerobot.STATE].get("shape") or ()) != 1
            or reader.features[lerobot.STATE]["shape"][0] != 8
        ):
            raise ConfigurationError(f"{reader.root}: '{lerobot.STATE}' must be seven joints and the gripper's opening")
        cameras = {camera: _camera_of(reader, camera) for camera in spec.cameras}
        robot = robot_volumes(FrankaKinematics()) if spec.policy_frame == BASE_FRAME else None
        return cls(reader, spec, cameras, keep_pictures, ObservationBuilder(spec, robot))

    def make(self, rows: Rows, task: str) -> Made:
        """The demonstration of an episode. Raises EpisodeError for what is missing or does not fit."""
        numbers = self._numbers(rows)
        steps, targets = self._steps(numbers)
        if not 1 <= len(steps) <= MAX_STEPS:
            raise EpisodeError(f"it has {len(steps)} frames before keyposes, 1 to {MAX_STEPS} are read")
        seen: dict[int, Observation] = {}
        kept: list[Views] = []
        for row, files in self.reader.files(rows, self._pictures(), sorted(set(steps))):
            views = self._views(row, files, numbers)
            seen[row] = self._observe(row, views, numbers)
            if self.keep_pictures:
                kept.append(views)
        about = self.reader.extras.get(rows.episode, {})
        told = tuple(s for s in about.get("instructions") or [rows.sentence] if isinstance(s, str) and s.strip())
        if not told:
            raise EpisodeError("it has no sentence: a demonstration needs one")
        variation, seed = (int(about.get(n, default) or 0) for n, default in (("variation", 0), ("seed", rows.episode)))
        made = demonstration_of(
            task, variation, seed, told, [(seen[t], target) for t, target in zip(steps, targets, strict=True)]
        )
        return made, self._recording(kept, about) if self.keep_pictures else None

    def _numbers(self, rows: Rows) -> dict[str, NDArray[Any]]:
        names = [lerobot.STATE, lerobot.TOOL, "episode_index"]
        names += [n for n in (lerobot.STAMP, lerobot.TARGET, lerobot.IS_STEP, "timestamp") if n in self.reader.features]
        names += [key(c) for c in self.spec.cameras for key in (lerobot.intrinsics_key, lerobot.pose_key)]
        numbers = self.reader.numbers(rows, names)
        if (numbers["episode_index"] != rows.episode).any():
            raise EpisodeError(f"its rows are those of episode {int(numbers['episode_index'][0])}")
        for name, values in numbers.items():
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                raise EpisodeError(f"'{name}' has values that are not finite")
        if numbers[lerobot.TOOL].shape[1:] != (7,):
            raise EpisodeError(f"'{lerobot.TOOL}' must be a position and a quaternion")
        return numbers

    def _steps(self, numbers: Mapping[str, NDArray[Any]]) -> tuple[list[int], list[Keypose]]:
        """The frames before keyposes, and those keyposes: as noted, or else discovered."""
        if lerobot.TARGET not in numbers or lerobot.IS_STEP not in numbers:
            from minidiffuser_ros.episodes.converters.lerobot_discovery import discovered_steps

            return discovered_steps(numbers, float(self.reader.info["fps"]))
        steps = np.flatnonzero(numbers[lerobot.IS_STEP])
        targets = numbers[lerobot.TARGET]
        if targets.shape[1:] != (8,):
            raise EpisodeError(f"'{lerobot.TARGET}' must be a pose and an opening")
        return steps.tolist(), [Keypose(targets[t, :3], targets[t, 3:7], float(targets[t, 7])) for t in steps]

    def _pictures(self) -> list[str]:
        return [key(camera) for camera in self.spec.cameras for key in (lerobot.color_key, lerobot.depth_key)]

    def _views(self, row: int, files: Mapping[str, bytes], numbers: Mapping[str, NDArray[Any]]) -> Views:
        views = {}
        stamp = int(numbers[lerobot.STAMP][row]) if lerobot.STAMP in numbers else row
        for name, camera in self.cameras.items():
            color = color_from(files[lerobot.color_key(name)], camera.color)
            counts = depth_from(files[lerobot.depth_key(name)], camera.depth)
            matrix = numbers[lerobot.intrinsics_key(name)][row].astype(np.float64).reshape(-1)
            transform = numbers[lerobot.pose_key(name)][row].astype(np.float64).reshape(-1)
            if len(matrix) != 9 or len(transform) != 16 or not (matrix[0] > 0 and matrix[4] > 0):
                raise EpisodeError(f"intrinsics and pose of camera '{name}' must be 9 and 16 numbers of a camera")
            # Python's own floats: numpy's would make the points double and round them differently.
            fx, cx, fy, cy = (float(matrix[n]) for n in (0, 2, 4, 5))
            pinhole = PinholeCamera(camera.color[1], camera.color[0], fx, fy, cx, cy)
            depth = counts.astype(np.float32) * np.float32(camera.depth_unit)
            views[name] = CameraView(name, color, depth, pinhole, transform.reshape(4, 4), stamp), counts
        return views

    def _observe(self, row: int, views: Views, numbers: Mapping[str, NDArray[Any]]) -> Observation:
        state, tool = numbers[lerobot.STATE][row].astype(np.float64), numbers[lerobot.TOOL][row].astype(np.float64)
        pose = Keypose(tool[:3], tool[3:], float(np.clip(state[7], 0.0, 1.0)))
        cameras = [view for view, _ in views.values()]
        T_policy_tool = transform_from(pose.position, pose.quat_wxyz)
        seen = self.builder.build(cameras, state[:7], pose.opening, T_policy_tool, cameras[0].stamp_ns)
        # As noted: the way through a matrix rounds them.
        return dataclasses.replace(seen, tool_position=pose.position, tool_quat_wxyz=pose.quat_wxyz)

    def _recording(self, steps: list[Views], about: Mapping[str, Any]) -> Recording:
        cameras = list(self.cameras.values())
        if len({(c.color, c.depth) for c in cameras}) > 1:
            raise EpisodeError("pictures of different sizes cannot be kept in one file: convert without them")
        scales = [round(c.depth_unit / DEPTH_UNIT) for c in cameras]
        depths = np.array([[v[1] for v in s.values()] for s in steps], np.uint32) * np.array(scales)[:, None, None]
        trajectory = np.asarray(about.get("trajectory", ()), np.float32)
        return Recording(
            np.array([[view.color for view, _ in s.values()] for s in steps]),
            np.where(depths < 2**16, depths, 0).astype(np.uint16),
            np.array([[view.T_policy_camera for view, _ in s.values()] for s in steps]),
            np.array([view.camera.matrix for view, _ in steps[0].values()]),
            trajectory[: len(trajectory) // 10 * 10].reshape(-1, 10),
        )


def _camera_of(reader: LeRobotReader, camera: str) -> CameraFormat:
    """Sizes and unit from the description. Raises ConfigurationError for videos and unknown units."""
    color, depth = reader.features[lerobot.color_key(camera)], reader.features[lerobot.depth_key(camera)]
    for feature in (color, depth):
        if feature["dtype"] != "image":
            raise ConfigurationError(
                f"{reader.root} keeps camera '{camera}' as {feature['dtype']!r:.20}: pictures of type image are read, "
                "and depth from a video would not be exact"
            )
        shape = feature.get("shape")
        if not isinstance(shape, list) or len(shape) != 3 or not all(type(n) is int and n > 0 for n in shape):
            raise EpisodeError(f"{reader.root} gives camera '{camera}' the size {shape!r:.40}")
    about = depth.get("info")
    info = about if isinstance(about, dict) else {}
    unit = info.get("depth_scale_m", UNITS.get(str(info.get("depth_unit"))))
    if not isinstance(unit, float) or not 0.0 < unit < 1.0:
        raise ConfigurationError(
            f"{reader.root} does not tell the unit of '{lerobot.depth_key(camera)}': add depth_unit or depth_scale_m"
        )
    return CameraFormat((color["shape"][0], color["shape"][1]), (depth["shape"][0], depth["shape"][1]), unit)
