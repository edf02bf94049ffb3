"""The postures in which the arm can hold its tool at a pose: it has a joint more than a pose needs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.arm.kinematics import HOME_JOINTS, FrankaKinematics

Array = NDArray[np.float64]

SWINGS_RAD = (0.5, -0.5, 1.0, -1.0)  # of joint 3, which swings the elbow around the line from shoulder to wrist
SPREAD_RAD = 0.7
SAME_RAD = 0.05  # postures closer to each other are one
WIDE = 6
# Cost of a posture: a radian of travel of each joint, the elbow swung to another side, closeness to a limit.
TRAVEL = np.array([1.0, 1.0, 1.0, 1.0, 0.6, 0.6, 0.4])
OTHER_ELBOW, ELBOW_RAD = 2.0, 1.2
LIMIT_COST, LIMIT_RAD = 3.0, 0.3


class PostureSearch:
    """Inverse kinematics from several starts. Not thread-safe: the kinematics compute in place."""

    def __init__(self, arm: FrankaKinematics, starts: int, seed: int) -> None:
        self._arm = arm
        self._low, self._high = arm.limits
        self._starts = starts
        rng = np.random.default_rng(seed)
        self._offsets = rng.normal(0.0, SPREAD_RAD, (starts, 7))
        self._wide = rng.uniform(self._low, self._high, (WIDE * starts, 7))

    def of(self, T_base_tool: Array, start: Array) -> Array:
        """Different postures [N, 7] for a pose [4, 4], the one best reached from `start` [7] first.

        Near the start, the elbow on the same side, away from the joint limits. None at all gives [0, 7].
        """
        return self._found(T_base_tool, start, self._seeds(T_base_tool, start))

    def anywhere(self, T_base_tool: Array, start: Array) -> Array:
        """The same from WIDE times as many starts all over the joints' range, where none of the first is free."""
        return self._found(T_base_tool, start, self._wide)

    def has_room(self, posture: Array, start: Array) -> bool:
        """Whether a posture [7] is away from the joint limits, or at least as far as `start` [7]."""
        return bool(self._room(posture) >= min(LIMIT_RAD, float(self._room(start))))

    def _room(self, postures: Array) -> Array:
        """Distance of [..., 7] from the nearest joint limit in rad."""
        return np.asarray(np.minimum(postures - self._low, self._high - postures).min(axis=-1))

    def _found(self, T_base_tool: Array, start: Array, seeds: Array) -> Array:
        found: list[Array] = []
        for seed in seeds:
            joints = self._arm.inverse(T_base_tool, seed, seed_only=True)
            if joints is not None and all(np.abs(joints - other).max() > SAME_RAD for other in found):
                found.append(joints)
        if not found:
            return np.zeros((0, 7))
        postures = np.array(found)
        order = np.argsort(self._costs(postures, start), kind="stable")
        return np.asarray(postures[order])

    def _seeds(self, T_base_tool: Array, start: Array) -> Array:
        facing = np.array(HOME_JOINTS)
        facing[0] = np.arctan2(T_base_tool[1, 3], T_base_tool[0, 3])
        seeds = [start, facing]
        for swing in SWINGS_RAD:
            for posture in (start, facing):
                swung = posture.copy()
                swung[0] -= swing
                swung[2] += swing
                seeds.append(swung)
        seeds += [0.5 * (start + facing) + offset for offset in self._offsets]
        return np.asarray(np.clip(np.array(seeds[: self._starts]), self._low, self._high))

    def _costs(self, postures: Array, start: Array) -> Array:
        way = np.abs(postures - start)
        costs = way @ TRAVEL + LIMIT_COST * np.clip(1.0 - self._room(postures) / LIMIT_RAD, 0.0, 1.0)
        return np.asarray(costs + OTHER_ELBOW * (way[:, 2] > ELBOW_RAD))
