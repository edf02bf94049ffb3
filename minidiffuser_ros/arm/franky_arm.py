"""A Franka arm with its hand, real or simulated, through franky (libfranka).

The same code drives both: franky-sim speaks the robot's own protocol. One thread at a time asks for motions; gripper
commands, which may block for ever on a silent hand, run in a second one. franky tells the errors of a motion only at
the next join or move: every motion here is joined to its end, so that none is lost.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import franky
import numpy as np

from minidiffuser_ros.arm.command_thread import CommandThread, HaltedError
from minidiffuser_ros.arm.contact import ContactThresholds, Payload
from minidiffuser_ros.arm.franky_connection import FrankyConnection, PlannerError
from minidiffuser_ros.arm.franky_settings import FrankySettings
from minidiffuser_ros.arm.kinematics import JOINT_LIMIT_MARGIN, MAX_GRIPPER_WIDTH
from minidiffuser_ros.arm.model import FR3, ArmModel
from minidiffuser_ros.arm.path_waypoints import PathWaypoints
from minidiffuser_ros.arm.protocol import START_TOLERANCE_RAD, ArmMode, ArmState, Array, TimedPath, check_start
from minidiffuser_ros.contract.errors import ConnectionLostError, MotionError
from minidiffuser_ros.contract.refusal import Reason, Refusal, codes_of

MODES = {
    franky.RobotMode.Idle: ArmMode.IDLE,
    franky.RobotMode.Move: ArmMode.MOVING,
    franky.RobotMode.Guiding: ArmMode.GUIDED,
    franky.RobotMode.Reflex: ArmMode.ERROR,
    franky.RobotMode.AutomaticErrorRecovery: ArmMode.ERROR,
}

PLANNER_ATTEMPTS = 3
PLANNER_PAUSE_S = 0.2
PATH_ATTEMPTS = 6  # it plans at every waypoint, so that it gives up more often
BRAKE_S = 3.0
GRIPPER_STOP_S = 2.0
FINGERS_REST_S, FINGERS_TREMBLE_M = 0.3, 0.0005  # how long they are watched, and how far they may move in it
# franky flies from waypoint to waypoint with no acceleration at any of them: closer ones make the way jerky, farther
# ones let it leave the path (on franky-sim 2 mrad with 0.1 s at moderate speed, 9 mrad with 0.4 s).
WAYPOINT_PERIOD_S = 0.1
RAMP_S = 0.5


class FrankyArm:
    """The arm at one address. Connects when made; raises ConnectionLostError where that takes too long."""

    def __init__(
        self,
        address: str,
        settings: FrankySettings | None = None,
        abandon: threading.Event | None = None,
        model: ArmModel = FR3,
    ) -> None:
        """`abandon` ends the wait for the arm early."""
        self.address = address
        self.settings = settings or FrankySettings()
        self._model = model
        self._io = threading.Lock()  # libfranka allows one reader at rest, and none while a motion starts
        self._connection = FrankyConnection(address, self.settings, model, abandon or threading.Event())
        self._hand = CommandThread("gripper")

    def state(self) -> ArmState:
        """The newest reading. Raises ConnectionLostError."""
        robot, _ = self._connection.devices()
        with self._io:
            reading = self._guarded(lambda: robot.state)
        return ArmState(
            joints=np.array(reading.q, dtype=np.float64),
            tool=np.array(reading.O_T_EE.matrix, dtype=np.float64),
            width=self._connection.width(),
            mode=MODES.get(reading.robot_mode, ArmMode.STOPPED),
            velocities=np.array(reading.dq, dtype=np.float64),
            clock_s=reading.time.to_sec(),
        )

    # -- motions

    def prepare(self, thresholds: ContactThresholds, payload: Payload) -> None:
        """How hard the arm may touch, and what the hand carries. Raises MotionError, ConnectionLostError.

        franky-sim takes both and heeds neither.
        """
        robot, _ = self._connection.devices()
        t = thresholds
        with self._io:
            self._guarded(
                lambda: robot.set_collision_behavior(
                    t.joint_contact, t.joint_collision, t.tool_contact, t.tool_collision
                )
            )
            inertia = payload.inertia_matrix.ravel(order="F").tolist()
            self._guarded(lambda: robot.set_load(payload.mass, list(payload.center), inertia))

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

    def move_path(self, path: TimedPath, halt: threading.Event) -> None:
        """Follow a timed path of the joints without stopping on the way. Raises MotionError, ConnectionLostError.

        Where franky's planner gives up on the way, which stops the arm, the rest is followed from there.
        """
        check_start(path, self.state())
        way, begin_s = PathWaypoints(path), 0.0
        for _ in range(PATH_ATTEMPTS - 1):
            with contextlib.suppress(PlannerError):
                self._run_motion(_along(way, begin_s), franky.JointStopMotion, halt)
                return
            halt.wait(PLANNER_PAUSE_S)
            begin_s, away = way.nearest(self.state().joints)
            if away > START_TOLERANCE_RAD:
                text = f"the arm stopped {away:.3f} rad beside its path, at most {START_TOLERANCE_RAD:g}: plan it anew"
                raise MotionError(Refusal(Reason.NO_TRAJECTORY, text))
        self._run_motion(_along(way, begin_s), franky.JointStopMotion, halt)

    def follow(self, twist: Array, hold_s: float, dynamics: float) -> None:
        """Take over a twist [6] in the base frame in place of the last one, and return at once.

        Without another one within `hold_s` the arm brakes. Raises MotionError, ConnectionLostError, for what has gone
        wrong since the last call, too.
        """
        robot, _ = self._connection.devices()
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
        robot, _ = self._connection.devices()
        if not self._guarded(lambda: robot.join_motion(timeout=0.0)):
            self._brake(robot, partial(franky.CartesianVelocityStopMotion, relative_dynamics_factor=dynamics))

    def begin_guiding(self) -> None:
        """Give way to whoever leads the arm by hand; returns at once. Raises MotionError, ConnectionLostError.

        Joint torques without a spring: gravity is compensated by the arm itself, some damping keeps it from gliding
        on, and near the joints' limits it pushes back.
        """
        robot, _ = self._connection.devices()
        low, high = self._model.position_limits(JOINT_LIMIT_MARGIN)
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
        robot, _ = self._connection.devices()
        return bool(self._guarded(lambda: robot.join_motion(timeout=0.0)))

    def end_guiding(self) -> None:
        """Come to rest and stand still; harmless when it does. Raises MotionError, ConnectionLostError."""
        robot, _ = self._connection.devices()
        if not self.guiding_ended():
            self._brake(robot, franky.TorqueStopMotion)

    # -- the hand

    def drive_gripper(self, opening: float, halt: threading.Event) -> float:
        """Drive the fingers and return their distance in metres. Raises MotionError, ConnectionLostError.

        Closing is a grasp with an epsilon as wide as the hand: the fingers stop at whatever is between them and
        keep pressing. What franky answers says nothing then; the width does. Nor does it say anything of fingers that
        tremble against what is in their way and are never still enough for the hand: they are where they can be, and
        press on until the next command.
        """
        _, gripper = self._connection.devices()
        if not self._hand.wait(0.0):
            self._stop_gripper()
        s, target = self.settings, opening * MAX_GRIPPER_WIDTH
        if target < self._connection.width():
            everything = (MAX_GRIPPER_WIDTH, MAX_GRIPPER_WIDTH)
            self._await_gripper(lambda: gripper.grasp(target, s.gripper_speed, s.gripper_force, *everything), halt)
        else:
            self._await_gripper(lambda: gripper.move(target, s.gripper_speed), halt)
        return self._connection.width(not_before_s=time.monotonic())

    # -- after trouble

    def recover(self) -> None:
        """Reconnect, or clear a reflex. Raises ConnectionLostError, MotionError."""
        self._abandon_gripper()
        if self._connection.lost:
            self._connection.reconnect()
            return
        robot, _ = self._connection.devices()
        if not self._guarded(robot.recover_from_errors) or self.state().mode is ArmMode.STOPPED:
            text = "the arm did not recover: release the emergency stop and unlock the brakes in Desk"
            raise MotionError(Refusal(Reason.USER_STOPPED, text))

    def close(self) -> None:
        """Let go of the arm; harmless when called twice. Halt what still moves before."""
        self._hand.close()
        self._connection.close()

    # -- inner workings

    def _guarded(self, call: Callable[[], Any]) -> Any:
        return self._connection.guarded(call)

    def _move(self, motion: Callable[[], Any], stop_motion: Callable[[], Any], halt: threading.Event) -> None:
        """Run a motion; where the planner fails, which leaves the arm at rest, plan it again from there."""
        for _ in range(PLANNER_ATTEMPTS - 1):
            with contextlib.suppress(PlannerError):
                self._run_motion(motion(), stop_motion, halt)
                return
            halt.wait(PLANNER_PAUSE_S)
        self._run_motion(motion(), stop_motion, halt)

    def _run_motion(self, motion: Any, stop_motion: Callable[[], Any], halt: threading.Event) -> None:
        """Run one motion in slices, so that a halt is seen within milliseconds and no error is left behind."""
        robot, _ = self._connection.devices()
        deadline = time.monotonic() + self.settings.motion_timeout_s
        if halt.is_set():
            raise MotionError(Refusal(Reason.INTERRUPTED, "halted before the motion began"))
        with self._io:
            self._guarded(lambda: robot.move(motion, asynchronous=True))
        while not self._joined(robot):
            if halt.is_set():
                self._brake(robot, stop_motion)
                raise MotionError(Refusal(Reason.INTERRUPTED, "the motion was halted"))
            if time.monotonic() > deadline:
                self._brake(robot, stop_motion)
                text = f"the motion took more than {self.settings.motion_timeout_s:g} s"
                raise MotionError(Refusal(Reason.TIMED_OUT, text))

    def _joined(self, robot: Any) -> bool:
        """Whether the motion has ended. Raises MotionError, of a user stop where the arm says that it was one."""
        try:
            return bool(self._guarded(lambda: robot.join_motion(timeout=0.02)))
        except MotionError as error:
            if Reason.REFLEX in codes_of([error.reason]) and self.state().mode is ArmMode.STOPPED:
                raise MotionError(Refusal(Reason.USER_STOPPED, str(error))) from error
            raise

    def _brake(self, robot: Any, stop_motion: Callable[[], Any]) -> None:
        """Decelerate within the arm's limits; where that does not work, let the controller brake hard."""
        self._guarded(lambda: robot.move(stop_motion(), asynchronous=True))
        if not self._guarded(lambda: robot.join_motion(timeout=BRAKE_S)):
            self._guarded(robot.stop)

    def _await_gripper(self, command: Callable[[], Any], halt: threading.Event) -> None:
        if halt.is_set():
            raise MotionError(Refusal(Reason.INTERRUPTED, "halted before the gripper moved"))
        silent = ConnectionLostError(
            f"the gripper at {self.address} did not finish within {self.settings.gripper_timeout_s:g} s: recover to "
            "try again"
        )
        try:
            self._hand.run(lambda: self._guarded(command), self.settings.gripper_timeout_s, silent, halt)
        except HaltedError as error:
            self._stop_gripper()
            raise MotionError(Refusal(Reason.INTERRUPTED, "the gripper was halted")) from error
        except ConnectionLostError as error:
            if error is not silent or not self._fingers_rest():
                raise

    def _stop_gripper(self) -> None:
        """The simulated hand never answers a command that it was told to stop."""
        _, gripper = self._connection.devices()
        self._guarded(gripper.stop)
        self._hand.wait(GRIPPER_STOP_S)
        self._abandon_gripper()

    def _abandon_gripper(self) -> None:
        """Whatever the last command still waits for: the next one does not."""
        if not self._hand.wait(0.0):
            self._hand.close()
            self._hand = CommandThread("gripper")

    def _fingers_rest(self) -> bool:
        """Whether the fingers tremble at most. Raises ConnectionLostError where the hand says nothing any more."""
        end, widths = time.monotonic() + FINGERS_REST_S, [self._connection.width(not_before_s=time.monotonic())]
        while time.monotonic() < end:
            widths.append(self._connection.width(not_before_s=time.monotonic()))
        return max(widths) - min(widths) < FINGERS_TREMBLE_M


def _along(way: PathWaypoints, begin_s: float) -> Any:
    """franky's motion along the rest of a path."""
    period_s, joints, velocities = way.after(begin_s, WAYPOINT_PERIOD_S, RAMP_S)
    period = franky.Duration(int(1e3 * period_s))
    states = [franky.JointState(*state) for state in zip(joints, velocities, strict=True)]
    return franky.JointWaypointMotion([franky.JointWaypoint(state, minimum_time=period) for state in states])


def _velocity(twist: Array) -> Any:
    """franky's velocity of the tool from a twist [6] in the base frame."""
    return franky.RobotVelocity(franky.Twist(twist[:3], twist[3:]))
