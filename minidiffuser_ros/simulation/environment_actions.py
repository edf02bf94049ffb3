"""What an action of the gymnasium environment means: a keypose, or a small motion of the tool."""

from __future__ import annotations

import abc
from typing import ClassVar

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.geometry.rotation import quat_multiply, quat_of
from minidiffuser_ros.geometry.transform import pose_of
from minidiffuser_ros.simulation.tabletop import DEFAULT_SPEC, Tabletop

Array = NDArray[np.float64]

DELTA_M, DELTA_RAD = 0.02, 0.1  # the largest motion of one step along and about each axis
BOUNDS_SLACK = 1e-6  # single precision at the bounds of a space
SHORTEST_QUATERNION = 1e-3  # a shorter one has no direction to speak of


class Control(abc.ABC):
    """One kind of action: its space, and how the arm carries it out.

    steps_per_keypose: how many steps an episode may take for each keypose that its task allows.
    """

    name: ClassVar[str]
    numbers: ClassVar[str]
    steps_per_keypose: ClassVar[int]
    space: Box[np.float64]

    @abc.abstractmethod
    def goal(self, world: Tabletop, action: ArrayLike) -> Keypose:
        """The keypose that an action asks for. Raises ConfigurationError for one that is no action."""

    @abc.abstractmethod
    def move(self, world: Tabletop, goal: Keypose) -> None:
        """Carry it out. Raises MotionError where it cannot be reached; nothing moved."""

    def _checked(self, action: ArrayLike) -> Array:
        """As numbers of the right shape, back inside the space where rounding took them out."""
        try:
            values = np.asarray(action, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"an action must be numbers, got {action!r}") from error
        if values.shape != self.space.shape or not np.isfinite(values).all():
            raise ConfigurationError(
                f"an action of control '{self.name}' is {self.space.shape[0]} finite numbers ({self.numbers}), "
                f"got {values.tolist()}"
            )
        inside = np.clip(values, self.space.low, self.space.high)
        return np.where(np.abs(values - inside) < BOUNDS_SLACK, inside, values)


class KeyposeControl(Control):
    """A keypose a step: a straight line, then the gripper.

    Any quaternion but zero is taken for the rotation that lies in its direction: a space of plain numbers cannot say
    that they have norm 1, and its samples do not.
    """

    name = "keypose"
    numbers = "position x y z in m, quaternion w x y z, opening"
    steps_per_keypose = 1

    def __init__(self) -> None:
        spec = DEFAULT_SPEC
        self.space = Box(
            np.array([*spec.workspace_min, -1.0, -1.0, -1.0, -1.0, 0.0]),
            np.array([*spec.workspace_max, 1.0, 1.0, 1.0, 1.0, 1.0]),
            dtype=np.float64,
        )

    def goal(self, world: Tabletop, action: ArrayLike) -> Keypose:
        values = self._checked(action)
        quat, norm = values[3:7], float(np.linalg.norm(values[3:7]))
        if norm < SHORTEST_QUATERNION:
            raise ConfigurationError(f"the quaternion w x y z of an action must not be zero, got {quat.tolist()}")
        return Keypose(values[:3], quat / norm, values[7])

    def move(self, world: Tabletop, goal: Keypose) -> None:
        world.execute(goal)


class DeltaControl(Control):
    """A small motion a step, in a quarter of a second: for policies that act densely, and for reinforcement learning.

    It is added to the pose that the arm was told to hold before, not to where it is, so that a load does not let it
    creep. A step ends about a seventh of its way short, which the next one makes up.
    """

    name = "delta"
    numbers = "translation x y z in m and rotation vector x y z in rad, both along the base's axes, opening"
    # Experts that are followed in small steps need less than half of that.
    steps_per_keypose = 25

    def __init__(self) -> None:
        high = np.array([DELTA_M] * 3 + [DELTA_RAD] * 3 + [1.0])
        self.space = Box(np.where(high < 1.0, -high, 0.0), high, dtype=np.float64)

    def goal(self, world: Tabletop, action: ArrayLike) -> Keypose:
        values = self._checked(action)
        if not ((values >= self.space.low) & (values <= self.space.high)).all():
            raise ConfigurationError(
                f"a step moves at most {DELTA_M:g} m and {DELTA_RAD:g} rad along each axis, to an opening in [0, 1]; "
                f"got {values.tolist()}: clip it, for example with gymnasium.wrappers.ClipAction"
            )
        position, quat = pose_of(world.arm.commanded_tool)
        turn = quat_of(Rotation.from_rotvec(values[3:6]))
        return Keypose(position + values[:3], quat_multiply(turn, quat), values[6])

    def move(self, world: Tabletop, goal: Keypose) -> None:
        world.servo(goal)


CONTROLS: dict[str, type[Control]] = {control.name: control for control in (KeyposeControl, DeltaControl)}


def make_control(name: str) -> Control:
    """One of CONTROLS. Raises ConfigurationError naming them."""
    if name not in CONTROLS:
        raise ConfigurationError(f"there is no control '{name}'; choose one of {', '.join(CONTROLS)}")
    return CONTROLS[name]()


def action_of(keypose: Keypose) -> Array:
    """The action [8] of control 'keypose' that asks for a keypose."""
    return np.array([*keypose.position, *keypose.quat_wxyz, keypose.opening])
