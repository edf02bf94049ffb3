"""The pinhole camera: pixels and depth to points, and back.

Optical frame: x right, y down, z forward (REP-103). Pixel centres lie at integer coordinates, as in
`sensor_msgs/CameraInfo`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PinholeCamera:
    """Intrinsics of a rectified image: size in pixels, focal lengths and principal point in pixels."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1 or not (self.fx > 0 and self.fy > 0):
            raise ValueError(f"a camera needs a positive size and focal length, got {self}")

    @classmethod
    def from_fov(cls, width: int, height: int, vertical_fov_deg: float) -> PinholeCamera:
        """Square pixels, centred principal point, from the vertical field of view."""
        focal = 0.5 * height / np.tan(0.5 * np.deg2rad(vertical_fov_deg))
        return cls(width, height, float(focal), float(focal), 0.5 * (width - 1), 0.5 * (height - 1))

    def scaled(self, width: int, height: int) -> PinholeCamera:
        """The same view sampled at another size: for a depth image not as large as the colour image."""
        sx, sy = width / self.width, height / self.height
        # Pixel centres are integers, so scaling acts about the corner at (-0.5, -0.5).
        return PinholeCamera(
            width, height, self.fx * sx, self.fy * sy, (self.cx + 0.5) * sx - 0.5, (self.cy + 0.5) * sy - 0.5
        )

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The intrinsic matrix [3, 3]."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    def deproject(self, depth: NDArray[np.floating]) -> NDArray[np.float32]:
        """Points [H, W, 3] in the optical frame from metric depth [H, W] along z."""
        if depth.shape != (self.height, self.width):
            raise ValueError(f"depth is {depth.shape[1]}x{depth.shape[0]}, the camera {self.width}x{self.height}")
        z = depth.astype(np.float32)
        x = (np.arange(self.width, dtype=np.float32) - self.cx) / self.fx
        y = (np.arange(self.height, dtype=np.float32) - self.cy) / self.fy
        return np.stack([x[None, :] * z, y[:, None] * z, z], axis=-1).astype(np.float32)

    def project(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Pixels [..., 2] of points [..., 3] in the optical frame; points behind the camera become NaN."""
        p = np.asarray(points, dtype=np.float64)
        z = np.where(p[..., 2] > 1e-6, p[..., 2], np.nan)
        return np.stack([self.fx * p[..., 0] / z + self.cx, self.fy * p[..., 1] / z + self.cy], axis=-1)
