"""Whether a camera's pose is right, seen on the gripper: where it must appear, and how near the observed points are."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.geometry.camera import PinholeCamera
from minidiffuser_ros.geometry.transform import apply

Array = NDArray[np.float64]

OUTLINE_RGB, TINT_RGB, TINT = (255, 40, 40), (40, 200, 255), 0.25
# Farther from the predicted surface along the ray, a pixel shows something else: an object in between, the background.
NEAR_M = 0.05
CLOSE_MM = 10.0
MIN_PIXELS = 50


@dataclass(frozen=True)
class GripperAgreement:
    """How observed points lie to the gripper's surface.

    median_mm: median distance of those within 5 cm. depth_mm: median of observed minus predicted depth. close: share of
    them nearer than 10 mm. seen: share of the predicted pixels that have such a point.
    """

    median_mm: float
    depth_mm: float
    close: float
    seen: float


class Gripper:
    """A gripper's surface before a camera. vertices [V, 3] in metres in the tool frame, triangles [F, 3]."""

    def __init__(
        self, vertices: Array, triangles: NDArray[np.int32], T_camera_tool: Array, camera: PinholeCamera
    ) -> None:
        # 0.7 s to import: only where a calibration is checked. Its types know no numpy arrays.
        open3d = importlib.import_module("open3d")
        self._camera = camera
        self._tensor = open3d.core.Tensor
        self._scene: Any = open3d.t.geometry.RaycastingScene()
        points = apply(T_camera_tool, np.asarray(vertices, np.float64)).astype(np.float32)
        self._scene.add_triangles(self._tensor(points), self._tensor(np.asarray(triangles, np.uint32)))
        rays = np.zeros((camera.height, camera.width, 6), np.float32)
        rays[..., 3:] = camera.deproject(np.ones((camera.height, camera.width)))
        # Rays of length one along z, so that what is hit is given in depth.
        self.depth: NDArray[np.float32] = self._scene.cast_rays(self._tensor(rays))["t_hit"].numpy()

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Pixels [H, W] where the gripper must appear if nothing is in front of it."""
        return np.isfinite(self.depth)

    def drawn(self, color: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The picture [H, W, 3] with the gripper tinted and outlined where it must appear.

        Raises ConfigurationError where it lies outside the picture.
        """
        self._require()
        mask = self.mask.astype(np.uint8)
        picture = color.astype(np.float64)
        picture[self.mask] = (1.0 - TINT) * picture[self.mask] + TINT * np.array(TINT_RGB)
        result = picture.astype(np.uint8)
        contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(result, contours, -1, OUTLINE_RGB, 1)
        return result

    def agreement(self, depth: NDArray[np.floating]) -> GripperAgreement:
        """How observed depth [H, W] in metres agrees. Raises ConfigurationError where too little of it is near."""
        self._require()
        observed = np.asarray(depth, np.float32)
        difference = np.where(self.mask & (observed > 0.0), observed - self.depth, np.inf)
        near = np.abs(np.nan_to_num(difference, nan=np.inf)) < NEAR_M
        if int(near.sum()) < MIN_PIXELS:
            raise ConfigurationError(
                f"only {int(near.sum())} of {int(self.mask.sum())} pixels where the gripper must appear have a point "
                f"within {1e2 * NEAR_M:.0f} cm of it: the camera's pose is wrong, or the gripper is hidden or too near"
            )
        points = self._camera.deproject(observed)[near]
        distances = 1e3 * self._scene.compute_distance(self._tensor(np.ascontiguousarray(points))).numpy()
        return GripperAgreement(
            float(np.median(distances)),
            1e3 * float(np.median(difference[near])),
            float((distances < CLOSE_MM).mean()),
            float(near.sum() / self.mask.sum()),
        )

    def _require(self) -> None:
        if int(self.mask.sum()) < MIN_PIXELS:
            raise ConfigurationError(
                "the gripper lies outside the picture: choose a view that shows it, or the camera's pose is far off"
            )
