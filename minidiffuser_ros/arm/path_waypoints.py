"""A timed path of the joints as waypoints with velocities; also of its rest, where the arm has stopped on the way."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicHermiteSpline

from minidiffuser_ros.arm.protocol import Array, TimedPath

SEARCH_PERIOD_S = 0.002


class PathWaypoints:
    """The path as a curve over time, its velocities kept."""

    def __init__(self, path: TimedPath) -> None:
        times = np.asarray(path.times_s, dtype=np.float64) - path.times_s[0]
        self._way = CubicHermiteSpline(times, path.joints, path.velocities)
        self.duration_s = float(times[-1])

    def nearest(self, joints: Array) -> tuple[float, float]:
        """When the path passes closest to joints [7], and how far from them, as the largest difference in rad."""
        instants = np.linspace(0.0, self.duration_s, 2 + int(self.duration_s / SEARCH_PERIOD_S))
        away = np.abs(self._way(instants) - joints).max(axis=1)
        index = int(away.argmin())
        return float(instants[index]), float(away[index])

    def after(self, begin_s: float, period_s: float, ramp_s: float) -> tuple[float, Array, Array]:
        """Seconds from each waypoint to the next, joints [N, 7] and velocities [N, 7], from `begin_s` to the end.

        Evenly `period_s` apart or a little less. The arm stands at `begin_s`; unless that is the beginning, where the
        path itself takes care of it, the path is entered ever faster during `ramp_s`, until it has its own pace.
        """
        left_s, ramp_s = self.duration_s - begin_s, ramp_s if begin_s > 0.0 else 0.0
        # At rate t / ramp the way done after the ramp is half of what it would be.
        total_s = left_s + 0.5 * ramp_s if left_s > 0.5 * ramp_s else float(np.sqrt(2.0 * ramp_s * left_s))
        count = max(1, int(np.ceil(total_s / period_s)))
        instants = np.linspace(0.0, total_s, count + 1)[1:]
        rates = np.minimum(1.0, instants / ramp_s) if ramp_s else np.ones(count)
        done = np.where(rates < 1.0, 0.5 * rates * instants, instants - 0.5 * ramp_s)
        places = np.minimum(begin_s + done, self.duration_s)
        velocities = self._way(places, 1) * rates[:, None]
        velocities[-1] = 0.0
        return total_s / count, self._way(places), velocities
