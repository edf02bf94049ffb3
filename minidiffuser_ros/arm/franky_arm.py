"""A Franka arm with its hand, real or simulated, through franky (libfranka).

The same code drives both: franky-sim speaks the robot's own protocol. What is worked around here was seen there
or is documented by libfranka: constructors and gripper commands may block for ever on a silent peer; one process
only can own an arm; a lost connection costs a second on every call and stays lost for that object.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import franky
import numpy as np

from minidiffuser_ros.arm.kinematics import MAX_GRIPPER_WIDTH, TCP_OFFSET, FrankaKinematics
from minidiffuser_ros.arm.protocol import ArmMode, ArmState, Array
from minidiffuser_ros.arm.width_reader import WidthReader
from minidiffuser_ros.contract.errors import ConfigurationError, ConnectionLostError, MotionError

T = TypeVar("T")

COMMAND_PORT = 1337

MODES = {
    franky.RobotMode.Idle: ArmMode.IDLE,
    franky.RobotMode.Move: ArmMode.MOVING,
    franky.RobotMode.Guiding: ArmMode.GUIDED,
    franky.RobotMode.Reflex: ArmMode.ERROR,
    franky.RobotMode.AutomaticErrorRecovery: ArmMode.ERROR,
}

# libfranka lets some of the network library's own exceptions through, which franky shows as RuntimeError.
LOST = (franky.NetworkException, RuntimeError, TimeoutError)
# So does franky's planner with its own. It plans anew from an extrapolated state whenever this machine was late, and
# finds nothing from a few of those; from rest, where the arm stands after that, it does.
PLANNER_FAILED = "Motion planner failed"
PLANNER_ATTEMPTS = 3
PLANNER_PAUSE_S = 0.2
BRAKE_S = 3.0


@dataclass(frozen=True)
class FrankySettings:
    """How to reach and drive the arm."""

    realtime: bool = field(
        default=False, metadata={"description": "Insist on a real-time kernel; a simulated arm needs none"}
    )
    connect_timeout_s: float = field(
        default=60.0,
        metadata={"description": "How long to wait for the arm at the start", "unit": "s", "range": (0.1, 3600.0)},
    )
    reconnect_timeout_s: float = field(
        default=5.0, metadata={"description": "The same when recovering", "unit": "s", "range": (0.1, 3600.0)}
    )
    motion_timeout_s: float = field(
        default=60.0, metadata={"description": "Longest single motion", "unit": "s", "range": (1.0, 600.0)}
    )
    gripper_timeout_s: float = field(
        default=8.0, metadata={"description": "Longest gripper motion", "unit": "s", "range": (1.0, 60.0)}
    )
    gripper_speed: float = field(
        default=0.05, metadata={"description": "Speed of the fingers", "unit": "m/s", "range": (0.005, 0.1)}
    )
    gripper_force: float = field(
        default=25.0, metadata={"description": "Force of a grasp", "unit": "N", "range": (1.0, 70.0)}
    )

    guiding_damping: float = field(
        default=3.0,
        metadata={"description": "Resistance to being led by hand", "unit": "Nm s/rad", "range": (0.0, 20.0)},
    )

    def __post_init__(self) -> None:
        if not 0.0 < self.gripper_speed <= 0.1:
            raise ConfigurationError(f"gripper_speed must lie in (0, 0.1] m/s, got {self.gripper_speed}")
        if not 0.0 < self.gripper_force <= 70.0:
            raise ConfigurationError(f"gripper_force must lie in (0, 70] N, got {self.gripper_force}")
        if min(self.connect_timeout_s, self.motion_timeout_s, self.gripper_timeout_s) <= 0.0:
            raise ConfigurationError("connect_timeout_s, motion_timeout_s and gripper_timeout_s must be positive")


class FrankyArm:
    """The arm at one address. Connects when made; raises ConnectionLostError where that takes too long."""

    def __init__(
        self, address: str, settings: FrankySettings | None = None, abandon: threading.Event | None = None
    ) -> None:
        """`abandon` ends the wait for the arm early."""
        self.address = address
        self.settings = settings or FrankySettings()
        self._io = threading.Lock()  # libfranka allows one reader at rest, and none while a motion starts
        self._robot: Any = None
        self._gripper: Any = None
        self._widths: WidthReader | None = None
        self._connect(self.settings.connect_timeout_s, abandon or threading.Event())

    def state(self) -> ArmState:
        """The newest reading. Raises ConnectionLostError."""
        robot, _ = self._devices()
        with self._io:
            reading = self._guarded(lambda: robot.state)
        width = self._width()
        return ArmState(
            joints=np.array(reading.q, dtype=np.float64),
            tool=np.array(reading.O_T_EE.matrix, dtype=np.float64),
            width=width,
            mode=MODES.get(reading.robot_mode, ArmMode.STOPPED),
            velocities=np.array(reading.dq, dtype=np.float64),
        )

    def move_line(self, tool: Array, speed: float, halt: threading.Event) -> None:
        """Move the tool to `T_base_tool` [4, 4] in a straight line. Raises MotionError, ConnectionLostError."""
        target = franky.Affine(np.asarray(tool))
        motion = partial(franky.CartesianMotion, target, relative_dynamics_factor=speed)
        self._move(motion, franky.CartesianStopMotion, halt)

    def move_joints(self, joints: Array, speed: float, halt: threading.Event) -> None:
        """Move to joints [7] in rad. Raises MotionError, ConnectionLostError."""
        target = np.asarray(joints, dtype=np.float64)
        motion = partial(franky.JointMotion, target, relative_dynamics_factor=speed)
        self._move(motion, franky.JointStopMotion, halt)

    def follow(self, twist: Array, hold_s: float, dynamics: float) -> None:
        """Take over a twist [6] in the base frame in place of the last one, and return at once.

        Without another one within `hold_s` the arm brakes. Raises MotionError, ConnectionLostError, for what has gone
        wrong since the last call, too.
        """
        robot, _ = self._devices()
        hold = franky.Duration(int(1e3 * hold_s))
        # A motion that ended at speed would be a jump: a second waypoint slows down to rest.
        waypoints = [
            franky.CartesianVelocityWaypoint(_velocity(twist), hold_target_duration=hold),
            franky.CartesianVelocityWaypoint(_velocity(np.zeros(6))),
        ]
        motion = franky.CartesianVelocityWaypointMotion(waypoints, relative_dynamics_factor=dynamics)
        with self._io:
            self._guarded(lambda: robot.move(motion, asynchronous=True))

    def end_following(self, dynamics: float) -> None:
        """Brake and wait for the end of it; harmless at rest. Raises MotionError, ConnectionLostError."""
        robot, _ = self._devices()
        if not self._guarded(lambda: robot.join_motion(timeout=0.0)):
            self._brake(robot, partial(franky.CartesianVelocityStopMotion, relative_dynamics_factor=dynamics))

    def begin_guiding(self) -> None:
        """Give way to whoever leads the arm by hand; returns at once. Raises MotionError, ConnectionLostError.

        Joint torques without a spring: gravity is compensated by the arm itself, some damping keeps it from gliding
        on, and near the joints' limits it pushes back.
        """
        robot, _ = self._devices()
        low, high = FrankaKinematics().limits
        motion = franky.JointImpedanceTrackingMotion(
            stiffness=np.zeros(7),
            damping=np.full(7, self.settings.guiding_damping),
            lower_joint_limits=low,
            upper_joint_limits=high,
        )
        with self._io:
            self._guarded(lambda: robot.move(motion, asynchronous=True))

    def guiding_ended(self) -> bool:
        """Whether the arm has stopped giving way. Raises MotionError for its reason, ConnectionLostError."""
        robot, _ = self._devices()
        return bool(self._guarded(lambda: robot.join_motion(timeout=0.0)))

    def end_guiding(self) -> None:
        """Come to rest and stand still; harmless when it does. Raises MotionError, ConnectionLostError."""
        robot, _ = self._devices()
        if not self.guiding_ended():
            self._brake(robot, franky.TorqueStopMotion)

    def drive_gripper(self, opening: float, halt: threading.Event) -> float:
        """Drive the fingers and return their distance in metres. Raises MotionError, ConnectionLostError.

        Closing is a grasp with an epsilon as wide as the hand: the fingers stop at whatever is between them and
        keep pressing. What franky answers says nothing then; the width does.
        """
        _, gripper = self._devices()
        s, target = self.settings, opening * MAX_GRIPPER_WIDTH
        if target < self._width():
            everything = (MAX_GRIPPER_WIDTH, MAX_GRIPPER_WIDTH)
            self._await_gripper(lambda: gripper.grasp(target, s.gripper_speed, s.gripper_force, *everything), halt)
        else:
            self._await_gripper(lambda: gripper.move(target, s.gripper_speed), halt)
        return self._width(not_before_s=time.monotonic())

    def recover(self) -> None:
        """Reconnect, or clear a reflex. Raises ConnectionLostError, MotionError."""
        if self._robot is None:
            self._connect(self.settings.reconnect_timeout_s, threading.Event())
            return
        if not self._guarded(self._robot.recover_from_errors):
            raise MotionError("the arm did not recover: release the emergency stop and unlock the brakes in Desk")

    def close(self) -> None:
        """Let go of the arm; harmless when called twice. Halt what still moves before."""
        if self._widths is not None:
            self._widths.stop()
        self._robot = self._gripper = self._widths = None

    # -- the connection

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
            robot, gripper = _in_time(open_both, answer_s, ConnectionLostError(silent))
        except franky.RealtimeException as error:
            raise ConfigurationError(f"this machine has no real-time kernel, set realtime to false: {error}") from error
        except (franky.IncompatibleVersionException, *LOST) as error:
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
        flange_to_tool = np.array(self._guarded(lambda: self._robot.state).F_T_EE.matrix)
        if abs(float(flange_to_tool[2, 3]) - TCP_OFFSET) > 1e-3 or np.abs(flange_to_tool[:2, 3]).max() > 1e-3:
            self.close()
            raise ConfigurationError(
                f"the arm's end effector lies {np.round(flange_to_tool[:3, 3], 4)} m from its flange, expected "
                f"Franka's hand at (0, 0, {TCP_OFFSET}): choose 'Franka Hand' as end effector in Desk"
            )

    def _devices(self) -> tuple[Any, Any]:
        robot, gripper = self._robot, self._gripper
        if robot is None or gripper is None:
            raise self._not_connected()
        return robot, gripper

    def _not_connected(self) -> ConnectionLostError:
        return ConnectionLostError(f"not connected to the arm at {self.address}: recover to try again")

    def _width(self, not_before_s: float = float("-inf")) -> float:
        widths = self._widths
        if widths is None:
            raise self._not_connected()
        return self._guarded(lambda: widths.width(not_before_s))

    def _guarded(self, call: Callable[[], T]) -> T:
        """Translate franky's exceptions; a lost connection is dropped at once, for each further call costs a second."""
        try:
            return call()
        except franky.ControlException as error:
            raise MotionError(f"the arm stopped by itself: {_sentence(error)}") from error
        except LOST as error:
            if PLANNER_FAILED in str(error):
                raise _PlannerError(f"no trajectory from where the arm is: {_sentence(error)}") from error
            self.close()
            raise ConnectionLostError(
                f"the arm at {self.address} stopped answering ({_sentence(error)}): recover to try again"
            ) from error
        except (franky.CommandException, franky.InvalidOperationException, franky.GripperException) as error:
            raise MotionError(f"the arm refused a command: {_sentence(error)}") from error

    # -- motions

    def _move(self, motion: Callable[[], Any], stop_motion: Callable[[], Any], halt: threading.Event) -> None:
        """Run a motion; where the planner fails, which leaves the arm at rest, plan it again from there."""
        for _ in range(PLANNER_ATTEMPTS - 1):
            with contextlib.suppress(_PlannerError):
                self._run_motion(motion(), stop_motion, halt)
                return
            halt.wait(PLANNER_PAUSE_S)
        self._run_motion(motion(), stop_motion, halt)

    def _run_motion(self, motion: Any, stop_motion: Callable[[], Any], halt: threading.Event) -> None:
        """Run one motion in slices, so that a halt is seen within milliseconds and no error is left behind."""
        robot, _ = self._devices()
        deadline = time.monotonic() + self.settings.motion_timeout_s
        if halt.is_set():
            raise MotionError("halted before the motion began")
        with self._io:
            self._guarded(lambda: robot.move(motion, asynchronous=True))
        while not self._guarded(lambda: robot.join_motion(timeout=0.02)):
            late = time.monotonic() > deadline
            if halt.is_set() or late:
                self._brake(robot, stop_motion)
                raise MotionError(
                    f"the motion took more than {self.settings.motion_timeout_s:g} s"
                    if late
                    else "the motion was halted"
                )

    def _brake(self, robot: Any, stop_motion: Callable[[], Any]) -> None:
        """Decelerate within the arm's limits; where that does not work, let the controller brake hard."""
        self._guarded(lambda: robot.move(stop_motion(), asynchronous=True))
        if not self._guarded(lambda: robot.join_motion(timeout=BRAKE_S)):
            self._guarded(robot.stop)

    def _await_gripper(self, command: Callable[[], Any], halt: threading.Event) -> None:
        if halt.is_set():
            raise MotionError("halted before the gripper moved")
        silent = ConnectionLostError(
            f"the gripper at {self.address} did not finish within {self.settings.gripper_timeout_s:g} s: recover to "
            "try again"
        )

        def run() -> Any:
            return self._guarded(command)

        try:
            _in_time(run, self.settings.gripper_timeout_s, silent, halt)
        except _HaltedError as error:
            _, gripper = self._devices()
            self._guarded(gripper.stop)
            raise MotionError("the gripper was halted") from error


class _PlannerError(MotionError):
    """franky's planner gave up; the connection is as good as before."""


class _HaltedError(Exception):
    """The wait of `_in_time` was cut short by its event."""


def _in_time(call: Callable[[], T], timeout_s: float, late: Exception, halt: threading.Event | None = None) -> T:
    """Result of a call that may block for ever inside libfranka: run aside and left alone when time is up."""
    answers: queue.Queue[tuple[bool, Any]] = queue.Queue()

    def run() -> None:
        try:
            answers.put((True, call()))
        except Exception as error:  # handed to the caller's thread
            answers.put((False, error))

    threading.Thread(target=run, daemon=True, name="libfranka-call").start()
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            succeeded, value = answers.get(timeout=0.02)
        except queue.Empty:
            if halt is not None and halt.is_set():
                raise _HaltedError from None
            if time.monotonic() > deadline:
                raise late from None
            continue
        if succeeded:
            return value  # type: ignore[no-any-return]
        raise value


def _velocity(twist: Array) -> Any:
    """franky's velocity of the tool from a twist [6] in the base frame."""
    return franky.RobotVelocity(franky.Twist(twist[:3], twist[3:]))


def _sentence(error: BaseException) -> str:
    """First line of libfranka's text, without its prefix and final stop."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].removeprefix("libfranka: ").rstrip(".")
