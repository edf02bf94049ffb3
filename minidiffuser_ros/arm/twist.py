"""Which part of a commanded twist the arm may follow: speeds, walls, table, joints, singular postures.

Every limit is approached like a wall that pushes back: towards it the tool may go no faster than would take it there
within `horizon_s`. So it arrives at rest whatever is commanded, and what leads along the wall or away from it stays
as it was. Positions are those that the arm will have when a command given now takes effect.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from minidiffuser_ros.arm.envelope_place import HAND_CORNERS
from minidiffuser_ros.arm.kinematics import BASE_FRAME, TCP_OFFSET, TOOL_FRAME, FrankaKinematics
from minidiffuser_ros.arm.limits import SafetyLimits
from minidiffuser_ros.arm.protocol import ArmState, Array
from minidiffuser_ros.contract.errors import ConfigurationError, require_positive
from minidiffuser_ros.geometry.transform import apply

FRAMES = (BASE_FRAME, TOOL_FRAME)
FUTURE_S = 1.0  # a stamp farther ahead than this: the clocks differ
DAMPING = 1e-4  # of the inverse of the Jacobian; its singular values are 0.02 and more where the arm may go
RETURN_M = 5e-3
TOUCH = 1e-3  # m/s or rad/s: a smaller correction is none worth telling


@dataclass(frozen=True)
class ServoSettings:
    """How twists are followed: how fast at most, how long a command counts, how early the limits are felt."""

    max_linear: float = field(
        default=0.15, metadata={"description": "Highest speed of the tool", "unit": "m/s", "range": (0.01, 0.25)}
    )
    max_angular: float = field(
        default=0.6, metadata={"description": "Highest turning speed", "unit": "rad/s", "range": (0.05, 1.0)}
    )
    max_joint_speed: float = field(
        default=1.0, metadata={"description": "Highest speed of a joint", "unit": "rad/s", "range": (0.1, 2.0)}
    )
    enable_timeout_s: float = field(
        default=0.25, metadata={"description": "How long one `enable` counts", "unit": "s", "range": (0.05, 1.0)}
    )
    twist_timeout_s: float = field(
        default=0.15, metadata={"description": "How long one twist counts", "unit": "s", "range": (0.02, 0.5)}
    )
    horizon_s: float = field(
        default=0.25, metadata={"description": "How early limits slow the tool", "unit": "s", "range": (0.15, 1.0)}
    )
    latency_s: float = field(
        default=0.05,
        metadata={"description": "From a reading to the effect of its command", "unit": "s", "range": (0.0, 0.2)},
    )
    min_singular_value: float = field(
        default=0.03,
        metadata={"description": "Smallest singular value of the Jacobian to go to", "range": (0.01, 0.1)},
    )
    dynamics: float = field(
        default=0.3, metadata={"description": "Fraction of the arm's acceleration and jerk", "range": (0.1, 1.0)}
    )
    rate: float = field(
        default=50.0, metadata={"description": "Commands a second", "unit": "Hz", "range": (20.0, 100.0)}
    )

    def __post_init__(self) -> None:
        require_positive(
            self, ("max_linear", "max_angular", "max_joint_speed", "enable_timeout_s", "twist_timeout_s", "rate")
        )
        if self.max_linear > 0.25 or self.max_angular > 1.0:
            raise ConfigurationError(
                f"twists may be followed at 0.25 m/s and 1 rad/s at most, got {self.max_linear:g} and "
                f"{self.max_angular:g}: lower max_linear or max_angular"
            )


@dataclass(frozen=True)
class TwistCommand:
    """A twist [6], linear above angular, m/s and rad/s, of the tool's point along the axes of `frame`.

    age_s: how old it says it was when it came; 0 where it does not say.
    """

    twist: Array
    frame: str = BASE_FRAME
    age_s: float = 0.0

    def problems(self, timeout_s: float) -> list[str]:
        """Every reason against following it, whatever the arm does."""
        reasons = []
        if not np.isfinite(self.twist).all():
            reasons.append("the twist has values that are not finite")
        if self.frame not in ("", *FRAMES):
            reasons.append(f"the twist is given in frame '{self.frame}', expected '{BASE_FRAME}' or '{TOOL_FRAME}'")
        if self.age_s > timeout_s:
            reasons.append(f"the twist was more than {timeout_s:g} s old when it came")
        if self.age_s < -FUTURE_S:
            reasons.append(f"the twist is stamped more than {FUTURE_S:g} s ahead: the machines' clocks differ")
        return reasons

    def in_base(self, tool: Array) -> Array:
        """The same twist [6] along the axes of the base, for a tool at `T_base_tool` [4, 4]."""
        if self.frame != TOOL_FRAME:
            return self.twist.copy()
        turn = tool[:3, :3]
        return np.concatenate([turn @ self.twist[:3], turn @ self.twist[3:]])


@dataclass(frozen=True)
class LimitedTwist:
    """What may be followed of a twist [6] in the base frame, and what held the rest back."""

    twist: Array
    held_by: tuple[str, ...] = ()


class TwistLimiter:
    """Takes from a twist what would lead out of the limits. Not thread-safe: the kinematics compute in place."""

    def __init__(self, limits: SafetyLimits | None = None, settings: ServoSettings | None = None) -> None:
        self.limits, self.settings = limits or SafetyLimits(), settings or ServoSettings()
        self._arm = FrankaKinematics(margin=self.limits.joint_margin, model=self.limits.arm)
        low, high = np.array(self.limits.workspace_min), np.array(self.limits.workspace_max)
        low[2] = max(low[2], self.limits.table_height + self.limits.table_clearance)
        self._low, self._high = low, high

    def limit(self, twist: ArrayLike, state: ArmState) -> LimitedTwist:
        """The part of a finite twist [6] in the base frame that may be followed from `state`.

        Too long a twist is shortened as a whole, so that the tool keeps its path.
        """
        joints = state.joints + self.settings.latency_s * state.velocities
        tool = self._arm.forward(joints)
        wanted = self._shortened(np.asarray(twist, dtype=np.float64))
        linear, held = self._inside_box(tool, wanted[:3])
        linear, angular, touched = self._hand_above_table(tool, linear, wanted[3:])
        held += touched
        factor, stopped = self._joint_factor(joints, np.concatenate([linear, angular]))
        return LimitedTwist(factor * np.concatenate([linear, angular]), tuple(held + stopped))

    def _shortened(self, twist: Array) -> Array:
        s = self.settings
        lengths = np.linalg.norm(twist[:3]) / s.max_linear, np.linalg.norm(twist[3:]) / s.max_angular
        return twist / max(1.0, *(float(length) for length in lengths))

    def _inside_box(self, tool: Array, linear: Array) -> tuple[Array, list[str]]:
        """Walls of the workspace and the clearance above the table: only what leads outwards is taken away."""
        position, horizon = tool[:3, 3], self.settings.horizon_s
        # A little way outside it is led back; from farther outside, where it has not come by twists, only kept.
        lowest = np.where(position > self._low - RETURN_M, (self._low - position) / horizon, 0.0)
        highest = np.where(position < self._high + RETURN_M, (self._high - position) / horizon, 0.0)
        inside = np.clip(linear, lowest, highest)
        held = []
        for axis in np.flatnonzero(np.abs(inside - linear) > TOUCH):
            below = linear[axis] < 0.0
            table = axis == 2 and below and self._low[2] > self.limits.workspace_min[2]
            bound = (self._low if below else self._high)[axis]
            held.append("the table" if table else f"the workspace's wall at {'xyz'[axis]} = {bound:g} m")
        return inside, held

    def _hand_above_table(self, tool: Array, linear: Array, angular: Array) -> tuple[Array, Array, list[str]]:
        """Corners of the hand: first the tilting that brings one down is taken away, then the sinking."""
        hand = tool.copy()
        hand[:3, 3] -= tool[:3, :3] @ (0.0, 0.0, TCP_OFFSET)
        corners = apply(hand, HAND_CORNERS)
        slowest = np.minimum((self.limits.table_height - corners[:, 2]) / self.settings.horizon_s, 0.0)
        # Height rate of a corner at r from the tool: v_z + (w x r)_z = v_z + w . (r x z).
        tilts = np.cross(corners - tool[:3, 3], (0.0, 0.0, 1.0))
        linear, angular, wanted = linear.copy(), angular.copy(), np.concatenate([linear, angular])
        for _ in range(3):
            for tilt, rate in zip(tilts, slowest, strict=True):
                turning = float(angular @ tilt)
                if linear[2] + turning >= rate:
                    continue
                if turning < 0.0:
                    less = min(0.0, max(turning, rate - linear[2]))
                    angular += tilt * (less - turning) / max(float(tilt @ tilt), 1e-9)
                    turning = less
                linear[2] = max(linear[2], min(0.0, rate - turning))
        if (linear[2] + tilts @ angular < slowest - 1e-9).any():
            # What helps one corner may lower another: then no tilting at all.
            angular[:2] = 0.0
            linear[2] = max(linear[2], float(slowest.max()))
        touched = np.abs(np.concatenate([linear, angular]) - wanted).max() > TOUCH
        return linear, angular, ["the hand above the table"] if touched else []

    def _joint_factor(self, joints: Array, twist: Array) -> tuple[float, list[str]]:
        """How much of a twist the joints allow, in [0, 1]: their limits, their speed, and singular postures."""
        s = self.settings
        jacobian = self._arm.jacobian(joints)
        speeds = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + DAMPING * np.eye(6), twist)
        fastest = float(np.abs(speeds).max())
        if fastest < 1e-9:
            return 1.0, []
        factor, held = min(1.0, s.max_joint_speed / fastest), []
        if factor < 1.0:
            held.append(f"the speed of joint {1 + int(np.abs(speeds).argmax())}")
        low, high = self._arm.limits
        room = np.maximum(np.where(speeds > 0.0, high - joints, joints - low), 0.0) / s.horizon_s
        allowed = room / np.maximum(np.abs(speeds), 1e-9)
        worst = int(allowed.argmin())
        if allowed[worst] < factor:
            factor = float(allowed[worst])
            held.append(f"the limit of joint {worst + 1}")
        now = _smallest_singular_value(jacobian)
        ahead = _smallest_singular_value(self._arm.jacobian(joints + factor * s.horizon_s * speeds))
        if ahead < min(now, s.min_singular_value):
            factor *= float(np.clip((now - s.min_singular_value) / (now - ahead), 0.0, 1.0))
            held.append("a singular posture")
        return factor, held


def _smallest_singular_value(jacobian: Array) -> float:
    return float(np.linalg.svd(jacobian, compute_uv=False)[-1])
