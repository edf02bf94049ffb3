"""Ways of the agent around the T, shortest among straight lines that keep clear of it.

Everything here is in the block's frame, points as complex numbers in px. Shape letters: W poses, S starts of pushes,
V corners to turn at.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.simulation.push_t import AGENT_RADIUS, FIELD
from minidiffuser_ros.simulation.push_t_model import BOXES, Numbers, Points, Poses

Flags = NDArray[np.bool_]

CLEARANCE = AGENT_RADIUS + 4.0  # of straight lines from the block, measured to boxes
STANDOFF = AGENT_RADIUS + 5.0  # of a push's start from the block
TURN = AGENT_RADIUS + 15.0  # of corners: the agent trails its target and cuts them
MARGIN = 4.0  # of the agent's centre from the edge of the field
SPACING = 8.0  # of the starts along the outline


def _outline(distance: float) -> Points:
    """Corners of the T widened by a distance, in order."""
    (left, bottom, right, top), (inner_left, _, inner_right, tip) = BOXES
    d = distance
    corners = [
        (left - d, bottom - d), (right + d, bottom - d), (right + d, top + d), (inner_right + d, top + d),
        (inner_right + d, tip + d), (inner_left - d, tip + d), (inner_left - d, top + d), (left - d, top + d),
    ]  # fmt: skip
    return np.array([complex(*corner) for corner in corners])


def _starts() -> tuple[Points, Points]:
    """Points [S] around the block, evenly spaced, and the unit normals [S] into it."""
    corners = _outline(STANDOFF)
    points, normals = [], []
    for a, b in zip(corners, np.roll(corners, -1), strict=True):
        count = round(abs(b - a) / SPACING)
        points.append(a + np.linspace(0.0, 1.0, count, endpoint=False) * (b - a))
        normals.append(np.full(count, 1j * (b - a) / abs(b - a)))
    return np.concatenate(points), np.concatenate(normals)


STARTS, NORMALS = _starts()
_CORNERS = _outline(TURN)[[0, 1, 2, 4, 5, 7]]  # without those where the stem joins: no shortest way turns there


def blocked(start: Points, end: Points) -> Flags:
    """Whether straight ways [...] come too close to the block."""
    start, end = np.broadcast_arrays(start, end)
    hit = np.zeros(start.shape, dtype=bool)
    for left, bottom, right, top in BOXES:
        enter, leave = np.zeros(start.shape), np.ones(start.shape)
        for a, b, low, high in ((start.real, end.real, left, right), (start.imag, end.imag, bottom, top)):
            # The slab method. A way that does not move along an axis is given a step that changes nothing.
            step = np.where(np.abs(b - a) < 1e-9, 1e-9, b - a)
            first, second = (low - CLEARANCE - a) / step, (high + CLEARANCE - a) / step
            enter = np.maximum(enter, np.minimum(first, second))
            leave = np.minimum(leave, np.maximum(first, second))
        hit |= enter < leave
    return hit


def _lengths(start: Points, end: Points) -> Numbers:
    """Lengths of the straight ways, infinite where they are blocked."""
    return np.where(blocked(start, end), np.inf, np.abs(end - start))


_CORNER_TO_CORNER = _lengths(_CORNERS[:, None], _CORNERS)
_CORNER_TO_START = _lengths(_CORNERS[:, None], STARTS)


def _extra(points: Points, poses: Poses) -> Numbers:
    """0 where points [P] lie on the field for poses [W], else infinite: [W, P]."""
    found = poses.at((..., None)).onto_field(points)
    inner = np.minimum(np.minimum(found.real, found.imag), np.minimum(FIELD - found.real, FIELD - found.imag))
    return np.where(inner >= MARGIN, 0.0, np.inf)


def escape(agents: Points) -> Points:
    """Where agents [W] come out that are too near to the block: the nearest start, or where they are."""
    nearest = STARTS[np.abs(agents[:, None] - STARTS).argmin(-1)]
    return np.where(blocked(agents, agents), nearest, agents)


def distances(agents: Points, poses: Poses) -> Numbers:
    """Lengths [W, S] of the ways from agents [W] to all starts, infinite where there is none on the field."""
    free = escape(agents)
    outside = _extra(_CORNERS, poses)  # [W, V]
    to_corner = _lengths(free[:, None], _CORNERS) + outside
    for _ in range(3):  # no shortest way turns more than four times
        to_corner = np.minimum(to_corner, (to_corner[:, :, None] + _CORNER_TO_CORNER).min(1) + outside)
    around = (to_corner[:, :, None] + _CORNER_TO_START).min(1)
    ways = np.minimum(_lengths(free[:, None], STARTS), around)
    return np.asarray(ways + np.abs(free - agents)[:, None] + _extra(STARTS, poses))


def route(agent: complex, start: int, pose: Poses) -> Points:
    """Points [P] of the shortest way from an agent to a start, both ends included."""
    free = escape(np.array([agent]))
    nodes = np.concatenate([free, _CORNERS, STARTS[start : start + 1]])
    lengths = _lengths(nodes[:, None], nodes)
    lengths[:, 1:-1] += _extra(_CORNERS, pose)
    best, before = lengths[0].copy(), np.zeros(len(nodes), dtype=int)
    for _ in nodes:
        through = best[:, None] + lengths
        shorter = through.min(0) < best - 1e-9
        before[shorter], best = through.argmin(0)[shorter], np.minimum(best, through.min(0))
    way = [len(nodes) - 1]
    while way[-1] != 0:
        way.append(int(before[way[-1]]))
    points = nodes[way[::-1]]
    return points if free[0] == agent else np.concatenate([[agent], points])
