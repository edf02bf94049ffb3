"""What the arm may be asked to do. A goal outside is rejected with every reason, never clamped into the inside."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import numpy as np

from minidiffuser_ros.arm.goal import KeyposeGoal
from minidiffuser_ros.arm.kinematics import BASE_FRAME, TCP_OFFSET, FrankaKinematics
from minidiffuser_ros.arm.protocol import ArmMode, ArmState, Array
from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.contract.observation import ObservationSpec
from minidiffuser_ros.geometry.rotation import interpolate_quat
from minidiffuser_ros.geometry.transform import apply, pose_of, transform_from

# Corners of the hand's body in its own frame, in metres: the part that may hit the table before the fingertips do.
HAND_CORNERS = np.array([[x, y, z] for x in (-0.03, 0.03) for y in (-0.10, 0.10) for z in (-0.02, 0.06)])

# The line to a goal is checked at points this close to each other.
LINE_STEP_M, LINE_STEP_RAD = 0.02, np.deg2rad(6.0)
LARGEST_JOINT_STEP_RAD = 0.4


@dataclass(frozen=True)
class SafetyLimits:
    """Limits of keypose goals. Metres, radians, seconds, in the base frame.

    table_clearance: least height of the tool above the table; the fingertips reach 8 mm below the tool.
    joint_margin: distance kept from the joint limits. max_step_m, max_turn_rad: farthest goal from the present
    pose. max_age_s: oldest observation that a goal may answer. max_speed: fraction of full speed.
    """

    workspace_min: tuple[float, float, float] = field(
        default=ObservationSpec.workspace_min, metadata={"description": "Lowest corner of the goals", "unit": "m"}
    )
    workspace_max: tuple[float, float, float] = field(
        default=ObservationSpec.workspace_max, metadata={"description": "Highest corner of the goals", "unit": "m"}
    )
    table_height: float = field(default=ObservationSpec.table_height, metadata={"unit": "m", "range": (-1.0, 1.0)})
    table_clearance: float = field(
        default=0.009,
        metadata={"description": "Least height of the tool above the table", "unit": "m", "range": (0.0, 0.5)},
    )
    joint_margin: float = field(
        default=0.05, metadata={"description": "Distance from the joint limits", "unit": "rad", "range": (0.01, 0.5)}
    )
    max_step_m: float = field(
        default=0.9, metadata={"description": "Longest single motion", "unit": "m", "range": (0.01, 2.0)}
    )
    max_turn_rad: float = field(
        default=3.0, metadata={"description": "Largest turn in one motion", "unit": "rad", "range": (0.05, 3.14)}
    )
    max_age_s: float = field(
        default=60.0,
        metadata={"description": "Oldest observation a goal may answer", "unit": "s", "range": (0.1, 3600.0)},
    )
    max_speed: float = field(
        default=1.0, metadata={"description": "Highest fraction of full speed", "range": (0.01, 1.0)}
    )

    def __post_init__(self) -> None:
        if not (np.array(self.workspace_min) < np.array(self.workspace_max)).all():
            raise ConfigurationError(
                f"workspace_min {self.workspace_min} must lie below workspace_max {self.workspace_max}"
            )
        if not 0.0 < self.max_speed <= 1.0:
            raise ConfigurationError(f"max_speed must lie in (0, 1], got {self.max_speed}")
        if min(self.joint_margin, self.max_step_m, self.max_turn_rad, self.max_age_s) <= 0.0:
            raise ConfigurationError("joint_margin, max_step_m, max_turn_rad and max_age_s must be positive")


class SafetyEnvelope:
    """Checks goals against the limits, from where the arm is now. Moves nothing; thread-safe."""

    def __init__(self, limits: SafetyLimits | None = None) -> None:
        self.limits = limits or SafetyLimits()
        self._arm = FrankaKinematics(margin=self.limits.joint_margin)
        self._lock = threading.Lock()  # the kinematics compute in place

    def check(self, goal: KeyposeGoal, state: ArmState, now_ns: int) -> list[str]:
        """Every reason against the goal, one sentence each; empty where it may be executed."""
        reasons = self.check_mode(state) + self._check_origin(goal, now_ns)
        if goal.frame not in ("", BASE_FRAME):
            return reasons  # its numbers mean nothing here
        target = transform_from(goal.keypose.position, goal.keypose.quat_wxyz)
        reasons += self._check_place(target) + self._check_step(goal.keypose, state)
        # A path to a place that is not allowed says nothing more.
        return reasons or self.check_line(state, target)

    def check_mode(self, state: ArmState) -> list[str]:
        """Reasons against any motion now."""
        if state.mode is ArmMode.IDLE:
            return []
        return [f"the arm is {state.mode.value}, it must be idle: recover it, or wait for the motion to end"]

    def check_speed(self, speed: float) -> list[str]:
        """Reasons against a fraction of full speed."""
        if np.isfinite(speed) and 0.0 < speed <= self.limits.max_speed:
            return []
        return [f"speed must lie in (0, {self.limits.max_speed:g}], got {speed:g}"]

    def check_line(self, state: ArmState, target: Array) -> list[str]:
        """Reasons against the straight line from the present pose to `T_base_tool` [4, 4]."""
        with self._lock:
            return self._follow_line(state, target)

    def check_joint_path(self, start: Array, end: Array) -> list[str]:
        """Reasons against moving all joints evenly from [7] to [7]: only what would touch the table."""
        with self._lock:
            for fraction in np.linspace(0.0, 1.0, 25)[1:]:
                tool = self._arm.forward(start + fraction * (end - start))
                if self._check_table(tool):
                    return [f"the way there would bring the hand down to the table at {_point(tool[:3, 3])}"]
        return []

    def _follow_line(self, state: ArmState, target: Array) -> list[str]:
        start, end = pose_of(state.tool), pose_of(target)
        if self._arm.inverse(target, state.joints) is None:
            return [f"the arm cannot reach {_point(end[0])} with that orientation inside its joint limits"]
        length = float(np.linalg.norm(end[0] - start[0]))
        turn = _turn_rad(state.tool, target)
        count = 1 + int(np.ceil(max(length / LINE_STEP_M, turn / LINE_STEP_RAD)))
        fractions = np.linspace(0.0, 1.0, count + 1)[1:]
        joints = state.joints
        for fraction, quat in zip(fractions, interpolate_quat(start[1], end[1], fractions), strict=True):
            position = start[0] + fraction * (end[0] - start[0])
            solution = self._arm.inverse(transform_from(position, quat), joints, seed_only=True)
            if solution is None or np.abs(solution - joints).max() > LARGEST_JOINT_STEP_RAD:
                return [
                    f"the straight line to {_point(end[0])} leaves the arm's reach at {_point(position)}: "
                    "approach it from another side"
                ]
            joints = solution
        return []

    def _check_origin(self, goal: KeyposeGoal, now_ns: int) -> list[str]:
        reasons = []
        if goal.frame not in ("", BASE_FRAME):
            reasons.append(f"the goal is given in frame '{goal.frame}', expected '{BASE_FRAME}'")
        age_s = (now_ns - goal.stamp_ns) * 1e-9
        if goal.stamp_ns and age_s > self.limits.max_age_s:
            reasons.append(
                f"the goal answers an observation {age_s:.1f} s old, allowed are {self.limits.max_age_s:g} s"
            )
        if goal.stamp_ns and age_s < -1.0:
            reasons.append(f"the goal is stamped {-age_s:.1f} s in the future: the machines' clocks differ")
        return reasons

    def _check_place(self, target: Array) -> list[str]:
        reasons, limits, position = [], self.limits, target[:3, 3]
        outside = [
            f"{axis} = {value:.3f} m is outside [{low:g}, {high:g}]"
            for axis, value, low, high in zip("xyz", position, limits.workspace_min, limits.workspace_max, strict=True)
            if not low <= value <= high
        ]
        if outside:
            reasons.append(f"the goal lies outside the workspace: {', '.join(outside)}")
        return reasons + self._check_table(target)

    def _check_table(self, tool: Array) -> list[str]:
        limits = self.limits
        height = float(tool[2, 3]) - limits.table_height
        if height < limits.table_clearance:
            allowed = f"{1e3 * limits.table_clearance:g} mm"
            return [f"the tool would be {1e3 * height:.0f} mm above the table, at least {allowed} are needed"]
        hand = tool.copy()
        hand[:3, 3] -= tool[:3, :3] @ (0.0, 0.0, TCP_OFFSET)
        if float(apply(hand, HAND_CORNERS)[:, 2].min()) < limits.table_height:
            return ["the hand is tilted so far that its body would touch the table"]
        return []

    def _check_step(self, keypose: Keypose, state: ArmState) -> list[str]:
        position, quat = pose_of(state.tool)
        distance, angle_deg = keypose.distance_to(position, quat)
        reasons, limits = [], self.limits
        if distance > limits.max_step_m:
            reasons.append(f"the goal is {distance:.2f} m away, a single motion may go {limits.max_step_m:g} m")
        if np.deg2rad(angle_deg) > limits.max_turn_rad:
            allowed = np.rad2deg(limits.max_turn_rad)
            reasons.append(
                f"the goal turns the tool by {angle_deg:.0f} degrees, a single motion may turn {allowed:.0f}"
            )
        return reasons


def _turn_rad(first: Array, second: Array) -> float:
    cosine = 0.5 * (float(np.trace(first[:3, :3].T @ second[:3, :3])) - 1.0)
    return float(np.arccos(np.clip(cosine, -1.0, 1.0)))


def _point(position: Array) -> str:
    return "({:.3f}, {:.3f}, {:.3f})".format(*position)
