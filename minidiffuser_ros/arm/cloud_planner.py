"""The motion planner among what the cameras see: the newest cloud, what the hand holds, and where it may touch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.arm.limits import SafetyLimits
from minidiffuser_ros.arm.planning.collision import CollisionSettings
from minidiffuser_ros.arm.planning.obstacles import Obstacles
from minidiffuser_ros.arm.planning.planner import MotionPlanner, PlanningSettings
from minidiffuser_ros.arm.planning.timing import time_path
from minidiffuser_ros.arm.protocol import ArmState, Array, TimedPath
from minidiffuser_ros.contract.errors import MotionError, require_in_range
from minidiffuser_ros.contract.refusal import Reason, Refusal

MAX_POINTS = 1_000_000


@dataclass(frozen=True)
class CloudSettings:
    """How a cloud becomes obstacles. Raises ConfigurationError for what is out of its range."""

    avoid_cloud: bool = field(
        default=False,
        metadata={"description": "Straight lines, too, must touch nothing that is seen; else planned ways only"},
    )
    max_age_s: float = field(
        default=10.0,
        metadata={"description": "Oldest cloud that a way is planned in", "unit": "s", "range": (0.1, 3600.0)},
    )
    voxel_m: float = field(
        default=0.015, metadata={"description": "Size of the voxels", "unit": "m", "range": (0.002, 0.1)}
    )
    contact_m: float = field(
        default=0.06,
        metadata={
            "description": "Around start and end of a way, hand and fingers may touch what is seen",
            "unit": "m",
            "range": (0.0, 0.3),
        },
    )
    held_length_m: float = field(
        default=0.06,
        metadata={"description": "Size assumed of what is held, but between the fingers", "unit": "m"}
        | {"range": (0.0, 0.4)},
    )

    def __post_init__(self) -> None:
        require_in_range(self)


class CloudPlanner:
    """Plans from the arm's readings; any thread may show it a cloud or ask for a way."""

    def __init__(
        self,
        limits: SafetyLimits | None = None,
        planning: PlanningSettings | None = None,
        collision: CollisionSettings | None = None,
        settings: CloudSettings | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings or CloudSettings()
        self._planner = MotionPlanner(limits, planning, collision)
        self._clock_s = clock_s
        self._asking = threading.Lock()  # the planner computes in place
        self._cloud: tuple[NDArray[np.float32], float] | None = None

    def show(self, points: NDArray[np.float32], age_s: float = 0.0) -> None:
        """Plan among points [P, 3] in metres in the base frame from now on; they were seen `age_s` ago."""
        self._cloud = points[:MAX_POINTS], self._clock_s() - age_s

    def line(self, state: ArmState, tool: Array, speed: float, *, seen: bool, held_m: float = 0.0) -> TimedPath:
        """The straight line to `T_base_tool` [4, 4]. Raises MotionError: NO_LINE, IN_COLLISION, UNREACHABLE, STALE."""
        with self._asking:
            self._prepare(state, tool, seen, held_m)
            path = self._planner.plan_line(state.joints, tool, state.opening)
        return time_path(path, self._planner.limits.arm, speed)

    def around(self, state: ArmState, tool: Array, speed: float, *, seen: bool, held_m: float = 0.0) -> TimedPath:
        """Any way to `T_base_tool` [4, 4]. Raises MotionError: NO_PATH, IN_COLLISION, UNREACHABLE, STALE."""
        with self._asking:
            self._prepare(state, tool, seen, held_m)
            path = self._planner.plan_pose(state.joints, tool, state.opening)
        return time_path(path, self._planner.limits.arm, speed)

    def _prepare(self, state: ArmState, tool: Array, seen: bool, held_m: float) -> None:
        collision, s = self._planner.collision, self.settings
        obstacles = self._obstacles() if seen else None
        collision.detach()
        if held_m > 0.0:
            half = np.array([0.5 * s.held_length_m, 0.5 * held_m, 0.5 * s.held_length_m])
            collision.attach(half, np.eye(4))
            if obstacles is not None:
                obstacles = obstacles.without_box(state.tool, half + s.voxel_m)
        collision.set_obstacles(obstacles)
        # Where the arm stands it may touch already what it is about to leave.
        ends = np.stack([state.tool[:3, 3], tool[:3, 3]])
        collision.allow_contact(ends if obstacles is not None and s.contact_m else None, s.contact_m)

    def _obstacles(self) -> Obstacles:
        """Of the newest cloud. Raises MotionError where there is none, or an old one only."""
        cloud, limit_s = self._cloud, self.settings.max_age_s
        if cloud is None:
            text = "no cloud of the observer has come yet: start the observer and let it publish its points"
            raise MotionError(Refusal(Reason.STALE, text))
        age_s = self._clock_s() - cloud[1]
        if age_s > limit_s:
            text = (
                f"the newest cloud is {age_s:.1f} s old, allowed are {limit_s:g} s: let the observer publish more often"
            )
            raise MotionError(Refusal(Reason.STALE, text))
        return Obstacles.from_points(cloud[0], self.settings.voxel_m)
