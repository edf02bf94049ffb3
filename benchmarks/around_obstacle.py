"""A made-up task with two equally good answers: a path from a start to a goal, past an obstacle on either side.

The plane is [-1, 1]^2. Starts lie left, goals right, the obstacle between them; a path is T places, and an expert
passes left or right as a coin falls. The mean over experts runs through the obstacle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RADIUS = 0.2
CLEARANCE = 0.4  # of an expert's path from the obstacle's centre, where it passes
REACH = 0.12  # an end within this distance of the goal has reached it
BEND = 0.6  # along x, before and behind the obstacle

Floats = NDArray[np.float64]
RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)


@dataclass(frozen=True)
class Scenes:
    """start, goal, obstacle: [n, 2] each."""

    start: Floats
    goal: Floats
    obstacle: Floats

    def states(self, with_goal: bool = True) -> Floats:
        """Everything as numbers, [n, 6], or without the goal, [n, 4]."""
        return np.concatenate([self.start, self.obstacle, *([self.goal] if with_goal else [])], axis=1)

    def images(self, size: int) -> NDArray[np.uint8]:
        """All as seen from above, [n, 3, size, size]: start white, goal green, obstacle red; y grows downwards."""
        places = np.linspace(-1.0, 1.0, size)
        grid = np.stack(np.meshgrid(places, places), axis=-1)
        pictures = np.zeros((len(self.start), size, size, 3), np.uint8)
        for center, radius, color in (
            (self.obstacle, RADIUS, RED),
            (self.start, 0.15, WHITE),
            (self.goal, 0.15, GREEN),
        ):
            pictures[np.linalg.norm(grid - center[:, None, None], axis=-1) <= radius] = color
        return pictures.transpose(0, 3, 1, 2).copy()


@dataclass(frozen=True)
class Verdict:
    """What became of paths, each [n, N]. left: passes with the larger y."""

    success: NDArray[np.bool_]
    touches: NDArray[np.bool_]
    left: NDArray[np.bool_]


def draw_scenes(rng: np.random.Generator, count: int) -> Scenes:
    """Scenes in which both sides are free."""
    return Scenes(
        np.stack([np.full(count, -0.85), rng.uniform(-0.5, 0.5, count)], axis=1),
        np.stack([np.full(count, 0.85), rng.uniform(-0.5, 0.5, count)], axis=1),
        np.stack([rng.uniform(-0.15, 0.15, count), rng.uniform(-0.3, 0.3, count)], axis=1),
    )


def expert_paths(scenes: Scenes, horizon: int, rng: np.random.Generator) -> Floats:
    """One path [n, horizon, 2] a scene: straight, but for a bend around the obstacle on a side drawn at random."""
    share = np.linspace(0.0, 1.0, horizon)[None, :, None]
    paths = scenes.start[:, None] * (1.0 - share) + scenes.goal[:, None] * share
    x, line = paths[..., 0], paths[..., 1]
    side = rng.choice([-1.0, 1.0], (len(line), 1))
    bend = np.cos(np.pi / 2 * np.clip((x - scenes.obstacle[:, :1]) / BEND, -1.0, 1.0)) ** 2
    y = line + bend * (scenes.obstacle[:, 1:] + side * CLEARANCE - line)
    return np.stack([x, y], axis=-1)


def judge(scenes: Scenes, paths: Floats) -> Verdict:
    """Paths [n, N, T, 2] as straight legs between their places: a touch is a leg that meets the obstacle."""
    begin, leg = paths[..., :-1, :], np.diff(paths, axis=-2)
    center = scenes.obstacle[:, None, None]
    along = ((center - begin) * leg).sum(-1) / np.maximum((leg**2).sum(-1), 1e-12)
    nearest = begin + np.clip(along, 0.0, 1.0)[..., None] * leg
    touches = np.linalg.norm(nearest - center, axis=-1).min(-1) < RADIUS
    reached = np.linalg.norm(paths[..., -1, :] - scenes.goal[:, None], axis=-1) < REACH
    beside = np.abs(paths[..., 0] - scenes.obstacle[:, None, :1]).argmin(-1)[..., None]
    passed_at = np.take_along_axis(paths[..., 1], beside, axis=-1)[..., 0]
    return Verdict(reached & ~touches, touches, passed_at > scenes.obstacle[:, None, 1])
