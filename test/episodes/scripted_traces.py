"""Traces of an arm that follows a script, sampled at any rate: the truth about its keyposes is known."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from minidiffuser_ros.episodes.traces import SECOND_NS, Traces
from minidiffuser_ros.geometry.rotation import quat_from_euler_deg

START_NS = 1_700_000_000_000_000_000
FINE_S = 0.002
GRIPPER_LATENCY_S, GRIPPER_SPEED = 0.15, 2.0  # openings per second
# Tool position from joints: metres per radian.
LEVER = np.random.default_rng(5).normal(0.0, 0.25, (7, 3))


@dataclass
class Script:
    """Say what the arm does, then `traces`. `at` collects when something that is a keypose was done, in seconds."""

    joints: list[np.ndarray] = field(default_factory=lambda: [np.zeros(7)])
    asked: list[float] = field(default_factory=lambda: [1.0])
    opening: list[float] = field(default_factory=lambda: [1.0])
    _pending: list[tuple[int, float]] = field(default_factory=list)

    @property
    def now_s(self) -> float:
        return (len(self.joints) - 1) * FINE_S

    @property
    def tool(self) -> np.ndarray:
        return self.joints[-1] @ LEVER

    def hold(self, seconds: float) -> Script:
        for _ in range(round(seconds / FINE_S)):
            self._step(self.joints[-1])
        return self

    def move(self, seed: int, seconds: float = 1.2, size: float = 0.5) -> Script:
        """To other joints, as far away as `size` says, with minimum jerk."""
        start = self.joints[-1]
        way = np.random.default_rng(seed).uniform(0.6, 1.0, 7) * np.random.default_rng(seed + 1).choice([-1, 1], 7)
        for t in np.linspace(0.0, 1.0, round(seconds / FINE_S) + 1)[1:]:
            self._step(start + size * way * t**3 * (10 - 15 * t + 6 * t * t))
        return self

    def ask(self, opening: float, floor: float = 0.0) -> Script:
        """Ask something of the gripper, which moves a little later; it closes no further than `floor`."""
        self._pending.append((len(self.joints) + round(GRIPPER_LATENCY_S / FINE_S), max(opening, floor)))
        self.asked[-1] = opening
        return self

    def _step(self, joints: np.ndarray) -> None:
        self.joints.append(joints)
        self.asked.append(self.asked[-1])
        goals = [goal for at, goal in self._pending if at <= len(self.joints)]
        goal = goals[-1] if goals else self.opening[-1]
        way = np.clip(goal - self.opening[-1], -GRIPPER_SPEED * FINE_S, GRIPPER_SPEED * FINE_S)
        self.opening.append(self.opening[-1] + float(way))

    def traces(
        self,
        rate_hz: float = 50.0,
        noise: float = 0.0,
        velocities: bool = False,
        target: bool = True,
        jitter: float = 0.0,
    ) -> Traces:
        """noise: standard deviation in rad (a tenth of it in m, ten times it of the opening). jitter: of the period."""
        rng = np.random.default_rng(1)
        fine = np.arange(len(self.joints)) * FINE_S
        times = np.arange(0.0, fine[-1] + 1e-9, 1.0 / rate_hz)
        times = np.unique(np.clip(times + rng.uniform(-jitter, jitter, len(times)) / rate_hz, 0.0, fine[-1]))
        at = np.round(times / FINE_S).astype(int)
        exact = np.array(self.joints)
        joints = exact[at] + rng.normal(0.0, noise, (len(at), 7))
        speeds = np.gradient(exact, FINE_S, axis=0)[at] + rng.normal(0.0, 20 * noise, (len(at), 7))
        opening = np.clip(np.array(self.opening)[at] + rng.normal(0.0, 10 * noise, len(at)), 0.0, 1.0)
        quats = np.array([quat_from_euler_deg([180.0, 0.0, np.rad2deg(j[6])]) for j in exact[at]])
        tool = np.column_stack([exact[at] @ LEVER + rng.normal(0.0, 0.1 * noise, (len(at), 3)), quats])
        asked = np.array(self.asked)[at] if target else np.full(len(at), np.nan)
        stamps = START_NS + np.round(times * SECOND_NS).astype(np.int64)
        return Traces(stamps, joints, speeds if velocities else None, opening, tool, asked)
