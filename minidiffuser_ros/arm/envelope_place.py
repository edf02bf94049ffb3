"""Where the tool may be: inside the workspace, and neither the fingertips nor the hand's body in the table."""

from __future__ import annotations

import numpy as np

from minidiffuser_ros.arm.kinematics import TCP_OFFSET
from minidiffuser_ros.arm.limits import SafetyLimits
from minidiffuser_ros.arm.protocol import Array
from minidiffuser_ros.contract.refusal import Reason, Refusal
from minidiffuser_ros.geometry.transform import apply

# Corners of the hand's body in its own frame, in metres: the part that may hit the table before the fingertips do.
HAND_CORNERS = np.array([[x, y, z] for x in (-0.03, 0.03) for y in (-0.10, 0.10) for z in (-0.02, 0.06)])


def place_problems(tool: Array, limits: SafetyLimits, what: str = "the goal") -> list[Refusal]:
    """Every reason against the tool at `T_base_tool` [4, 4], which is `what` of a goal."""
    outside = [
        f"{axis} = {value:.3f} m is outside [{low:g}, {high:g}]"
        for axis, value, low, high in zip("xyz", tool[:3, 3], limits.workspace_min, limits.workspace_max, strict=True)
        if not low <= value <= high
    ]
    reasons = table_problems(tool, limits, what)
    if outside:
        sentence = f"{what} lies outside the workspace: {', '.join(outside)}"
        reasons.insert(0, Refusal(Reason.OUTSIDE_WORKSPACE, sentence))
    return reasons


def table_problems(tool: Array, limits: SafetyLimits, what: str = "the goal") -> list[Refusal]:
    """The reason against the tool at `T_base_tool` [4, 4] where it, or the hand, would touch the table."""
    height = float(tool[2, 3]) - limits.table_height
    if height < limits.table_clearance:
        allowed = f"{1e3 * limits.table_clearance:g} mm"
        sentence = f"at {what} the tool would be {1e3 * height:.0f} mm above the table, at least {allowed} are needed"
        return [Refusal(Reason.BELOW_TABLE, sentence)]
    if lowest_of_hand(tool) < limits.table_height:
        sentence = f"at {what} the hand is tilted so far that its body would touch the table"
        return [Refusal(Reason.HAND_INTO_TABLE, sentence)]
    return []


def lowest_of_hand(tool: Array) -> float:
    """Height in metres of the lowest corner of the hand's body, for a tool at `T_base_tool` [4, 4]."""
    hand = tool.copy()
    hand[:3, 3] -= tool[:3, :3] @ (0.0, 0.0, TCP_OFFSET)
    return float(apply(hand, HAND_CORNERS)[:, 2].min())
