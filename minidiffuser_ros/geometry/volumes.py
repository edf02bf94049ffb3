"""Simple solids that can say which points lie inside them: used to take the robot out of its own view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.geometry.transform import apply, invert


class Volume(Protocol):
    """Anything that can test points for being inside."""

    def contains(self, points: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Whether each point [N, 3], in metres in the policy frame, lies inside; returns [N]."""
        ...


@dataclass(frozen=True)
class Capsule:
    """All points within `radius` metres of the segment from `start` [3] to `end` [3]."""

    start: NDArray[np.floating]
    end: NDArray[np.floating]
    radius: float

    def contains(self, points: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Whether each point [N, 3] is inside; returns [N]."""
        axis = (self.end - self.start).astype(points.dtype)
        relative = points - self.start.astype(points.dtype)
        along = np.clip(relative @ axis / max(float(axis @ axis), 1e-12), 0.0, 1.0)
        offset = relative - along[:, None] * axis
        inside: NDArray[np.bool_] = np.einsum("ij,ij->i", offset, offset) <= self.radius**2
        return inside


@dataclass(frozen=True)
class OrientedBox:
    """A box of half sizes [3] metres whose centre frame is `transform` [4, 4]."""

    transform: NDArray[np.floating]
    half_size: NDArray[np.floating]

    def contains(self, points: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Whether each point [N, 3] is inside; returns [N]."""
        local = apply(invert(self.transform), points)
        inside: NDArray[np.bool_] = np.all(np.abs(local) <= self.half_size, axis=-1)
        return inside
