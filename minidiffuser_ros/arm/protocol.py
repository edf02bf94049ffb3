"""What the executor needs of an arm. `FrankyArm` is one; anything that can do these few things is another."""

from __future__ import annotations

import enum
import threading
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.arm.kinematics import MAX_GRIPPER_WIDTH

Array = NDArray[np.float64]


class ArmMode(enum.Enum):
    """What the arm's controller says of itself."""

    IDLE = "idle"
    MOVING = "moving"
    STOPPED = "stopped by its user"  # by the user: emergency stop, guiding, brakes
    GUIDED = "led by hand"  # somebody holds the guiding button
    ERROR = "in a reflex"  # after a reflex; needs `recover`


@dataclass(frozen=True)
class ArmState:
    """One reading: joints [7] in rad, `T_base_tool` [4, 4], distance between the fingers in metres, mode.

    velocities: of the joints [7] in rad/s; zero where they are not known.
    """

    joints: Array
    tool: Array
    width: float
    mode: ArmMode
    velocities: Array = field(default_factory=lambda: np.zeros(7))

    @property
    def opening(self) -> float:
        """Gripper opening in [0, 1], 1 is open."""
        return float(np.clip(self.width / MAX_GRIPPER_WIDTH, 0.0, 1.0))


class Arm(Protocol):
    """An arm with a gripper. Motions block until they end; setting their `halt` from another thread ends them early.

    Every method may raise ConnectionLostError; the motions raise MotionError as well, also when halted. Each goal
    brings its own `halt`, so that a stop can neither be lost nor hit the goal after. An arm obeys blindly: what may
    be asked of it is for SafetyEnvelope to decide.
    """

    def state(self) -> ArmState:
        """The newest reading; also while a motion runs, and from any thread."""
        ...

    def move_line(self, tool: Array, speed: float, halt: threading.Event) -> None:
        """Move the tool to `T_base_tool` [4, 4] in a straight line, at a fraction (0, 1] of full speed."""
        ...

    def move_joints(self, joints: Array, speed: float, halt: threading.Event) -> None:
        """Move to joints [7] in rad, all arriving together, at a fraction (0, 1] of full speed."""
        ...

    def drive_gripper(self, opening: float, halt: threading.Event) -> float:
        """Bring the fingers to `opening` [0, 1], closing with force; returns their distance in metres."""
        ...

    def recover(self) -> None:
        """Make the arm usable again: reconnect where the connection was lost, clear a reflex where there was one."""
        ...

    def close(self) -> None:
        """Let go of the arm; harmless when called twice."""
        ...
