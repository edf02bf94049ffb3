"""Paths of the arm past everything that is known to be in its way: straight lines, and any way to a posture or a pose.

A question has always the same answer: all draws are seeded, and the search ends after a number of rounds; the time
limit only guards against a machine that is too slow for them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minidiffuser_ros.arm.kinematics import FrankaKinematics
from minidiffuser_ros.arm.limits import SafetyLimits
from minidiffuser_ros.arm.planning.collision import FINEST_STEP_RAD, CollisionModel, CollisionSettings
from minidiffuser_ros.arm.planning.path import LINE, PLANNED, JointPath, rounded
from minidiffuser_ros.arm.planning.postures import PostureSearch
from minidiffuser_ros.arm.planning.rrt_connect import Search, rrt_connect
from minidiffuser_ros.arm.planning.shortcut import shorten
from minidiffuser_ros.contract.errors import PlanningError, require_in_range
from minidiffuser_ros.contract.refusal import Reason, Refusal
from minidiffuser_ros.geometry.rotation import interpolate_quat
from minidiffuser_ros.geometry.transform import pose_of, transform_from

Array = NDArray[np.float64]

MOST_POSTURES = 6  # of a goal, the best of those that are free
LINE_STEP_M, LINE_STEP_RAD = 0.01, 0.05
LARGEST_LINE_JUMP_RAD = 0.25  # between two steps of a line: more is another branch, or a singular posture


@dataclass(frozen=True)
class PlanningSettings:
    """How long and how finely ways are searched."""

    max_time_s: float = field(
        default=3.0, metadata={"description": "Longest search for a path", "unit": "s", "range": (0.01, 60.0)}
    )
    max_rounds: int = field(
        default=4000, metadata={"description": "Most rounds of the search", "range": (1, 1_000_000)}
    )
    step_rad: float = field(
        default=0.6, metadata={"description": "Longest edge of the search tree", "unit": "rad", "range": (0.05, 3.0)}
    )
    check_rad: float = field(
        default=0.02,
        metadata={
            "description": "Joint motion between two collision checks of the search; found paths are checked at 0.01",
            "unit": "rad",
            "range": (0.005, 0.05),
        },
    )
    max_detour_m: float = field(
        default=0.25,
        metadata={
            "description": "How far out of the box around workspace and ends the tool may swing: nobody looks there",
            "unit": "m",
            "range": (0.0, 2.0),
        },
    )
    shortcuts: int = field(default=40, metadata={"description": "Tries to shorten a found path", "range": (0, 1000)})
    postures: int = field(
        default=24, metadata={"description": "Starts of the search for postures of a goal", "range": (1, 200)}
    )
    attempts: int = field(
        default=5,
        metadata={
            "description": "Searches before giving up, where a found path fails its last check",
            "range": (1, 100),
        },
    )
    seed: int = field(default=0, metadata={"description": "Of all draws", "range": (0, 2**31 - 1)})

    def __post_init__(self) -> None:
        require_in_range(self)


class MotionPlanner:
    """Plans, and moves nothing. Make one and keep it: the first takes a second. Not thread-safe.

    `collision` is what it plans around: tell it what is seen, what is held and where contact is allowed. `opening` of
    the gripper in [0, 1] is that during the motion. Ends of paths keep `limits.joint_margin` from the joint limits;
    the workspace of the limits bounds goals, not the ways to them.
    """

    def __init__(
        self,
        limits: SafetyLimits | None = None,
        settings: PlanningSettings | None = None,
        collision: CollisionSettings | None = None,
    ) -> None:
        self.limits = limits or SafetyLimits()
        self.settings = settings or PlanningSettings()
        self.collision = CollisionModel(self.limits.table_height, collision)
        self._arm = FrankaKinematics(margin=self.limits.joint_margin, model=self.limits.arm)
        self._postures = PostureSearch(self._arm, self.settings.postures, self.settings.seed)

    def plan_line(self, start: ArrayLike, T_base_tool: ArrayLike, opening: float = 1.0) -> JointPath:
        """The tool straight from where it is at joints `start` [7] to a pose [4, 4], turning evenly.

        Raises PlanningError: unreachable, no_line, in_collision.
        """
        begin, target = _joints(start, "start"), _pose(T_base_tool)
        path = self._line(begin, target)
        if phrase := self.collision.path_contact(path, opening):
            raise _refusal(
                Reason.IN_COLLISION, f"on the straight line to {_point(target[:3, 3])}, {phrase} would touch"
            )
        return JointPath(path, LINE)

    def plan_joints(self, start: ArrayLike, goal: ArrayLike, opening: float = 1.0) -> JointPath:
        """From joints [7] to joints [7]. Raises PlanningError: unreachable, in_collision, no_path."""
        begin, end = _joints(start, "start"), _joints(goal, "goal")
        if not self._arm.within_limits(end):
            raise _refusal(
                Reason.UNREACHABLE, f"the goal's joints {np.round(end, 3).tolist()} rad lie outside the joint limits"
            )
        self._require_free(begin, opening, "where the arm is")
        self._require_free(end, opening, "at the goal")
        return self._any_way(begin, end[None], opening, self._deadline())

    def plan_pose(self, start: ArrayLike, T_base_tool: ArrayLike, opening: float = 1.0) -> JointPath:
        """From joints [7] to a pose of the tool [4, 4], in whichever posture is best reached.

        Raises PlanningError: unreachable, in_collision, no_path.
        """
        give_up = self._deadline()
        begin, target = _joints(start, "start"), _pose(T_base_tool)
        self._require_free(begin, opening, "where the arm is")
        # Most goals are free to reach in the posture nearest to the present one: ask for the others only after it.
        nearest = self._arm.inverse(target, begin, seed_only=True)
        if nearest is not None and self._postures.has_room(nearest, begin):
            with self._kept_near(begin, nearest):
                straight = self._straight(begin, nearest, opening)
            if straight:
                return JointPath(np.stack([begin, nearest]), PLANNED)
        touching: list[Array] = []
        for postures in (self._postures.of, self._postures.anywhere):
            found = postures(target, begin)
            free = self.collision.free(found, opening)
            if free.any():
                return self._any_way(begin, found[free][:MOST_POSTURES], opening, give_up)
            touching += list(found)
        if not touching:
            raise _refusal(
                Reason.UNREACHABLE,
                f"the arm cannot reach {_point(target[:3, 3])} with that orientation inside its joint limits",
            )
        raise _in_collision(f"at the goal {_point(target[:3, 3])}", self.collision.contact(touching[0], opening))

    def _any_way(self, begin: Array, ends: Array, opening: float, give_up: Callable[[], bool]) -> JointPath:
        """To one of `ends` [G, 7], all free and the best first."""
        with self._kept_near(begin, *ends):
            return self._search(begin, ends, opening, give_up)

    @contextmanager
    def _kept_near(self, *ends: Array) -> Iterator[None]:
        """Far from workspace and ends nobody has looked whether something is in the way."""
        places = [self._arm.forward(joints)[:3, 3] for joints in ends]
        corners = np.array([self.limits.workspace_min, self.limits.workspace_max, *places])
        detour = self.settings.max_detour_m
        self.collision.keep_tool_in(corners.min(axis=0) - detour, corners.max(axis=0) + detour)
        try:
            yield
        finally:
            self.collision.keep_tool_in(None)

    def _search(self, begin: Array, ends: Array, opening: float, give_up: Callable[[], bool]) -> JointPath:
        for end in ends:
            if self._straight(begin, end, opening):
                return JointPath(np.stack([begin, end]), PLANNED)
        low, high = self._arm.limits
        s = self.settings
        # Again where a path turns out to touch between two checks of the search, or where its corners are rounded.
        for attempt in range(s.attempts):
            check_rad = FINEST_STEP_RAD if attempt else s.check_rad
            rng = np.random.default_rng([s.seed, attempt])

            def edge_free(a: Array, b: Array, check_rad: float = check_rad) -> bool:
                return self.collision.edge_free(a, b, opening, check_rad)

            found = rrt_connect(begin, ends, Search(low, high, edge_free, s.step_rad, s.max_rounds, give_up), rng)
            if found is None:
                break
            path = shorten(found, edge_free, s.shortcuts, rng)
            if self._followable(path, opening):
                return JointPath(path, PLANNED)
        raise self._no_path(begin, ends[0], opening)

    def _no_path(self, begin: Array, end: Array, opening: float) -> PlanningError:
        phrase = self.collision.path_contact(np.stack([begin, end]), opening)
        s = self.settings
        return _refusal(
            Reason.NO_PATH,
            f"no way around was found within {s.max_rounds} rounds and {s.max_time_s:g} s: "
            f"on the direct one {phrase} would touch; clear the way or go in smaller steps",
        )

    def _straight(self, begin: Array, end: Array, opening: float) -> bool:
        return self.collision.edge_free(begin, end, opening, FINEST_STEP_RAD)

    def _followable(self, path: Array, opening: float) -> bool:
        """Whether nothing touches along its segments, nor where its corners are rounded."""
        curve = rounded(path)
        places = path if curve is None else curve(np.linspace(0.0, curve.t[-1], 1 + 3 * int(curve.t[-1])))
        return not self.collision.path_contact(path, opening) and not self.collision.path_contact(places, opening)

    def _line(self, begin: Array, target: Array) -> Array:
        (position, quat), (end, end_quat) = pose_of(self._arm.forward(begin)), pose_of(target)
        cosine = min(1.0, abs(float(quat @ end_quat)))
        count = max(float(np.linalg.norm(end - position)) / LINE_STEP_M, 2.0 * np.arccos(cosine) / LINE_STEP_RAD)
        fractions = np.linspace(0.0, 1.0, 2 + int(count))[1:]
        path = [begin]
        for fraction, turned in zip(fractions, interpolate_quat(quat, end_quat, fractions), strict=True):
            place = position + fraction * (end - position)
            joints = self._arm.inverse(transform_from(place, turned), path[-1], seed_only=True)
            if joints is None or np.abs(joints - path[-1]).max() > LARGEST_LINE_JUMP_RAD:
                if self._arm.inverse(target, begin) is None:
                    raise _refusal(
                        Reason.UNREACHABLE,
                        f"the arm cannot reach {_point(end)} with that orientation inside its joint limits",
                    )
                raise _refusal(
                    Reason.NO_LINE,
                    f"the straight line to {_point(end)} leaves the arm's reach at {_point(place)}: "
                    "approach it from another side, or let a way be planned",
                )
            path.append(joints)
        return np.array(path)

    def _require_free(self, joints: Array, opening: float, where: str) -> None:
        if phrase := self.collision.contact(joints, opening):
            raise _in_collision(where, phrase)

    def _deadline(self) -> Callable[[], bool]:
        end_s = time.monotonic() + self.settings.max_time_s
        return lambda: time.monotonic() > end_s


def _joints(values: ArrayLike, name: str) -> Array:
    joints = np.array(values, np.float64)
    if joints.shape != (7,) or not np.isfinite(joints).all():
        raise _refusal(
            Reason.NOT_FINITE, f"the {name} needs 7 finite joint positions, got {np.asarray(values).tolist()}"
        )
    return joints


def _pose(values: ArrayLike) -> Array:
    pose = np.array(values, np.float64)
    if pose.shape != (4, 4) or not np.isfinite(pose).all():
        raise _refusal(Reason.NOT_FINITE, f"the goal needs a finite pose [4, 4], got {np.asarray(values).tolist()}")
    return pose


def _in_collision(where: str, phrase: str) -> PlanningError:
    return _refusal(Reason.IN_COLLISION, f"{where}, {phrase} touch: free it, or allow contact there")


def _refusal(code: Reason, sentence: str) -> PlanningError:
    return PlanningError(Refusal(code, sentence))


def _point(position: Array) -> str:
    return "({:.3f}, {:.3f}, {:.3f}) m".format(*position)
