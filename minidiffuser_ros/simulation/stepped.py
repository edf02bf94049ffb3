"""The arm stepped directly, many times faster than real time: straight lines between keyposes, then the gripper.

The joints are held by MuJoCo's implicit position actuators with franky-sim's gains and by gravity compensation,
so that the arm ends where the one behind the Franka protocol does.
"""

from __future__ import annotations

from collections.abc import Callable

import mujoco
import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.arm.kinematics import HOME_JOINTS, MAX_GRIPPER_WIDTH, FrankaKinematics
from minidiffuser_ros.arm.model import FR3
from minidiffuser_ros.arm.protocol import ArmMode, ArmState
from minidiffuser_ros.contract.errors import MotionError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.contract.refusal import Reason, Refusal
from minidiffuser_ros.geometry.rotation import interpolate_quat
from minidiffuser_ros.geometry.transform import pose_of, transform_from
from minidiffuser_ros.simulation.world import PREFIX

Array = NDArray[np.float64]

TIMESTEP_S = 0.002
TRAJECTORY_STEPS = 10
TRAJECTORY_PERIOD_S = TRAJECTORY_STEPS * TIMESTEP_S
LINEAR_SPEED, ANGULAR_SPEED = 0.5, 2.0  # m/s and rad/s, means over a motion
JOINT_SPEEDS = FR3.velocity  # rad/s
WAYPOINT_SPACING = 0.02  # m
MIN_MOTION_S, SETTLE_S, GRIPPER_S = 0.2, 0.8, 0.5
SETTLED_RAD = 5e-4  # the overdamped joints creep towards their targets with a time constant of 0.1 s
SERVO_MOVE_S, SERVO_HOLD_S = 0.1, 0.15  # the hold lets the creeping joints catch up
SERVO_LEASH = (0.05, 15.0)  # m and degrees: farther ahead of the tool no small step leads
FINGER_STIFFNESS, FINGER_DAMPING, FINGER_FORCE = 1000.0, 50.0, 70.0  # N/m, N s/m, N for each finger


class SteppedArm:
    """Moves the arm in a compiled world. `after_step()` is called after every physics step."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, kinematics: FrankaKinematics) -> None:
        self._model, self._data, self._kinematics = model, data, kinematics
        self.after_step: Callable[[], None] = lambda: None
        self._trajectory: list[Array] = []
        joints = [model.joint(f"{PREFIX}fr3_joint{i}") for i in range(1, 8)]
        self._qpos = np.array([joint.qposadr[0] for joint in joints])
        self._dofs = np.array([joint.dofadr[0] for joint in joints])
        self._ctrl = np.array([model.actuator(f"{PREFIX}fr3_joint{i}").id for i in range(1, 8)])
        self._hand = model.actuator(PREFIX + "hand").id
        self._fingers = np.array([model.joint(f"{PREFIX}finger_joint{i}").qposadr[0] for i in (1, 2)])
        model.opt.timestep = TIMESTEP_S
        # One tendon (the mean of both fingers) drives the hand: twice the gain of a finger on each.
        model.actuator_gainprm[self._hand, :3] = (2 * FINGER_STIFFNESS, 0, 0)
        model.actuator_biasprm[self._hand, :3] = (0, -2 * FINGER_STIFFNESS, -2 * FINGER_DAMPING)
        model.actuator_forcerange[self._hand] = (-2 * FINGER_FORCE, 2 * FINGER_FORCE)
        model.actuator_ctrlrange[self._hand] = (0.0, 0.5 * MAX_GRIPPER_WIDTH)

    @property
    def joint_positions(self) -> Array:
        """[7] rad."""
        return np.array(self._data.qpos[self._qpos])

    @property
    def opening(self) -> float:
        """Gripper in [0, 1]."""
        return float(np.clip(self._data.qpos[self._fingers].sum() / MAX_GRIPPER_WIDTH, 0.0, 1.0))

    @property
    def asked_opening(self) -> float:
        """Where the gripper was told to be, in [0, 1]."""
        return float(self._data.ctrl[self._hand] / (0.5 * MAX_GRIPPER_WIDTH))

    @property
    def tool_transform(self) -> Array:
        """T_base_tool [4, 4]."""
        return self._kinematics.forward(self.joint_positions)

    @property
    def commanded_tool(self) -> Array:
        """T_base_tool [4, 4] that the arm was told to hold; where something is in its way, it is elsewhere."""
        return self._kinematics.forward(self._target)

    @property
    def state(self) -> ArmState:
        """As a real arm reports itself."""
        width = float(self._data.qpos[self._fingers].sum())
        velocities = np.array(self._data.qvel[self._dofs])
        return ArmState(self.joint_positions, self.tool_transform, width, ArmMode.IDLE, velocities)

    @property
    def commanded_joints(self) -> Array:
        """[7] rad that the arm was told to hold."""
        return self._target.copy()

    @property
    def trajectory(self) -> Array:
        """The way of the last motion [N, 9], every TRAJECTORY_PERIOD_S: seconds, joints in rad, gripper opening."""
        return np.array(self._trajectory).reshape(-1, 9)

    def home(self, opening: float) -> None:
        """Put the arm at its home joints at once, at rest; for resets only."""
        self._data.qpos[self._qpos] = HOME_JOINTS
        self._data.qvel[:] = 0.0
        self._data.qpos[self._fingers] = 0.5 * opening * MAX_GRIPPER_WIDTH
        self._data.ctrl[self._ctrl] = HOME_JOINTS
        self._data.ctrl[self._hand] = 0.5 * opening * MAX_GRIPPER_WIDTH
        self._target = np.array(HOME_JOINTS)
        mujoco.mj_forward(self._model, self._data)

    def execute(self, keypose: Keypose) -> None:
        """Move in a straight line, settle, then drive the gripper. Raises MotionError where the line cannot be."""
        path = self.plan(keypose)
        self._trajectory = []
        for joints in self._timed(path, keypose):
            self._step(joints)
        self._target = path[-1]
        self._settle()
        if abs(keypose.opening * 0.5 * MAX_GRIPPER_WIDTH - self._data.ctrl[self._hand]) > 1e-4:
            self._data.ctrl[self._hand] = keypose.opening * 0.5 * MAX_GRIPPER_WIDTH
            self._hold(GRIPPER_S)

    def _timed(self, path: Array, keypose: Keypose) -> Array:
        """Joints [N, 7] for each physics step along the path: minimum jerk, no joint faster than it may be."""
        distance, angle = keypose.distance_to(*pose_of(self._kinematics.forward(self._target)))
        duration = max(MIN_MOTION_S, distance / LINEAR_SPEED, np.deg2rad(angle) / ANGULAR_SPEED)
        joints = _along(path, int(duration / TIMESTEP_S))
        excess = float((np.abs(np.diff(joints, axis=0)) / (TIMESTEP_S * np.array(JOINT_SPEEDS))).max(initial=0.0))
        return joints if excess <= 1.0 else _along(path, int(np.ceil(excess * len(joints))))

    def line(self, keypose: Keypose) -> Array:
        """Joints [N, 7] for each physics step along the straight line to the keypose. Raises MotionError."""
        return self._timed(self.plan(keypose), keypose)

    def step(self, joints: Array) -> None:
        """One physics step towards joints [7] close to the commanded ones, which are held from now on."""
        self._target = np.array(joints, dtype=np.float64)
        self._step(self._target)

    def step_gripper(self, opening: float) -> None:
        """One physics step with the fingers on their way to `opening` [0, 1], which they are driven to from now on."""
        self._data.ctrl[self._hand] = opening * 0.5 * MAX_GRIPPER_WIDTH
        self._step(self._target)

    def servo(self, keypose: Keypose) -> None:
        """Move a little, in a quarter of a second whatever the way is, while the gripper drives on meanwhile.

        Where something is in the way the arm only goes on pushing as it does; many steps do not push ever harder.
        Raises MotionError where no joints near the commanded ones reach the keypose, or none in time; nothing moved.
        """
        start = self._target
        joints = self._kinematics.inverse(transform_from(keypose.position, keypose.quat_wxyz), start, seed_only=True)
        if joints is None or (np.abs(joints - start) > SERVO_MOVE_S * np.array(JOINT_SPEEDS)).any():
            raise MotionError(f"no joint configuration nearby reaches {np.round(keypose.position, 3).tolist()} m")
        if self._leads_too_far(keypose):
            joints = start
        self._trajectory = []
        self._data.ctrl[self._hand] = keypose.opening * 0.5 * MAX_GRIPPER_WIDTH
        for fraction in np.linspace(0.0, 1.0, int(SERVO_MOVE_S / TIMESTEP_S) + 1)[1:]:
            self._step(start + fraction * (joints - start))
        self._target = joints
        self._hold(SERVO_HOLD_S)
        # A step leaves the places of the bodies one timestep behind the joints, which shows while they move.
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)

    def _leads_too_far(self, keypose: Keypose) -> bool:
        """Whether it is beyond the leash and farther from the tool than the commanded pose."""
        tool, commanded = pose_of(self.tool_transform), Keypose(*pose_of(self.commanded_tool), keypose.opening)
        pairs = zip(keypose.distance_to(*tool), commanded.distance_to(*tool), SERVO_LEASH, strict=True)
        return any(ahead > max(before, leash) for ahead, before, leash in pairs)

    def plan(self, keypose: Keypose) -> Array:
        """Joint waypoints [N, 7] along the straight line from the commanded pose to the keypose."""
        start_position, start_quat = pose_of(self._kinematics.forward(self._target))
        distance, angle = keypose.distance_to(start_position, start_quat)
        count = 2 + int(max(distance / WAYPOINT_SPACING, angle / 5.0))
        fractions = np.linspace(0.0, 1.0, count)
        quats = interpolate_quat(start_quat, keypose.quat_wxyz, fractions)
        path = [self._target]
        for fraction, quat in zip(fractions[1:], quats[1:], strict=True):
            position = start_position + fraction * (keypose.position - start_position)
            joints = self._kinematics.inverse(transform_from(position, quat), path[-1])
            if joints is None:
                text = f"no joint configuration reaches {np.round(position, 3).tolist()} m on the way to the keypose"
                raise MotionError(Refusal(Reason.UNREACHABLE, text))
            path.append(joints)
        return np.array(path)

    def _settle(self) -> None:
        """Hold until the joints have arrived, at most SETTLE_S: something solid may be in the way."""
        for _ in range(int(SETTLE_S / TIMESTEP_S)):
            if np.abs(self.joint_positions - self._target).max() < SETTLED_RAD:
                return
            self._step(self._target)

    def _hold(self, seconds: float) -> None:
        for _ in range(int(seconds / TIMESTEP_S)):
            self._step(self._target)

    def _step(self, joints: Array) -> None:
        self._data.ctrl[self._ctrl] = joints
        self._data.qfrc_applied[self._dofs] = self._data.qfrc_bias[self._dofs]
        mujoco.mj_step(self._model, self._data)
        if round(self._data.time / TIMESTEP_S) % TRAJECTORY_STEPS == 0:
            self._trajectory.append(np.array([self._data.time, *self._data.qpos[self._qpos], self.opening]))
        self.after_step()


def _along(path: Array, steps: int) -> Array:
    """`path` [P, 7] at `steps` instants; no velocity or acceleration at either end."""
    time = np.linspace(0.0, 1.0, steps)
    progress = time**3 * (10.0 - 15.0 * time + 6.0 * time**2) * (len(path) - 1)
    lower = np.minimum(progress.astype(int), len(path) - 2)
    fraction = (progress - lower)[:, None]
    return np.asarray(path[lower] * (1.0 - fraction) + path[lower + 1] * fraction)
