"""The observation builder: the one place where images become points, for live topics, recordings and simulation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.contract.errors import ObservationError
from minidiffuser_ros.contract.observation import Observation, ObservationSpec
from minidiffuser_ros.geometry.camera import PinholeCamera
from minidiffuser_ros.geometry.transform import apply, pose_of
from minidiffuser_ros.geometry.volumes import Volume
from minidiffuser_ros.perception.cloud import remove_outliers, thin, voxel_grid

RobotVolumes = Callable[[NDArray[np.floating], float], Sequence[Volume]]

MIN_POINTS = 16


@dataclass(frozen=True)
class CameraView:
    """One camera at one instant.

    color: [H, W, 3] uint8 RGB. depth: [h, w] float32 metres along the optical axis, NaN or 0 where unknown;
    h, w may differ from H, W as long as both images show the same view. camera: intrinsics of the colour image.
    depth_camera: those of the depth image, of any size, seen from the same place; None: the colour image's, scaled.
    T_policy_camera: [4, 4] from the optical frame to the policy frame.
    """

    name: str
    color: NDArray[np.uint8]
    depth: NDArray[np.float32]
    camera: PinholeCamera
    T_policy_camera: NDArray[np.float64]
    stamp_ns: int
    depth_camera: PinholeCamera | None = None


def lift(view: CameraView) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Every pixel with a valid depth as a point [N, 3] in the policy frame and its colour [N, 3]."""
    height, width = view.depth.shape
    valid = np.isfinite(view.depth) & (view.depth > 0.0)
    lens = (view.depth_camera or view.camera).scaled(width, height)
    points = lens.deproject(np.where(valid, view.depth, 0.0))
    color = view.color
    if view.depth_camera is not None:
        color, seen = _sampled(color, view.camera.scaled(color.shape[1], color.shape[0]), lens)
        valid &= seen
    elif color.shape[:2] != (height, width):
        rows = (np.arange(height) + 0.5) * color.shape[0] / height
        columns = (np.arange(width) + 0.5) * color.shape[1] / width
        color = color[rows.astype(int)[:, None], columns.astype(int)[None, :]]
    return apply(view.T_policy_camera, points[valid]).astype(np.float32), color[valid]


def _sampled(
    color: NDArray[np.uint8], color_camera: PinholeCamera, depth_camera: PinholeCamera
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The colour [h, w, 3] under each pixel of depth, and whether there is one: both are seen from one place."""
    c, d = color_camera, depth_camera
    columns = np.floor((np.arange(d.width) - d.cx) / d.fx * c.fx + c.cx + 0.5).clip(-1, c.width).astype(int)
    rows = np.floor((np.arange(d.height) - d.cy) / d.fy * c.fy + c.cy + 0.5).clip(-1, c.height).astype(int)
    seen = ((rows >= 0) & (rows < c.height))[:, None] & ((columns >= 0) & (columns < c.width))[None, :]
    rows, columns = rows.clip(0, c.height - 1), columns.clip(0, c.width - 1)
    return color[rows[:, None], columns[None, :]], seen


Cloud = tuple[NDArray[np.float32], NDArray[np.uint8]]
"""Points [N, 3] in metres in the policy frame and their colours [N, 3]."""


class ObservationBuilder:
    """Lift, crop, merge, remove table and robot, voxel grid, outliers, thin: always in this order.

    `robot_volumes(joint_positions, opening)` gives the solids the robot fills; points inside are its own body.
    """

    def __init__(self, spec: ObservationSpec, robot_volumes: RobotVolumes | None = None) -> None:
        self.spec = spec
        self._robot_volumes = robot_volumes

    def build(
        self,
        views: Sequence[CameraView],
        joint_positions: NDArray[np.floating],
        opening: float,
        T_policy_tool: NDArray[np.floating],
        stamp_ns: int,
    ) -> Observation:
        """The observation of these views. Raises ObservationError with every reason why there is none."""
        return self.build_with_surroundings(views, joint_positions, opening, T_policy_tool, stamp_ns)[0]

    def build_with_surroundings(
        self,
        views: Sequence[CameraView],
        joint_positions: NDArray[np.floating],
        opening: float,
        T_policy_tool: NDArray[np.floating],
        stamp_ns: int,
    ) -> tuple[Observation, Cloud]:
        """`build`, and the cloud before it was thinned: a policy does with some of its points, a planner does not."""
        if reasons := self._problems_of_views(views) + _problems_of_arm(joint_positions, opening):
            raise ObservationError(reasons)
        clouds = [lift(view) for view in views]
        return self._from_clouds(clouds, joint_positions, opening, T_policy_tool, stamp_ns)

    def build_from_clouds(
        self,
        clouds: Sequence[Cloud],
        joint_positions: NDArray[np.floating],
        opening: float,
        T_policy_tool: NDArray[np.floating],
        stamp_ns: int,
    ) -> Observation:
        """`build` for what others have lifted: points [N, 3] in metres in the policy frame and colours [N, 3]."""
        if reasons := _problems_of_arm(joint_positions, opening):
            raise ObservationError(reasons)
        return self._from_clouds(clouds, joint_positions, opening, T_policy_tool, stamp_ns)[0]

    def _from_clouds(
        self,
        clouds: Sequence[Cloud],
        joint_positions: NDArray[np.floating],
        opening: float,
        T_policy_tool: NDArray[np.floating],
        stamp_ns: int,
    ) -> tuple[Observation, Cloud]:
        clouds = [self._crop(*cloud) for cloud in clouds]
        points = np.concatenate([cloud[0] for cloud in clouds])
        colors = np.concatenate([cloud[1] for cloud in clouds])
        if self._robot_volumes is not None:
            outside = np.ones(len(points), dtype=bool)
            for volume in self._robot_volumes(joint_positions, opening):
                outside &= ~volume.contains(points)
            points, colors = points[outside], colors[outside]
        points, colors = voxel_grid(points, colors, self.spec.voxel_size)
        points, colors = remove_outliers(points, colors, self.spec.voxel_size)
        if len(points) < MIN_POINTS:
            raise ObservationError(
                [
                    f"only {len(points)} points above the table inside the workspace, {MIN_POINTS} needed: "
                    "check the cameras' poses"
                ]
            )
        surroundings = points, colors
        points, colors = thin(points, colors, self.spec.max_points)
        position, quat_wxyz = pose_of(T_policy_tool)
        observation = Observation(
            points,
            colors,
            position,
            quat_wxyz,
            np.array(joint_positions, np.float64),
            float(opening),
            int(stamp_ns),
            self.spec,
        )
        return observation, surroundings

    def _problems_of_views(self, views: Sequence[CameraView]) -> list[str]:
        reasons = [
            f"camera '{name}' gave no image" for name in self.spec.cameras if name not in {v.name for v in views}
        ]
        for view in views:
            if not (np.isfinite(view.depth) & (view.depth > 0.0)).any():
                reasons.append(f"camera '{view.name}' has no valid depth pixel")
            if not np.isfinite(view.T_policy_camera).all():
                reasons.append(f"the pose of camera '{view.name}' is not finite")
        return reasons

    def _crop(self, points: NDArray[np.float32], colors: NDArray[np.uint8]) -> Cloud:
        """Keep what lies inside the workspace and above the table."""
        low = np.array(self.spec.workspace_min, np.float32)
        low[2] = max(low[2], self.spec.table_height + self.spec.table_margin)
        inside = ((points >= low) & (points <= np.array(self.spec.workspace_max, np.float32))).all(axis=1)
        return points[inside], colors[inside]


def _problems_of_arm(joint_positions: NDArray[np.floating], opening: float) -> list[str]:
    reasons = []
    if np.shape(joint_positions) != (7,) or not np.isfinite(joint_positions).all():
        reasons.append(f"7 finite joint positions are needed, got {np.asarray(joint_positions).tolist()}")
    if not 0.0 <= opening <= 1.0:
        reasons.append(f"the gripper opening must lie in [0, 1], got {opening}")
    return reasons
