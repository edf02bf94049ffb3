"""What the executor needs of an arm. `FrankyArm` is one; anything that can do these few things is another."""

from __future__ import annotations

import enum
import threading
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.arm.contact import ContactThresholds, Payload
from minidiffuser_ros.arm.kinematics import MAX_GRIPPER_WIDTH
from minidiffuser_ros.contract.errors import MotionError
from minidiffuser_ros.contract.refusal import Reason, Refusal

START_TOLERANCE_RAD = 0.05  # the arm lags its own plan by half of this when it is not settled
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

    velocities: of the joints [7] in rad/s; zero where they are not known. clock_s: the controller's own time, which
    stands still when it does; not a number where there is none.
    """

    joints: Array
    tool: Array
    width: float
    mode: ArmMode
    velocities: Array = field(default_factory=lambda: np.zeros(7))
    clock_s: float = float("nan")

    @property
    def opening(self) -> float:
        """Gripper opening in [0, 1], 1 is open."""
        return float(np.clip(self.width / MAX_GRIPPER_WIDTH, 0.0, 1.0))


class TimedPath(Protocol):
    """A way of the joints over time that begins and ends at rest."""

    @property
    def times_s(self) -> Array:
        """[N] seconds, rising."""
        ...

    @property
    def joints(self) -> Array:
        """[N, 7] rad."""
        ...

    @property
    def velocities(self) -> Array:
        """[N, 7] rad/s."""
        ...


def check_start(path: TimedPath, state: ArmState) -> None:
    """Raises MotionError unless the path is one, and begins where the arm is."""
    times, joints, velocities = (np.asarray(part) for part in (path.times_s, path.joints, path.velocities))
    shapes = times.ndim == 1 and joints.shape == velocities.shape == (len(times), 7)
    if not shapes or len(times) < 2 or not all(np.isfinite(part).all() for part in (times, joints, velocities)):
        text = f"a path has finite times [N], joints and velocities [N, 7], got {times.shape} and {joints.shape}"
        raise MotionError(Refusal(Reason.NO_TRAJECTORY, text))
    if (np.diff(times) <= 0.0).any():
        raise MotionError(Refusal(Reason.NO_TRAJECTORY, "the times of a path must rise"))
    away = float(np.abs(joints[0] - state.joints).max())
    if away > START_TOLERANCE_RAD:
        text = f"the path begins {away:.3f} rad from where the arm is, at most {START_TOLERANCE_RAD:g}: plan it anew"
        raise MotionError(Refusal(Reason.NO_TRAJECTORY, text))


class Arm(Protocol):
    """An arm with a gripper. Motions block until they end; setting their `halt` from another thread ends them early.

    Every method may raise ConnectionLostError; the motions raise MotionError with a code as well, INTERRUPTED when
    halted. Each goal
    brings its own `halt`, so that a stop can neither be lost nor hit the goal after. An arm obeys blindly: what may
    be asked of it is for SafetyEnvelope to decide.
    """

    def state(self) -> ArmState:
        """The newest reading; also while a motion runs, and from any thread."""
        ...

    def prepare(self, thresholds: ContactThresholds, payload: Payload) -> None:
        """From now on: how hard the arm may touch, and what the hand carries. Only at rest."""
        ...

    def move_line(self, tool: Array, speed: float, halt: threading.Event) -> None:
        """Move the tool to `T_base_tool` [4, 4] in a straight line, at a fraction (0, 1] of full speed."""
        ...

    def move_joints(self, joints: Array, speed: float, halt: threading.Event) -> None:
        """Move to joints [7] in rad, all arriving together, at a fraction (0, 1] of full speed."""
        ...

    def move_path(self, path: TimedPath, halt: threading.Event) -> None:
        """Follow a timed path of the joints without stopping on the way; one that begins elsewhere is refused."""
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
