"""What a policy sees of Push-T, and the frame in which it tells its actions: everything as the block sees it.

How a push goes depends on where the agent touches the block, not on where on the field both are. So the places of agent
and mark are told in the block's frame, and actions are steps away from the agent along the block's axes: whatever the
pose, the same push is the same numbers, and small ones.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minidiffuser_ros.simulation.push_t import GOAL_POSE

Numbers = NDArray[np.float64]

FINE_DISTANCE, FINE_ANGLE = 15.0, 0.15  # px and rad within which the last of the way to the mark is told finely
WAVELENGTHS = (200.0, 100.0, 50.0)  # px, of the agent's place beside the block (Fourier features; Tancik et al. 2020)


class PushTView:
    """Of states [..., 5] as of `PushT`; lengths px."""

    name = "push_t"
    num_features = 13 + 4 * len(WAVELENGTHS)

    def see(self, states: ArrayLike) -> Numbers:
        """[..., num_features], without a jump where the angle wraps.

        The agent and the mark from the block, how far the block is turned from its mark, agent and block on the field;
        what is left to the mark once more, finely; and waves over the agent's place, which tell it to a pixel.
        """
        values = np.asarray(states, dtype=np.float64)
        agent, place, angle = values[..., :2], values[..., 2:4], values[..., 4]
        touch = _turned(agent - place, -angle)
        mark = _turned(np.array(GOAL_POSE[:2]) - place, -angle)
        turn = GOAL_POSE[2] - angle
        waves = [wave(2.0 * np.pi * touch / length) for length in WAVELENGTHS for wave in (np.sin, np.cos)]
        fine = [np.tanh(mark / FINE_DISTANCE), np.tanh(np.sin(turn) / FINE_ANGLE)[..., None]]
        turned = np.stack([np.cos(turn), np.sin(turn)], axis=-1)
        return np.concatenate([touch, mark, turned, agent, place, *fine, *waves], axis=-1)

    def into_frame(self, actions: ArrayLike, states: ArrayLike) -> Numbers:
        """Targets [..., T, 2] on the field → steps from the agent of states [..., 5] along the axes of their block."""
        values = np.asarray(states, dtype=np.float64)
        return _turned(np.asarray(actions) - values[..., None, :2], -values[..., None, 4])

    def onto_field(self, actions: ArrayLike, states: ArrayLike) -> Numbers:
        """Back from `into_frame`."""
        values = np.asarray(states, dtype=np.float64)
        return _turned(np.asarray(actions, dtype=np.float64), values[..., None, 4]) + values[..., None, :2]


def _turned(vectors: Numbers, angles: Numbers) -> Numbers:
    """Vectors [..., 2] turned by angles [...]."""
    cos, sin, (x, y) = np.cos(angles), np.sin(angles), np.moveaxis(vectors, -1, 0)
    return np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)
