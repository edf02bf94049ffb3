"""When the arm is where along a path: as early as its limits of velocity, acceleration and jerk allow.

Toppra finds the fastest motion along the rounded path under the limits of velocity, which fall towards the ends of
the FR3's joints, and of acceleration. (Ruckig, which franky uses between two points, passes waypoints only by asking
its maker's server: it cannot serve here.) Its accelerations jump. The mean over a window of w seconds takes the jumps
out: accelerations a to b around it, the jerk is (b - a) / w at most, so that w = 2 acceleration / jerk keeps it; a mean
of allowed velocities and accelerations is allowed. Last, what toppra exceeded between its grid points is taken out
by slowing everything down by the same factor, a few hundredths.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import toppra
from numpy.typing import NDArray
from scipy.interpolate import BSpline
from toppra.algorithm import TOPPRA
from toppra.constraint import JointAccelerationConstraint, JointVelocityConstraintVarying
from toppra.interpolator import AbstractGeometricPath

from minidiffuser_ros.arm.model import FR3, ArmModel
from minidiffuser_ros.arm.planning.path import JointPath, rounded
from minidiffuser_ros.contract.errors import ConfigurationError, PlanningError
from minidiffuser_ros.contract.refusal import Reason, Refusal

Array = NDArray[np.float64]

PERIOD_S = 0.001  # of the Franka's controller
GRID_PER_PIECE, MIN_GRID = 4, 20  # of toppra's grid, for each piece of the spline
MOST_PASSES = 5
LEAST_SPEED = 0.01  # rad/s: an arm that may go no faster stands at its limit

toppra.setup_logging("ERROR")


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Joints [N, 7] rad and velocities [N, 7] rad/s at times_s [N], a millisecond apart; at rest at both ends."""

    times_s: Array
    joints: Array
    velocities: Array

    @property
    def duration_s(self) -> float:
        """From its start to its end."""
        return float(self.times_s[-1])

    def at(self, times_s: Array) -> Array:
        """Joints [M, 7] rad at times [M]; before its start and after its end it stands."""
        return np.stack([np.interp(times_s, self.times_s, joint) for joint in self.joints.T], axis=1)


def time_path(path: JointPath, model: ArmModel = FR3, speed: float = 1.0) -> Trajectory:
    """The path as fast as `speed` (0, 1] times the arm's limits of velocity, acceleration and jerk allow.

    Corners are rounded: see `path.rounded`. Raises PlanningError where the path touches a joint limit, at which the
    arm may not move at all, ConfigurationError for a speed that is none.
    """
    if not 0.0 < speed <= 1.0:
        raise ConfigurationError(f"speed must lie in (0, 1], got {speed:g}")
    curve = rounded(path.joints)
    if curve is None:
        return Trajectory(np.zeros(1), np.array(path.joints[:1]), np.zeros((1, 7)))
    fastest = _fastest(curve, model, speed)
    window_s = float((2.0 * np.array(model.acceleration) / np.array(model.jerk)).max())
    slower = 1.0
    for _ in range(MOST_PASSES):
        joints: Array = _smoothed(fastest.sampled(slower), int(np.ceil(window_s / PERIOD_S)))
        excess = _excess(joints, model, speed)
        if excess <= 1.0:
            break
        slower *= 1.001 * excess
    else:
        raise PlanningError(Refusal(Reason.NO_PATH, "no pace along the path keeps the limits of the joints' motion"))
    velocities: Array = np.gradient(joints, PERIOD_S, axis=0)
    velocities[[0, -1]] = 0.0
    return Trajectory(PERIOD_S * np.arange(len(joints), dtype=np.float64), joints, velocities)


@dataclass(frozen=True)
class _Pace:
    """How fast a curve is run through: places [G] along it, their times, velocities and the accelerations between."""

    curve: BSpline
    places: Array
    times_s: Array
    velocities: Array
    accelerations: Array

    def sampled(self, slower: float) -> Array:
        """Joints [N, 7] every PERIOD_S when everything takes `slower` times as long."""
        duration_s = float(self.times_s[-1])
        times_s = np.linspace(0.0, duration_s, 1 + max(1, int(np.ceil(slower * duration_s / PERIOD_S))))
        piece = np.clip(np.searchsorted(self.times_s, times_s, side="right") - 1, 0, len(self.places) - 2)
        since = times_s - self.times_s[piece]
        places = self.places[piece] + self.velocities[piece] * since + 0.5 * self.accelerations[piece] * since**2
        return np.asarray(self.curve(np.clip(places, 0.0, self.places[-1])))


def _fastest(curve: BSpline, model: ArmModel, speed: float) -> _Pace:
    """Toppra's answer, its accelerations constant between grid points."""
    end = float(curve.t[-1])
    grid = np.linspace(0.0, end, max(MIN_GRID, GRID_PER_PIECE * int(end)) + 1)
    low, high = model.velocity_limits(curve(grid))
    if min(high.min(), -low.max()) < LEAST_SPEED:
        raise PlanningError(
            Refusal(
                Reason.NO_PATH,
                "the path touches a joint limit at which the arm may not move: plan it with a larger joint_margin",
            )
        )
    acceleration = speed * np.array(model.acceleration)

    def velocities(place: float) -> Array:
        return np.stack([speed * bound for bound in model.velocity_limits(curve(place))], axis=1)

    constraints = [
        JointVelocityConstraintVarying(velocities),
        JointAccelerationConstraint(np.stack([-acceleration, acceleration], axis=1)),
    ]
    accelerations, paces, _ = TOPPRA(constraints, _Curve(curve), gridpoints=grid).compute_parameterization(0.0, 0.0)
    if paces is None or not np.isfinite(paces).all():
        raise PlanningError(Refusal(Reason.NO_PATH, "no motion along the path keeps the limits of the joints' speed"))
    times_s = np.concatenate([[0.0], np.cumsum(2.0 * np.diff(grid) / (paces[1:] + paces[:-1]))])
    return _Pace(curve, grid, times_s, paces, accelerations)


def _smoothed(joints: Array, steps: int) -> Array:
    """The mean of every `steps` + 1 neighbours, where before and after [N, 7] the arm stands: [N + steps, 7]."""
    count = steps + 1
    padded: Array = np.concatenate(
        [np.repeat(joints[:1], steps, axis=0), joints, np.repeat(joints[-1:], steps, axis=0)]
    )
    windows = np.lib.stride_tricks.sliding_window_view(padded, count, axis=0)
    return np.asarray(windows.mean(axis=-1))


def _excess(joints: Array, model: ArmModel, speed: float) -> float:
    """How many times as long everything would have to take for no limit to be exceeded; less than 1 for room."""
    rest = np.concatenate([np.repeat(joints[:1], 3, axis=0), joints, np.repeat(joints[-1:], 3, axis=0)])
    velocity = np.diff(rest, axis=0) / PERIOD_S
    low, high = model.velocity_limits(0.5 * (rest[1:] + rest[:-1]))
    factor = float((np.abs(velocity) / (speed * np.where(velocity < 0.0, -low, high))).max())
    for order, limit in ((2, model.acceleration), (3, model.jerk)):
        largest = np.abs(np.diff(rest, order, axis=0)).max(axis=0) / PERIOD_S**order
        factor = max(factor, float((largest / (speed * np.array(limit))).max()) ** (1.0 / order))
    return factor


class _Curve(AbstractGeometricPath):
    """A B-spline as toppra wants it."""

    def __init__(self, curve: BSpline) -> None:
        self._orders = [curve, curve.derivative(1), curve.derivative(2)]
        self._end = float(curve.t[-1])

    def __call__(self, path_positions: Any, order: int = 0) -> Array:
        return np.asarray(self._orders[order](path_positions))

    @property
    def dof(self) -> int:
        return 7

    @property
    def path_interval(self) -> Array:
        return np.array([0.0, self._end])

    @property
    def waypoints(self) -> None:
        return None
