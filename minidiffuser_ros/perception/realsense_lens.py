"""What librealsense says of a lens, and pictures as an ideal lens would see them.

Points are lifted by focal lengths and principal point alone, which a bent lens makes wrong towards the rim.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyrealsense2 as rs
from numpy.typing import NDArray

from minidiffuser_ros.geometry.camera import PinholeCamera
from minidiffuser_ros.perception.realsense import Lens

Pixels = TypeVar("Pixels", bound=NDArray[Any])

# Models of librealsense → of ROS, as realsense-ros names them; a model that is not here has the five of plumb_bob.
DISTORTION_MODELS = {rs.distortion.kannala_brandt4: ("equidistant", 4)}
# A lens that moves no pixel farther than this is as good as ideal.
NEGLIGIBLE_PIXELS = 0.5


def lens_of(intrinsics: Any) -> Lens:
    """Intrinsics of librealsense in our terms and those of ROS."""
    i = intrinsics
    model, count = DISTORTION_MODELS.get(i.model, ("plumb_bob", 5))
    camera = PinholeCamera(i.width, i.height, i.fx, i.fy, i.ppx, i.ppy)
    return Lens(camera, model, tuple(float(c) for c in i.coeffs[:count]))


@dataclass(frozen=True)
class Rectifier:
    """Takes each pixel of an ideal picture from the nearest one of the bent picture.

    source: [H, W] index into the H W pixels. seen: [H, W] whether there is one.
    """

    source: NDArray[np.intp]
    seen: NDArray[np.bool_]

    def __call__(self, picture: Pixels) -> Pixels:
        """The ideal picture of a bent one [H, W] or [H, W, C]; 0 where the camera sees nothing."""
        flat = picture.reshape(-1, *picture.shape[2:])
        result = np.take(flat, self.source, axis=0)
        result[~self.seen] = 0
        return result  # type: ignore[return-value]


def rectifier_of(intrinsics: Any) -> Rectifier | None:
    """What rectifies pictures of this lens, by librealsense's own projection; None where it is as good as ideal."""
    i = intrinsics
    if not any(i.coeffs):
        return None
    xs, ys = (np.arange(i.width) - i.ppx) / i.fx, (np.arange(i.height) - i.ppy) / i.fy
    bent = np.array([[rs.rs2_project_point_to_pixel(i, [x, y, 1.0]) for x in xs] for y in ys])
    ideal = np.stack(np.meshgrid(np.arange(i.width), np.arange(i.height)), axis=-1)
    if not np.isfinite(bent).all() or np.abs(bent - ideal).max() <= NEGLIGIBLE_PIXELS:
        return None
    columns, rows = np.floor(bent + 0.5).clip(-1, max(i.width, i.height)).astype(np.intp).transpose(2, 0, 1)
    seen = (columns >= 0) & (columns < i.width) & (rows >= 0) & (rows < i.height)
    return Rectifier(np.where(seen, rows * i.width + columns, 0), seen)
