"""Pushes of the T foreseen for thousands of candidates at once: quasi-static contact without friction.

gym-pusht stops the block after each step of physics, and its contacts have no friction. So the block moves as little as
a contact forces it to: an impulse along the contact's normal, shared between shift and turn by mass and inertia.
test/simulation/test_push_t.py holds it against the simulator.

Points of the plane are complex numbers here, x + iy in px: turning is a product.
Shape letters: N candidates, T moments.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.simulation.push_t import AGENT_RADIUS, BAR, CORNERS, GOAL_POSE, STEM

Points = NDArray[np.complex128]
Numbers = NDArray[np.float64]

CENTER_OF_MASS = 45j  # in the block's frame, as gym-pusht sets it
INERTIA = 3000.0  # for a mass of 1; gym-pusht's, not that of a T
SUBSTEP = 2.5  # px of the agent's way between two looks at the contact
BOXES = [(*np.min(box, axis=0), *np.max(box, axis=0)) for box in (BAR, STEM)]  # left, bottom, right, top
_CORNERS = CORNERS[:, 0] + 1j * CORNERS[:, 1]
_MIDDLE = complex(_CORNERS.mean())
_SPREAD = float((abs(_CORNERS - _MIDDLE) ** 2).mean())


class Poses(NamedTuple):
    """Places of the block's origin [...] and its angles [...]."""

    place: Points
    angle: Numbers

    def at(self, index: Any) -> Poses:
        """Some of them."""
        return Poses(self.place[index], self.angle[index])

    def onto_field(self, points: Points) -> Points:
        """From the block's frame."""
        return np.asarray(points * np.exp(1j * self.angle) + self.place)

    def into_block(self, points: Points) -> Points:
        """Points of the field as the block sees them."""
        return np.asarray((points - self.place) * np.exp(-1j * self.angle))


GOAL = Poses(np.array(complex(*GOAL_POSE[:2])), np.array(GOAL_POSE[2]))


def distance_to_goal(poses: Poses) -> Numbers:
    """How far the block's corners are from their marks, root of the mean square, px.

    Turns count along the arc, not the chord, which would hardly see the last degrees before half a turn.
    """
    turn = np.abs(np.angle(np.exp(1j * (poses.angle - GOAL.angle))))
    shift = np.abs(poses.onto_field(np.array(_MIDDLE)) - GOAL.onto_field(np.array(_MIDDLE)))
    return np.asarray(np.sqrt(shift**2 + _SPREAD * turn**2))


def overhang(poses: Poses, edge: float, field: float) -> Numbers:
    """How far the block's corners stick out of the field without a rim of width `edge`, px; 0 if none does."""
    corners = poses.at((..., None)).onto_field(_CORNERS)
    inner = np.minimum(np.minimum(corners.real, corners.imag), np.minimum(field - corners.real, field - corners.imag))
    return np.asarray(np.maximum(edge - inner.min(-1), 0.0))


def push(poses: Poses, agents: Points, directions: Points, length: float) -> Poses:
    """Poses [T, N] of blocks while agents [N] move straight along unit directions [N], every `SUBSTEP` px."""
    count = int(np.ceil(length / SUBSTEP))
    centers, angles = poses.onto_field(np.array(CENTER_OF_MASS)), poses.angle.copy()
    track = Poses(np.empty((count + 1, len(agents)), complex), np.empty((count + 1, len(agents))))
    for moment in range(count + 1):
        if moment:
            reached = agents + moment * SUBSTEP * directions
            for box in BOXES:
                _separate(box, reached, centers, angles)
        track.place[moment] = centers - CENTER_OF_MASS * np.exp(1j * angles)
        track.angle[moment] = angles
    return track


def _separate(box: tuple[float, ...], agents: Points, centers: Points, angles: Numbers) -> None:
    """Move blocks, given by centre of mass and angle, out of the way of agents that have entered a box of theirs."""
    offset = (agents - centers) * np.exp(-1j * angles)
    left, bottom, right, top = box
    nearest = np.clip(offset.real, left, right) + 1j * np.clip(offset.imag, bottom - 45.0, top - 45.0)
    distance = np.abs(offset - nearest)
    hit = np.flatnonzero((distance < AGENT_RADIUS) & (distance > 0.0))
    nearest, distance = nearest[hit], distance[hit]
    normal = (nearest - offset[hit]) / distance
    lever = nearest.real * normal.imag - nearest.imag * normal.real
    impulse = (AGENT_RADIUS - distance) / (1.0 + lever**2 / INERTIA)
    centers[hit] += impulse * normal * np.exp(1j * angles[hit])
    angles[hit] += lever * impulse / INERTIA
