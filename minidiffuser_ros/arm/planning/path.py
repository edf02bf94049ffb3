"""A path of the arm: where it leads, not when."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline

from minidiffuser_ros.arm.kinematics import FrankaKinematics

Array = NDArray[np.float64]
LINE, PLANNED = "line", "planned"

ROUNDING_RAD = 0.015  # how far a rounded path may pass from a corner, in the norm of the joints
SAME_RAD = 1e-6


@dataclass(frozen=True, eq=False)
class JointPath:
    """Joints [N, 7] in rad, to be followed along straight joint segments; checked so, and with its corners rounded.

    kind: "line" where the tool goes straight, "planned" otherwise.
    """

    joints: Array
    kind: str = PLANNED

    def tools(self, step_rad: float = 0.05) -> Array:
        """`T_base_tool` [M, 4, 4] along it, no joint turning farther than `step_rad` between two: for a preview."""
        kinematics = FrankaKinematics()
        return np.stack([kinematics.forward(joints) for joints in densify(self.joints, step_rad)])


def densify(path: Array, step_rad: float) -> Array:
    """[N, 7] with places added evenly between its own, until no joint turns farther than `step_rad` between two."""
    steps = np.maximum(np.ceil(np.abs(np.diff(path, axis=0)).max(axis=1, initial=0.0) / step_rad).astype(int), 1)
    parts = [path[:1]]
    for begin, end, count in zip(path, path[1:], steps, strict=False):
        parts.append(begin + np.arange(1, count + 1)[:, None] / count * (end - begin))
    return np.concatenate(parts)


def rounded(path: Array) -> BSpline | None:
    """The path [N, 7] with its corners rounded: a cubic B-spline, twice continuously differentiable; None for a point.

    Its control points lie along the path at distances of at most h, so that it stays on straight segments, has the
    same ends, and passes from a corner at h |u - v| / 6 for directions u and v: at most ROUNDING_RAD for h three times
    that.
    """
    moved = np.concatenate([[True], np.linalg.norm(np.diff(path, axis=0), axis=1) > SAME_RAD])
    controls = _evenly(path[moved], 3.0 * ROUNDING_RAD)
    if len(controls) < 2:
        return None
    last = len(controls) - 1
    # One more control point a third into the first and the last piece: so the ends are met at an even pace.
    first, end = controls[0] + (controls[1] - controls[0]) / 3.0, controls[-1] + (controls[-2] - controls[-1]) / 3.0
    controls = np.concatenate([controls[:1], first[None], controls[1:-1], end[None], controls[-1:]])
    knots = np.concatenate([np.zeros(4), np.arange(1.0, last), np.full(4, float(last))])
    return BSpline(knots, controls, 3)


def _evenly(path: Array, spacing: float) -> Array:
    parts = [path[:1]]
    for begin, end in pairwise(path):
        count = max(1, int(np.ceil(float(np.linalg.norm(end - begin)) / spacing)))
        parts.append(begin + np.arange(1, count + 1)[:, None] / count * (end - begin))
    return np.concatenate(parts)
