"""An expert for Push-T: straight pushes, searched two deep, that bring the block home in the fewest steps.

A push starts beside the block, goes straight for some way, and backs off. All starts, angles and lengths are foreseen
at once; each costs the steps that it takes and those that the pose after it still needs, after one more push. Since
going to where the agent is already costs nothing, it stays with the side in work.

Points are complex numbers, as in `push_t_model`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.simulation.push_t import FIELD, PushT, Snapshot
from minidiffuser_ros.simulation.push_t_model import (
    SUBSTEP,
    Numbers,
    Points,
    Poses,
    distance_to_goal,
    overhang,
    push,
)
from minidiffuser_ros.simulation.push_t_routes import MARGIN, NORMALS, STARTS, distances, route


@dataclass(frozen=True)
class PlannerSettings:
    """Speeds in px a step of a tenth of a second; lengths in px from a push's start; angles in rad off the normal."""

    travel_speed: float = 18.0
    push_speed: float = 9.0
    longest: float = 120.0
    angles: tuple[float, ...] = (-0.5, 0.0, 0.5)
    beam: int = 5
    rehearsed: int = 2
    corrections: tuple[float, ...] = (-3.0, -1.0, 1.0, 3.0, 5.0)
    back_off: float = 14.0
    overhead: float = 7.0  # steps to slow down, settle and back off
    rim: float = 9.0  # px at the edge of the field that the block is kept from
    steps_per_fold: float = 22.0  # to shrink the distance to the goal by a factor of e
    steps_per_px: float = 0.5  # on top of that
    home: float = 1.2  # px of distance to the goal from which nothing is left to do
    fine: float = 10.0  # px of distance from which a push is rehearsed in the simulator


class _Expansion(NamedTuple):
    """Every push, each at its best length: steps with those left after it, length, pose and agent after; all [W, C]."""

    cost: Numbers
    length: Numbers
    poses: Poses
    agents: Points


class _Push(NamedTuple):
    """A push in the block's frame: number of the start, unit direction, length px; pose after it."""

    start: int
    direction: complex
    length: float
    pose: Poses


class PushTPlanner:
    """Plans from snapshots, each as if nothing had gone before."""

    def __init__(self, settings: PlannerSettings | None = None) -> None:
        self.settings = settings or PlannerSettings()
        angles = np.array(self.settings.angles)
        self._starts = np.repeat(np.arange(len(STARTS)), len(angles))
        self._directions = (NORMALS[:, None] * np.exp(1j * angles)).ravel()
        self._rehearsal = PushT()

    def plan(self, snapshot: Snapshot) -> NDArray[np.float64]:
        """The agent's targets [T, 2] for the next push, from where it is to where it has backed off."""
        agent, pose = _agent_and_pose(snapshot)
        pushes = self._search(agent, pose)
        if distance_to_goal(pushes[0].pose) > self.settings.fine:
            return _coordinates(self._targets(agent, pose, pushes[0]))
        return _coordinates(self._rehearse(snapshot, pushes))

    def steps_left(self, poses: Poses) -> Numbers:
        """About how many steps lie between poses and the goal."""
        s, distance = self.settings, distance_to_goal(poses)
        return np.asarray(s.steps_per_fold * np.log(np.maximum(distance / s.home, 1.0)) + s.steps_per_px * distance)

    def _search(self, agent: Points, pose: Poses) -> list[_Push]:
        """The best pushes, best first."""
        first = self._expand(agent, pose)
        order = np.argsort(first.cost[0], kind="stable")[: self.settings.beam]
        order = order[np.isfinite(first.cost[0, order])]
        after = first.poses.at((0, order))
        left = self.steps_left(after)
        deeper = self._expand(first.agents[0, order], after).cost.min(-1)
        total = first.cost[0, order] - left + np.minimum(left, deeper)
        ranked = order[np.argsort(total, kind="stable")[: self.settings.rehearsed]]
        return [
            _Push(int(self._starts[c]), self._directions[c], float(first.length[0, c]), first.poses.at((0, c)))
            for c in ranked
        ]

    def _expand(self, agents: Points, poses: Poses) -> _Expansion:
        """From W agents and poses."""
        s = self.settings
        travel = distances(poses.into_block(agents), poses)[:, self._starts] / s.travel_speed
        w, c = np.nonzero(np.isfinite(travel))
        here = poses.at(w)
        begin = here.onto_field(STARTS[self._starts[c]])
        direction = self._directions[c] * np.exp(1j * here.angle)
        track = push(here, begin, direction, s.longest)
        lengths = SUBSTEP * np.arange(len(track.angle))[:, None]
        cost = travel[w, c] + s.overhead + lengths / s.push_speed + self.steps_left(track)
        untouched = np.abs(track.place - track.place[0]) + 50.0 * np.abs(track.angle - track.angle[0]) < 1.0
        tips = begin + lengths * direction
        off = np.minimum(np.minimum(tips.real, tips.imag), FIELD - np.maximum(tips.real, tips.imag)) < MARGIN
        cost[untouched | off] = np.inf
        best, every = cost.argmin(0), np.arange(len(w))
        after = track.at((best, every))
        # Out of the rim it may go, farther into it not.
        cost = cost[best, every] + np.where(overhang(after, s.rim, FIELD) > overhang(here, s.rim, FIELD), np.inf, 0.0)
        shape = travel.shape
        found = _Expansion(
            np.full(shape, np.inf), np.zeros(shape), Poses(np.zeros(shape, complex), np.zeros(shape)),
            np.zeros(shape, complex),
        )  # fmt: skip
        found.cost[w, c], found.length[w, c] = cost, lengths[best, 0]
        found.poses.place[w, c], found.poses.angle[w, c] = after
        found.agents[w, c] = tips[best, every] - s.back_off * direction
        return found

    def _targets(self, agent: Points, pose: Poses, chosen: _Push, extra: float = 0.0) -> Points:
        s = self.settings
        way = pose.onto_field(route(complex(pose.into_block(agent)[0]), chosen.start, pose))
        direction = chosen.direction * np.exp(1j * pose.angle[0])
        tip = way[-1] + (chosen.length + extra) * direction
        travel = paced(way, s.travel_speed)
        pushing = paced(np.array([way[-1], tip]), s.push_speed)
        back = tip - s.back_off * direction
        return np.concatenate([travel, travel[-1:], pushing, pushing[-1:], [back, back]])

    def _rehearse(self, snapshot: Snapshot, pushes: list[_Push]) -> Points:
        """The targets that do best in the simulator, a little shorter or longer where that helps."""
        agent, pose = _agent_and_pose(snapshot)
        plans = [self._targets(agent, pose, p, extra) for p in pushes for extra in self.settings.corrections]
        ends = []
        for plan in plans:
            self._rehearsal.restore(snapshot)
            for target in _coordinates(plan):
                self._rehearsal.step(target)
            ends.append(_agent_and_pose(self._rehearsal.snapshot()))
        poses = Poses(np.concatenate([p.place for _, p in ends]), np.concatenate([p.angle for _, p in ends]))
        left = self.steps_left(poses)
        deeper = self._expand(np.concatenate([a for a, _ in ends]), poses).cost.min(-1)
        return plans[int(np.argmin([len(plan) for plan in plans] + np.minimum(left, deeper)))]


def paced(way: Points, speed: float) -> Points:
    """Targets along a way [P] through its corners, at most `speed` px apart and closer towards its end."""
    legs = np.abs(np.diff(way))
    total, done, places = float(legs.sum()), 0.0, []
    while total - done > 0.5:
        done = min(done + min(speed, 0.4 * (total - done) + 2.0), total)
        places.append(done)
    along = np.concatenate([[0.0], np.cumsum(legs)])
    return np.interp(places, along, way.real) + 1j * np.interp(places, along, way.imag) if places else way[-1:]


def _agent_and_pose(snapshot: Snapshot) -> tuple[Points, Poses]:
    """As arrays of one."""
    return np.array([complex(*snapshot.agent)]), Poses(np.array([complex(*snapshot.block)]), np.array([snapshot.angle]))


def _coordinates(points: Points) -> NDArray[np.float64]:
    """Complex points [T] as actions [T, 2] on the field."""
    return np.clip(np.stack([points.real, points.imag], axis=-1), MARGIN, FIELD - MARGIN)
