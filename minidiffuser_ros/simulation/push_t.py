"""Push-T: a round agent pushes a T into its mark on a plane seen from above.

The task of Diffusion Policy (Chi et al., RSS 2023, after Florence et al., CoRL 2021) as gym-pusht simulates it. Lengths
are pixels of a field of 512 × 512, angles radians; the agent follows a target that is given ten times a second.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minidiffuser_ros.contract.errors import ConfigurationError

FIELD = 512.0
AGENT_RADIUS = 15.0
GOAL_POSE = (256.0, 256.0, np.pi / 4)  # x, y, angle of the block
MAX_STEPS = 300
COVERAGE_OF_SUCCESS = 0.95  # share of the mark that must be covered; gym-pusht's
# Corners of the T in its own frame, bar and stem, in gym-pusht's order.
BAR = ((-60.0, 0.0), (60.0, 0.0), (60.0, 30.0), (-60.0, 30.0))
STEM = ((-15.0, 30.0), (15.0, 30.0), (15.0, 120.0), (-15.0, 120.0))
CORNERS = np.array(BAR + STEM)


class Snapshot(NamedTuple):
    """All that moves: positions px, velocities px/s, the angle unwrapped and its rate in rad and rad/s; steps taken."""

    agent: tuple[float, float]
    agent_velocity: tuple[float, float]
    block: tuple[float, float]
    angle: float
    block_velocity: tuple[float, float]
    angular_velocity: float
    steps: int


class PushT:
    """One field. A state [5] is the agent's x and y, the block's x and y, and its angle in [0, 2π).

    steps: taken; coverage: share of the mark that the block covers; success: whether that is above 0.95 now;
    succeeded_after: the number of steps when it first was, 0 while it never was.
    """

    def __init__(self) -> None:
        """Raises ConfigurationError where gym-pusht is not installed."""
        self._env = _make_environment()
        self.steps = 0
        self.coverage = 0.0
        self.success = False
        self.succeeded_after = 0

    def reset(self, seed: int) -> NDArray[np.float64]:
        """The scene of a seed, the same on every machine. Returns its state."""
        state, _ = self._env.reset(seed=seed)
        self.steps = self.succeeded_after = 0
        self._judge()
        return np.asarray(state)

    def step(self, action: ArrayLike) -> NDArray[np.float64]:
        """A tenth of a second in which the agent is drawn to a target [2]. Returns the state after it.

        Raises ConfigurationError for what is not a place on the field.
        """
        target = np.asarray(action, dtype=np.float64)
        if target.shape != (2,) or not ((target >= 0.0) & (target <= FIELD)).all():
            raise ConfigurationError(f"an action must be two numbers in [0, {FIELD:g}], got {target.tolist()}")
        state, _, _, _, info = self._env.step(target)
        self.steps += 1
        self.coverage, self.success = float(info["coverage"]), bool(info["is_success"])
        if self.success and not self.succeeded_after:
            self.succeeded_after = self.steps
        return np.asarray(state)

    @property
    def state(self) -> NDArray[np.float64]:
        """As `step` returned it last."""
        return np.asarray(self._env.get_obs())

    def snapshot(self) -> Snapshot:
        """For `restore`, of this field or of another one."""
        agent, block = self._env.agent, self._env.block
        return Snapshot(
            tuple(agent.position), tuple(agent.velocity), tuple(block.position), block.angle, tuple(block.velocity),
            block.angular_velocity, self.steps,
        )  # fmt: skip

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot; restored twice, the field moves the same twice, to the last bit.

        It may differ from how the first field went on: pymunk starts from the contact forces of the step before, which
        cannot be read, and which this forgets.
        """
        env = self._env
        env._setup()  # a new space: whatever stays in an old one, down to the order of contacts, would show
        env.agent.position, env.agent.velocity = snapshot.agent, snapshot.agent_velocity
        env.block.angle = snapshot.angle  # before the position: it turns about the centre of mass
        env.block.position = snapshot.block
        env.block.velocity, env.block.angular_velocity = snapshot.block_velocity, snapshot.angular_velocity
        self.steps = snapshot.steps
        self._judge()

    def _judge(self) -> None:
        self.coverage = float(self._env._get_coverage())
        self.success = self.coverage > self._env.success_threshold


def corners_at(pose: ArrayLike) -> NDArray[np.float64]:
    """Corners of the block [..., 8, 2] in px at poses [..., 3] (x, y, angle)."""
    values = np.asarray(pose, dtype=np.float64)
    cos, sin = np.cos(values[..., 2, None]), np.sin(values[..., 2, None])
    x, y = CORNERS[:, 0], CORNERS[:, 1]
    return np.stack([values[..., 0, None] + cos * x - sin * y, values[..., 1, None] + sin * x + cos * y], axis=-1)


def _make_environment() -> Any:
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        from gym_pusht.envs.pusht import PushTEnv
    except ImportError as error:
        raise ConfigurationError(
            f"Push-T needs gym-pusht, and {error.name} is not installed: pip install 'pymunk>=6.6,<7' 'shapely>=2,<3' "
            "cffi pygame, then pip install --no-deps gym-pusht (it pins an OpenCV that collides with the headless one)"
        ) from None
    return PushTEnv(obs_type="state")
