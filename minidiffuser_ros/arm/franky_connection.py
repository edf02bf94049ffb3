"""The connection to a Franka: made in bounded time, lost at once, its exceptions translated where they arise.

What is worked around here was seen with franky-sim or is documented by libfranka: constructors may block for ever on a
silent peer; one process only can own an arm; a lost connection costs a second on every call and stays lost for that
object.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import franky
import numpy as np

from minidiffuser_ros.arm.command_thread import in_time
from minidiffuser_ros.arm.franky_settings import FrankySettings
from minidiffuser_ros.arm.kinematics import TCP_OFFSET
from minidiffuser_ros.arm.model import ArmModel
from minidiffuser_ros.arm.width_reader import WidthReader
from minidiffuser_ros.contract.errors import ConfigurationError, ConnectionLostError, MotionError
from minidiffuser_ros.contract.refusal import Reason, Refusal

T = TypeVar("T")

COMMAND_PORT = 1337

# libfranka lets some of the network library's own exceptions through, which franky shows as RuntimeError.
LOST = (franky.NetworkException, RuntimeError, TimeoutError)
# So does franky's planner with its own. It plans anew from an extrapolated state whenever this machine was late, and
# finds nothing from a few of those; from rest, where the arm stands after that, it does.
PLANNER_FAILED = "Motion planner failed"


class PlannerError(MotionError):
    """franky's planner gave up; the connection is as good as before."""


class FrankyConnection:
    """Arm and hand at one address. Connects when made; raises ConnectionLostError where that takes too long."""

    def __init__(self, address: str, settings: FrankySettings, model: ArmModel, abandon: threading.Event) -> None:
        """`abandon` ends the wait for the arm early."""
        self.address = address
        self.settings = settings
        self._model = model
        self._robot: Any = None
        self._gripper: Any = None
        self._widths: WidthReader | None = None
        self._connect(settings.connect_timeout_s, abandon)

    @property
    def lost(self) -> bool:
        """Whether there is none any more."""
        return self._robot is None

    def reconnect(self) -> None:
        """Connect again after a loss. Raises ConnectionLostError, ConfigurationError."""
        self._connect(self.settings.reconnect_timeout_s, threading.Event())

    def close(self) -> None:
        """Let go; harmless when called twice."""
        if self._widths is not None:
            self._widths.stop()
        self._robot = self._gripper = self._widths = None

    def devices(self) -> tuple[Any, Any]:
        """franky's robot and gripper. Raises ConnectionLostError."""
        robot, gripper = self._robot, self._gripper
        if robot is None or gripper is None:
            raise self._not_connected()
        return robot, gripper

    def width(self, not_before_s: float = float("-inf")) -> float:
        """Distance between the fingers in metres, of a reading no older than that. Raises ConnectionLostError."""
        widths = self._widths
        if widths is None:
            raise self._not_connected()
        return self.guarded(lambda: widths.width(not_before_s))

    def guarded(self, call: Callable[[], T]) -> T:
        """Translate franky's exceptions; a lost connection is dropped at once, for each further call costs a second.

        Raises MotionError with a code, ConnectionLostError.
        """
        try:
            return call()
        except franky.ControlException as error:
            raise MotionError(Refusal(Reason.REFLEX, f"the arm stopped by itself: {_sentence(error)}")) from error
        except LOST as error:
            if PLANNER_FAILED in str(error):
                text = f"no trajectory from where the arm is: {_sentence(error)}"
                raise PlannerError(Refusal(Reason.NO_TRAJECTORY, text)) from error
            self.close()
            raise ConnectionLostError(
                f"the arm at {self.address} stopped answering ({_sentence(error)}): recover to try again"
            ) from error
        except (franky.CommandException, franky.InvalidOperationException, franky.GripperException) as error:
            text = f"the arm refused a command: {_sentence(error)}"
            raise MotionError(Refusal(Reason.COMMAND_REFUSED, text)) from error

    def _connect(self, timeout_s: float, abandon: threading.Event) -> None:
        deadline = time.monotonic() + timeout_s
        self._await_port(timeout_s, abandon)
        config = franky.RealtimeConfig.Enforce if self.settings.realtime else franky.RealtimeConfig.Ignore
        answer_s = min(10.0, max(3.0, deadline - time.monotonic()))
        silent = (
            f"the arm at {self.address} accepts connections but does not answer: is another process connected to it? "
            "Only one can own an arm"
        )

        def open_both() -> tuple[Any, Any]:
            return franky.Robot(self.address, realtime_config=config), franky.Gripper(self.address)

        try:
            robot, gripper = in_time(open_both, answer_s, ConnectionLostError(silent))
        except franky.RealtimeException as error:
            raise ConfigurationError(f"this machine has no real-time kernel, set realtime to false: {error}") from error
        except franky.IncompatibleVersionException as error:
            raise ConfigurationError(
                f"the arm at {self.address} speaks another version of the protocol than the driver: "
                f"{_sentence(error)}; for a {self._model.title} with its newest system, {self._model.driver}"
            ) from error
        except LOST as error:
            raise ConnectionLostError(f"no connection to the arm at {self.address}: {error}") from error
        self._robot, self._gripper = robot, gripper
        self._widths = WidthReader(lambda: gripper.width)
        self._check_tool_frame()

    def _await_port(self, timeout_s: float, abandon: threading.Event) -> None:
        """Wait until something listens at the address: libfranka itself would wait a minute on a dead one."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                patience = min(1.0, max(0.1, deadline - time.monotonic()))
                socket.create_connection((self.address, COMMAND_PORT), timeout=patience).close()
                return
            except OSError as error:
                if abandon.wait(0.25):
                    raise ConnectionLostError(f"the wait for the arm at {self.address} was broken off") from error
                if time.monotonic() > deadline:
                    raise ConnectionLostError(
                        f"nothing answers at {self.address}:{COMMAND_PORT} within {timeout_s:g} s ({error}): "
                        "is the arm switched on, FCI activated and the address right?"
                    ) from error

    def _check_tool_frame(self) -> None:
        """Everything here believes in Franka's own hand: refuse an arm that is configured otherwise."""
        flange_to_tool = np.array(self.guarded(lambda: self._robot.state).F_T_EE.matrix)
        if abs(float(flange_to_tool[2, 3]) - TCP_OFFSET) > 1e-3 or np.abs(flange_to_tool[:2, 3]).max() > 1e-3:
            self.close()
            raise ConfigurationError(
                f"the arm's end effector lies {np.round(flange_to_tool[:3, 3], 4)} m from its flange, expected "
                f"Franka's hand at (0, 0, {TCP_OFFSET}): choose 'Franka Hand' as end effector in Desk"
            )

    def _not_connected(self) -> ConnectionLostError:
        return ConnectionLostError(f"not connected to the arm at {self.address}: recover to try again")


def _sentence(error: BaseException) -> str:
    """First line of libfranka's text, without its prefix and final stop."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].removeprefix("libfranka: ").rstrip(".")
