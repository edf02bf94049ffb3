"""What the arm may be asked to do. A goal outside is refused with every reason, never clamped into the inside."""

from __future__ import annotations

import threading

import numpy as np

from minidiffuser_ros.arm.envelope_path import WayChecks
from minidiffuser_ros.arm.envelope_place import place_problems
from minidiffuser_ros.arm.goal import KeyposeGoal, Way
from minidiffuser_ros.arm.kinematics import BASE_FRAME
from minidiffuser_ros.arm.limits import SafetyLimits
from minidiffuser_ros.arm.protocol import ArmMode, ArmState, Array
from minidiffuser_ros.contract.refusal import Reason, Refusal
from minidiffuser_ros.geometry.transform import pose_of

MODE_REASONS = {
    ArmMode.MOVING: (Reason.MOVING, "wait for its motion to end"),
    ArmMode.STOPPED: (Reason.USER_STOPPED, "release the emergency stop and unlock the brakes, then recover"),
    ArmMode.GUIDED: (Reason.GUIDED, "let go of the guiding button"),
    ArmMode.ERROR: (Reason.REFLEX, "recover it"),
}


class SafetyEnvelope:
    """Checks goals against the limits, from where the arm is now. Moves nothing; thread-safe.

    `check_goal` says whether the arm may be there, `check_way` whether it may go there in straight lines: a goal of
    Way.AUTO that passes the first and fails the second can still be reached on a planned way. `check` is both.
    """

    def __init__(self, limits: SafetyLimits | None = None) -> None:
        self.limits = limits or SafetyLimits()
        self._ways = WayChecks(self.limits)
        self._lock = threading.Lock()  # the kinematics compute in place

    def check(self, goal: KeyposeGoal, state: ArmState, now_ns: int, settled_ns: int = 0) -> list[Refusal]:
        """Every reason against the goal, one sentence each; empty where it may be executed.

        Of a goal of Way.PLANNED the way is left to the planner. settled_ns: as in `check_goal`.
        """
        reasons = self.check_goal(goal, state, now_ns, settled_ns)
        # A path to a place that is not allowed says nothing more.
        return reasons if reasons or goal.way is Way.PLANNED else self.check_way(goal, state)

    def check_goal(self, goal: KeyposeGoal, state: ArmState, now_ns: int, settled_ns: int = 0) -> list[Refusal]:
        """Every reason against being at the goal, wherever the way there leads: mode, origin, places, step, reach.

        The start of its approach and the end of its retreat are places like the goal itself. settled_ns: when the
        arm came to rest after its last motion, 0 where that is of no interest: the goal's observation must be newer.
        """
        reasons = self.check_mode(state) + self._check_origin(goal, now_ns, settled_ns) + goal.problems()
        if not self._is_ours(goal.frame) or goal.problems() or not np.isfinite(state.joints).all():
            return reasons  # the numbers mean nothing here
        stations = goal.stations()
        for what, tool in stations.items():
            reasons += place_problems(tool, self.limits, what)
        reasons += self._check_step(goal, state)
        if reasons:
            return reasons
        with self._lock:
            return [r for what, tool in stations.items() for r in self._ways.reachable(tool, state.joints, what)]

    def check_way(self, goal: KeyposeGoal, state: ArmState) -> list[Refusal]:
        """The first reason against the straight lines to the goal: to its approach, to itself, and back.

        Its code is NO_LINE, SINGULAR, ELBOW_FLIP or HAND_INTO_TABLE.
        """
        return self.check_line(state, *goal.stations().values())

    def check_line(self, state: ArmState, *targets: Array) -> list[Refusal]:
        """The first reason against straight lines from the present posture through `T_base_tool` [4, 4] in turn.

        The posture is continued along them: a line on which the elbow would change sides, which passes a singular
        posture or leaves the reach is refused, though another posture might reach its end.
        """
        with self._lock:
            return self._ways.follow(state.joints, list(targets))

    def check_joint_path(self, *waypoints: Array) -> list[Refusal]:
        """The first reason against moving all joints evenly from [7] to [7] and on: joint limits, and the table."""
        with self._lock:
            return self._ways.joint_path(list(waypoints))

    def check_mode(self, state: ArmState) -> list[Refusal]:
        """Reasons against any motion now, from the arm's own reading."""
        if not np.isfinite(state.joints).all():
            return [Refusal(Reason.NOT_FINITE, f"the arm reports joint positions that are none: {state.joints}")]
        if state.mode is ArmMode.IDLE:
            return []
        code, what_to_do = MODE_REASONS[state.mode]
        return [Refusal(code, f"the arm is {state.mode.value}, it must be idle: {what_to_do}")]

    def check_speed(self, speed: float) -> list[Refusal]:
        """Reasons against a fraction of full speed."""
        if np.isfinite(speed) and 0.0 < speed <= self.limits.max_speed:
            return []
        return [Refusal(Reason.BAD_SPEED, f"speed must lie in (0, {self.limits.max_speed:g}], got {speed:g}")]

    def _is_ours(self, frame: str) -> bool:
        """Whether it is the base of this arm, by the name that this package gives it or by the arm's own."""
        return frame in ("", BASE_FRAME, self.limits.arm.base_frame)

    def _check_origin(self, goal: KeyposeGoal, now_ns: int, settled_ns: int) -> list[Refusal]:
        reasons, limits = [], self.limits
        if not self._is_ours(goal.frame):
            sentence = f"the goal is given in frame '{goal.frame}', expected '{limits.arm.base_frame}'"
            reasons.append(Refusal(Reason.UNKNOWN_FRAME, sentence))
        if not goal.stamp_ns:
            if not limits.allow_undated:
                sentence = "the goal has no stamp: stamp it with the observation it answers, or set allow_undated"
                reasons.append(Refusal(Reason.UNDATED, sentence))
            return reasons
        age_s = (now_ns - goal.stamp_ns) * 1e-9
        if age_s > limits.max_age_s:
            sentence = f"the goal answers an observation {age_s:.1f} s old, allowed are {limits.max_age_s:g} s"
            reasons.append(Refusal(Reason.STALE, sentence))
        if age_s < -limits.max_ahead_s:
            sentence = f"the goal is stamped {-age_s:.1f} s in the future: the machines' clocks differ"
            reasons.append(Refusal(Reason.FROM_THE_FUTURE, sentence))
        if goal.stamp_ns < settled_ns:
            early_s = (settled_ns - goal.stamp_ns) * 1e-9
            sentence = f"the goal answers an observation taken {early_s:.2f} s before the arm had come to rest"
            reasons.append(Refusal(Reason.BEFORE_LAST_MOTION, sentence))
        return reasons

    def _check_step(self, goal: KeyposeGoal, state: ArmState) -> list[Refusal]:
        distance, angle_deg = goal.keypose.distance_to(*pose_of(state.tool))
        reasons, limits = [], self.limits
        if distance > limits.max_step_m:
            sentence = f"the goal is {distance:.2f} m away, a single motion may go {limits.max_step_m:g} m"
            reasons.append(Refusal(Reason.TOO_FAR, sentence))
        if np.deg2rad(angle_deg) > limits.max_turn_rad:
            allowed = f"a single motion may turn {np.rad2deg(limits.max_turn_rad):.0f}"
            sentence = f"the goal turns the tool by {angle_deg:.0f} degrees, {allowed}"
            reasons.append(Refusal(Reason.TOO_LARGE_TURN, sentence))
        return reasons
