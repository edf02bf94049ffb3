"""How a goal would be reached, over time: what a person looks at before anything moves."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from minidiffuser_ros.arm.protocol import ArmState, Array, TimedPath
from minidiffuser_ros.arm.route import PathPlanner, Route

PERIOD_S = 0.05  # of what is shown


@dataclass(frozen=True)
class Preview:
    """Times [N] s, joints [N, 7] rad and velocities [N, 7] rad/s of all motions of a goal, one after the other."""

    times_s: Array
    joints: Array
    velocities: Array

    @property
    def duration_s(self) -> float:
        """Of the motions, without the gripper and the time to settle."""
        return float(self.times_s[-1])


def preview(route: Route, state: ArmState, planner: PathPlanner, speed: float, slow: float) -> Preview:
    """The motions of a route from where the arm is; those after the first are as much slower as `slow` says.

    Lines are timed along joints, as nearly as the arm's driver does. Raises MotionError where one leads through a
    known obstacle.
    """
    parts: list[TimedPath] = []
    for index, tool in enumerate(route.stations.values()):
        if index == 0 and route.path is not None:
            part = route.path
        else:
            part = planner.line(state, tool, speed if index == 0 else speed * slow, seen=False)
        parts.append(part)
        state = dataclasses.replace(state, joints=np.asarray(part.joints[-1]), tool=tool)
    ends = np.cumsum([0.0, *(float(part.times_s[-1]) for part in parts)])
    times, joints, velocities = [np.zeros(1)], [parts[0].joints[:1]], [parts[0].velocities[:1]]
    for part, begin in zip(parts, ends, strict=False):
        instants = np.asarray(part.times_s)
        # The first instant of each part is the last of the one before.
        wanted = np.linspace(0.0, instants[-1], 2 + int(instants[-1] / PERIOD_S))[1:]
        chosen = np.unique(np.minimum(np.searchsorted(instants, wanted), len(instants) - 1))
        times.append(instants[chosen] + begin)
        joints.append(np.asarray(part.joints)[chosen])
        velocities.append(np.asarray(part.velocities)[chosen])
    return Preview(np.concatenate(times), np.concatenate(joints), np.concatenate(velocities))
