"""The gripper, judged by the distance of its fingers: what it holds, and whether it still does."""

from __future__ import annotations

import threading

from minidiffuser_ros.arm.execution_settings import ExecutionSettings
from minidiffuser_ros.arm.kinematics import MAX_GRIPPER_WIDTH
from minidiffuser_ros.arm.protocol import Arm
from minidiffuser_ros.contract.errors import MotionError
from minidiffuser_ros.contract.refusal import Reason, Refusal


class Grip:
    """Remembers the last command of an arm's gripper and what came of it."""

    def __init__(self, arm: Arm, settings: ExecutionSettings) -> None:
        self._arm, self._settings = arm, settings
        self._last: tuple[float, float] | None = None  # opening asked for and width reached
        self.opening_asked: float | None = None  # in [0, 1]; None before the first command

    @property
    def held_width(self) -> float:
        """Metres between the fingers when the last command had closed on something; 0 where nothing is held."""
        if self._last is None or self._is_empty(*self._last):
            return 0.0
        return self._last[1]

    def drive(self, opening: float, halt: threading.Event) -> str:
        """Drive the gripper to `opening` [0, 1] and say what the width means.

        Raises MotionError where it did not open so far, ConnectionLostError.
        """
        target, tolerance = opening * MAX_GRIPPER_WIDTH, self._settings.width_tolerance_m
        width = self._arm.state().width
        # The hand keeps the force and place of its last command: the same one again would only cost time.
        if self._last is None or self._last[0] != opening or abs(self._last[1] - width) > 0.25 * tolerance:
            self._last, self.opening_asked = None, opening  # for the case that this one is halted
            width = self._arm.drive_gripper(opening, halt)
            self._last = opening, width
        if width < target - tolerance:
            text = f"the gripper opened to {1e3 * width:.0f} mm instead of {1e3 * target:.0f} mm"
            raise MotionError(Refusal(Reason.WIDTH_MISSED, text))
        if self._is_empty(opening, width):
            return f"the gripper is at {1e3 * width:.0f} mm with nothing between the fingers"
        return f"the gripper holds something {1e3 * width:.0f} mm wide"

    def check_kept(self, width: float) -> None:
        """Raises MotionError where something was held and the fingers, `width` apart, hold nothing any more."""
        if self._last is None or not self.held_width or not self._is_empty(self._last[0], width):
            return
        held, self._last = self.held_width, (self._last[0], width)
        text = f"the gripper held something {1e3 * held:.0f} mm wide and has lost it on the way"
        raise MotionError(Refusal(Reason.OBJECT_LOST, text))

    def _is_empty(self, opening: float, width: float) -> bool:
        return width <= opening * MAX_GRIPPER_WIDTH + self._settings.width_tolerance_m
