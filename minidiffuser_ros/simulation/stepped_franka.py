"""The directly stepped arm as an `Arm`: what runs on the Franka driver runs on it, many times faster than real time.

Physics stands still between two motions, and steps in the thread of whoever asked for the motion.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicHermiteSpline

from minidiffuser_ros.arm.contact import ContactThresholds, Payload
from minidiffuser_ros.arm.protocol import ArmMode, ArmState, TimedPath, check_start
from minidiffuser_ros.contract.errors import MotionError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.contract.refusal import Reason, Refusal
from minidiffuser_ros.geometry.transform import pose_of
from minidiffuser_ros.simulation.stepped import (
    GRIPPER_S,
    JOINT_SPEEDS,
    MIN_MOTION_S,
    SETTLE_S,
    SETTLED_RAD,
    TIMESTEP_S,
    SteppedArm,
)

Array = NDArray[np.float64]

BRAKE_S = 0.15
PEAK_OVER_MEAN = 1.875  # of a motion of minimum jerk


class SteppedFranka:
    """Drives a `SteppedArm`; `state` may be asked for from any thread, as of a real arm."""

    def __init__(self, arm: SteppedArm, pause_s: float = 0.0) -> None:
        """pause_s: real time to wait after each physics step, for those who watch."""
        self._arm, self._pause_s = arm, pause_s
        self._physics = threading.RLock()  # between two steps only may anybody look
        self._moving = False

    def state(self) -> ArmState:
        """The newest reading."""
        with self._physics:
            mode = ArmMode.MOVING if self._moving else ArmMode.IDLE
            return dataclasses.replace(self._arm.state, mode=mode)

    def prepare(self, thresholds: ContactThresholds, payload: Payload) -> None:
        """Neither counts here: nothing stops this arm but what is in its way."""

    def move_line(self, tool: Array, speed: float, halt: threading.Event) -> None:
        """Move the tool to `T_base_tool` [4, 4] in a straight line. Raises MotionError."""
        with self._physics:
            line = self._arm.line(Keypose(*pose_of(np.asarray(tool, dtype=np.float64)), self._arm.opening))
        last = len(line) - 1

        def along(time_s: float) -> Array:
            return np.asarray(line[min(last, round(speed * time_s / TIMESTEP_S))])

        self._play(along, last * TIMESTEP_S / speed, halt)

    def move_joints(self, joints: Array, speed: float, halt: threading.Event) -> None:
        """Move to joints [7] in rad. Raises MotionError."""
        start, end = self._arm.commanded_joints, np.asarray(joints, dtype=np.float64)
        if end.shape != (7,) or not np.isfinite(end).all():
            raise MotionError(Refusal(Reason.NO_TRAJECTORY, f"no trajectory to {end.tolist()}: 7 finite joints needed"))
        fastest = float((PEAK_OVER_MEAN * np.abs(end - start) / np.array(JOINT_SPEEDS)).max())
        duration_s = max(MIN_MOTION_S, fastest) / speed

        def along(time_s: float) -> Array:
            done = time_s / duration_s
            return np.asarray(start + done**3 * (10.0 - 15.0 * done + 6.0 * done**2) * (end - start))

        self._play(along, duration_s, halt)

    def move_path(self, path: TimedPath, halt: threading.Event) -> None:
        """Follow a timed path of the joints without stopping on the way. Raises MotionError."""
        check_start(path, self.state())
        times = np.asarray(path.times_s, dtype=np.float64) - path.times_s[0]
        way = CubicHermiteSpline(times, path.joints, path.velocities)
        self._play(lambda time_s: np.asarray(way(time_s)), float(times[-1]), halt)

    def drive_gripper(self, opening: float, halt: threading.Event) -> float:
        """Drive the fingers and return their distance in metres. Raises MotionError."""
        with self._motion(halt, "halted before the gripper moved"):
            for _ in range(int(GRIPPER_S / TIMESTEP_S)):
                if halt.is_set():
                    with self._physics:
                        self._arm.step_gripper(self._arm.opening)
                    raise MotionError(Refusal(Reason.INTERRUPTED, "the gripper was halted"))
                with self._physics:
                    self._arm.step_gripper(opening)
                time.sleep(self._pause_s)
        return self.state().width

    def recover(self) -> None:
        """Nothing is ever lost here."""

    def close(self) -> None:
        """Nothing is held here."""

    @contextmanager
    def _motion(self, halt: threading.Event, halted: str) -> Iterator[None]:
        if halt.is_set():
            raise MotionError(Refusal(Reason.INTERRUPTED, halted))
        self._moving = True
        try:
            yield
        finally:
            self._moving = False

    def _play(self, along: Callable[[float], Array], duration_s: float, halt: threading.Event) -> None:
        """Move along joints [7] over time, and settle; a halt slows down on the way, never beside it."""
        time_s, rate = 0.0, 1.0
        with self._motion(halt, "halted before the motion began"):
            while time_s < duration_s and rate > 0.0:
                if halt.is_set():
                    rate -= TIMESTEP_S / BRAKE_S
                time_s = min(duration_s, time_s + max(0.0, rate) * TIMESTEP_S)
                with self._physics:
                    self._arm.step(along(time_s))
                time.sleep(self._pause_s)  # also of 0: whoever waits to look gets a turn
            self._settle()
            if rate < 1.0:
                raise MotionError(Refusal(Reason.INTERRUPTED, "the motion was halted"))

    def _settle(self) -> None:
        """Until the joints have arrived; something solid may be in the way."""
        target = self._arm.commanded_joints
        for _ in range(int(SETTLE_S / TIMESTEP_S)):
            with self._physics:
                if np.abs(self._arm.joint_positions - target).max() < SETTLED_RAD:
                    return
                self._arm.step(target)
