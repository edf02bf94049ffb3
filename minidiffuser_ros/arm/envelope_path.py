"""Which ways the arm may take: straight lines that keep their posture, and even motions of all joints."""

from __future__ import annotations

import itertools

import numpy as np

from minidiffuser_ros.arm.envelope_place import lowest_of_hand, table_problems
from minidiffuser_ros.arm.kinematics import FrankaKinematics
from minidiffuser_ros.arm.limits import SafetyLimits
from minidiffuser_ros.arm.protocol import Array
from minidiffuser_ros.contract.refusal import Reason, Refusal
from minidiffuser_ros.geometry.rotation import angle_between_deg, interpolate_quat
from minidiffuser_ros.geometry.transform import pose_of, transform_from

# Lines are checked at points this close to each other.
LINE_STEP_M, LINE_STEP_RAD = 0.02, np.deg2rad(6.0)
LARGEST_JOINT_STEP_RAD = 0.4
JOINT_PATH_POINTS = 25
TOUCHING_M = 1e-3  # a tool that stands lower than it may is allowed to leave, but not to go down by more than this


class WayChecks:
    """Follows ways with the kinematics of one arm. Not thread-safe: they compute in place."""

    def __init__(self, limits: SafetyLimits) -> None:
        self.limits = limits
        self._arm = FrankaKinematics(margin=limits.joint_margin, model=limits.arm)

    def reachable(self, tool: Array, joints: Array, what: str = "the goal") -> list[Refusal]:
        """The reason against `T_base_tool` [4, 4] where no posture inside the joint limits has it.

        The search begins at joints [7] and prefers the postures near them.
        """
        if self._arm.inverse(tool, joints) is not None:
            return []
        sentence = f"the arm cannot reach {point(tool[:3, 3])}, {what}, with that orientation inside its joint limits"
        return [Refusal(Reason.UNREACHABLE, sentence)]

    def follow(self, joints: Array, tools: list[Array]) -> list[Refusal]:
        """The first reason against straight lines from joints [7] through tool poses `T_base_tool` [4, 4].

        The posture is continued from point to point, never chosen anew: a line that needs another one ends there.
        """
        elbow, position = self._arm.elbow_angle(joints), joints
        for target in tools:
            reached = self._line(position, target, elbow)
            if isinstance(reached, Refusal):
                return [reached]
            position = reached
        return []

    def joint_path(self, waypoints: list[Array]) -> list[Refusal]:
        """The first reason against moving all joints evenly from each of the joints [7] to the next."""
        for start, end in itertools.pairwise(waypoints):
            if not np.isfinite(end).all():
                return [Refusal(Reason.NOT_FINITE, "the way there has joint positions that are not finite")]
            low, high = self._arm.limits
            outside = np.flatnonzero((end < low) | (end > high))
            if outside.size:
                numbers = ", ".join(str(1 + joint) for joint in outside)
                margin = f"{self.limits.joint_margin:g} rad"
                sentence = f"the way there brings joint {numbers} closer than {margin} to the end of its range"
                return [Refusal(Reason.JOINT_LIMIT, sentence)]
            for fraction in np.linspace(0.0, 1.0, JOINT_PATH_POINTS)[1:]:
                tool = self._arm.forward(start + fraction * (end - start))
                for reason in table_problems(tool, self.limits):
                    where = point(tool[:3, 3])
                    return [Refusal(reason.code, f"the way there would bring the hand down to the table at {where}")]
        return []

    def _line(self, joints: Array, target: Array, elbow: float) -> Array | Refusal:
        """Joints [7] at the end of one straight line, or the reason against it. elbow: its angle at the very start."""
        start = self._arm.forward(joints)
        (from_position, from_quat), (to_position, to_quat) = pose_of(start), pose_of(target)
        length = float(np.linalg.norm(to_position - from_position))
        turn = float(np.deg2rad(angle_between_deg(from_quat, to_quat)))
        count = 1 + int(np.ceil(max(length / LINE_STEP_M, turn / LINE_STEP_RAD)))
        fractions = np.linspace(0.0, 1.0, count + 1)[1:]
        for fraction, quat in zip(fractions, interpolate_quat(from_quat, to_quat, fractions), strict=True):
            tool = transform_from(from_position + fraction * (to_position - from_position), quat)
            solution = self._arm.inverse(tool, joints, seed_only=True)
            name = f"the straight line to {point(to_position)}"
            if solution is None or np.abs(solution - joints).max() > LARGEST_JOINT_STEP_RAD:
                sentence = f"{name} leaves the arm's reach at {point(tool[:3, 3])}: approach it from another side"
                return Refusal(Reason.NO_LINE, sentence)
            joints = solution
            reason = self._posture(joints, elbow, name, tool) or self._above_table(tool, start, name)
            if reason is not None:
                return reason
        return joints

    def _posture(self, joints: Array, elbow: float, name: str, tool: Array) -> Refusal | None:
        where = point(tool[:3, 3])
        if self._arm.smallest_singular_value(joints) < self.limits.min_singular_value:
            sentence = f"{name} passes a singular posture at {where}, where the joints must move far for little"
            return Refusal(Reason.SINGULAR, sentence)
        swing = abs((self._arm.elbow_angle(joints) - elbow + np.pi) % (2.0 * np.pi) - np.pi)
        if swing > self.limits.max_elbow_turn_rad:
            allowed = f"allowed are {np.rad2deg(self.limits.max_elbow_turn_rad):.0f}"
            sentence = f"{name} would swing the elbow by {np.rad2deg(swing):.0f} degrees at {where}, {allowed}"
            return Refusal(Reason.ELBOW_FLIP, sentence)
        return None

    def _above_table(self, tool: Array, start: Array, name: str) -> Refusal | None:
        lowest = min(self.limits.table_height, lowest_of_hand(start) - TOUCHING_M)
        if lowest_of_hand(tool) >= lowest:
            return None
        return Refusal(Reason.HAND_INTO_TABLE, f"{name} brings the hand's body into the table at {point(tool[:3, 3])}")


def point(position: Array) -> str:
    """A position [3] in metres, to be read."""
    return "({:.3f}, {:.3f}, {:.3f})".format(*position)
