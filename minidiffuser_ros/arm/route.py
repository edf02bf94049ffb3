"""Which way to a goal: the straight line where the arm can follow it, else one that a planner finds."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from minidiffuser_ros.arm.envelope import SafetyEnvelope
from minidiffuser_ros.arm.goal import KeyposeGoal, Way
from minidiffuser_ros.arm.protocol import ArmState, Array, TimedPath
from minidiffuser_ros.contract.errors import GoalRejectedError, MotionError
from minidiffuser_ros.contract.refusal import Reason, Refusal

LINE, PLANNED = "line", "planned"


class PathPlanner(Protocol):
    """Finds ways for the joints. Both raise MotionError with a code where there is none; any thread may ask.

    seen: whether they must touch nothing that was observed, either. held_m: width of what is in the hand; 0: nothing.
    """

    def line(self, state: ArmState, tool: Array, speed: float, *, seen: bool, held_m: float = 0.0) -> TimedPath:
        """The straight line to `T_base_tool` [4, 4]."""
        ...

    def around(self, state: ArmState, tool: Array, speed: float, *, seen: bool, held_m: float = 0.0) -> TimedPath:
        """Any way to `T_base_tool` [4, 4] that touches nothing."""
        ...


@dataclass(frozen=True)
class Route:
    """How the arm will go: `way` is LINE or PLANNED, its lines lead through `stations`, `T_base_tool` [4, 4] each."""

    way: str
    stations: dict[str, Array]
    path: TimedPath | None = None


class RouteChoice:
    """Chooses routes by a goal's way. avoid_cloud: lines, too, must touch nothing that was observed."""

    def __init__(self, envelope: SafetyEnvelope, planner: PathPlanner | None = None, avoid_cloud: bool = False) -> None:
        self._envelope, self.planner, self._avoid_cloud = envelope, planner, avoid_cloud

    def choose(self, goal: KeyposeGoal, state: ArmState, speed: float, held_m: float = 0.0) -> Route:
        """A route to a goal that `check_goal` has nothing against. Raises GoalRejectedError with every reason."""
        if goal.way is Way.PLANNED:
            return self._planned(goal, state, speed, [], held_m=held_m)
        reasons: list[str] = [*self._envelope.check_way(goal, state)]
        if not reasons and self._avoid_cloud and self.planner is not None:
            reasons += self._touched(goal, state, speed, held_m)
        if not reasons:
            return Route(LINE, goal.stations())
        if goal.way is Way.LINE or self.planner is None:
            raise GoalRejectedError(*reasons)
        return self._planned(goal, state, speed, reasons, held_m=held_m)

    def _touched(self, goal: KeyposeGoal, state: ArmState, speed: float, held_m: float) -> list[str]:
        """The reason against the straight line to the first station, from what was observed."""
        assert self.planner is not None
        try:
            first = next(iter(goal.stations().values()))
            self.planner.line(state, first, speed, seen=True, held_m=held_m)
        except MotionError as error:
            return [error.reason]
        return []

    def _planned(
        self,
        goal: KeyposeGoal,
        state: ArmState,
        speed: float,
        against_line: list[str],
        *,
        held_m: float,
    ) -> Route:
        """Nobody asked for this very way: it touches nothing that was seen, or is not gone."""
        if self.planner is None:
            text = "a planned way was asked for and this arm has no planner: ask for a line, or set up the planner"
            raise GoalRejectedError(Refusal(Reason.NO_PATH, text))
        stations = goal.stations()
        first, *others = stations.values()
        try:
            path = self.planner.around(state, first, speed, seen=True, held_m=held_m)
        except MotionError as error:
            raise GoalRejectedError(*against_line, error.reason) from error
        end = dataclasses.replace(state, joints=np.asarray(path.joints[-1]), tool=first)
        if reasons := self._envelope.check_line(end, *others):
            raise GoalRejectedError(*against_line, *reasons)
        return Route(PLANNED, stations, path)
