"""Forward and inverse kinematics of a Franka arm with its hand.

The arm is the MJCF model that franky-sim carries, reduced to its skeleton (no meshes, no fingers), so that the
policy, the checks before a motion and the simulated arm all believe in the same numbers. Base frame
`fr3_link0`, tool frame `fr3_hand_tcp`: between the fingertips, axes as the hand's. The links of the older Franka
Emika Robot have the same lengths: an `ArmModel` changes the limits of the joints only.
"""

from __future__ import annotations

import importlib.util
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from minidiffuser_ros.arm.model import FR3, ArmModel
from minidiffuser_ros.contract.errors import ConfigurationError

Array = NDArray[np.float64]

HOME_JOINTS: tuple[float, ...] = (0.0, -np.pi / 4, 0.0, -3 * np.pi / 4, 0.0, np.pi / 2, np.pi / 4)
MAX_GRIPPER_WIDTH = 0.08
TCP_OFFSET = 0.1034
JOINT_NAMES: tuple[str, ...] = FR3.joint_names
FINGER_NAMES: tuple[str, ...] = ("fr3_finger_joint1", "fr3_finger_joint2")
STATE_NAMES = (*JOINT_NAMES, *FINGER_NAMES)
LINK_NAMES: tuple[str, ...] = (*(f"fr3_link{i}" for i in range(8)), "hand")
BASE_FRAME = FR3.base_frame
TOOL_FRAME = "fr3_hand_tcp"

# The arm turns about its shoulder, and the wrist, WRIST_M behind the tool along its axis, is never farther from it
# than REACH_M.
SHOULDER_HEIGHT_M, WRIST_M = 0.333, 0.2104
REACH_M = float(np.hypot(0.316, 0.0825) + np.hypot(0.384, 0.0825) + 0.088)
# A turn by 1 rad counts as much as a way of this length: the lever of the hand and wrist behind the tool.
LEVER_M = 0.2

# Franka's controller refuses motions well before the mechanical end; keep this far away from it.
JOINT_LIMIT_MARGIN = 0.03


@dataclass(frozen=True)
class InverseSettings:
    """Damped least squares: tolerances in metres and radians, damping in the units of the Jacobian."""

    position_tolerance: float = 1e-5
    rotation_tolerance: float = 1e-4
    damping: float = 0.02
    max_iterations: int = 60
    max_joint_step: float = 0.3
    restarts: int = 4
    wide_restarts: int = 80
    wide_iterations: int = 40


class FrankaKinematics:
    """Kinematics of one arm. Not thread-safe: each thread that needs it makes its own (it takes 2 ms)."""

    def __init__(
        self, settings: InverseSettings | None = None, margin: float = JOINT_LIMIT_MARGIN, model: ArmModel = FR3
    ) -> None:
        self.settings = settings or InverseSettings()
        self._model = _skeleton()
        self._data = mujoco.MjData(self._model)
        self._tool = mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_SITE, TOOL_FRAME)
        self._links = {name: mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_BODY, name) for name in LINK_NAMES}
        self._lower, self._upper = model.position_limits(margin)
        self._jacobian = np.zeros((6, 7))

    @property
    def limits(self) -> tuple[Array, Array]:
        """Lowest and highest allowed joint positions [7] in radians, the margin already taken off."""
        return self._lower.copy(), self._upper.copy()

    def within_limits(self, joints: ArrayLike) -> bool:
        """Whether joints [7] lie inside the limits."""
        q = np.asarray(joints, dtype=np.float64)
        return bool((q >= self._lower).all() and (q <= self._upper).all())

    def forward(self, joints: ArrayLike) -> Array:
        """`T_base_tool` [4, 4] of joint positions [7] in radians."""
        self._update(joints)
        return _transform(self._data.site_xpos[self._tool], self._data.site_xmat[self._tool])

    def link_transforms(self, joints: ArrayLike) -> dict[str, Array]:
        """`T_base_link` [4, 4] of every link and the hand, by name."""
        self._update(joints)
        return {name: _transform(self._data.xpos[body], self._data.xmat[body]) for name, body in self._links.items()}

    def jacobian(self, joints: ArrayLike) -> Array:
        """Geometric Jacobian [6, 7] of the tool in the base frame: linear velocity above angular."""
        self._update(joints)
        return self._site_jacobian().copy()

    def inverse(self, transform: ArrayLike, seed: ArrayLike, seed_only: bool = False) -> Array | None:
        """Joints [7] within the limits whose tool pose is `T_base_tool` [4, 4], or None where none was found.

        The search starts at `seed` [7] and stays near it where it can; unless `seed_only` it is repeated from other
        postures, first near the seed, then anywhere, because a local search may end at a limit.
        """
        target = np.asarray(transform, dtype=np.float64)
        if self._is_far(target):
            return None
        start = np.clip(np.asarray(seed, dtype=np.float64), self._lower, self._upper)
        solution = self._descend(target, start)
        if solution is not None or seed_only:
            return solution
        # Fixed draws: the same question always has the same answer.
        rng = np.random.default_rng(0)
        for attempt in range(self.settings.restarts):
            posture = np.array(HOME_JOINTS) if attempt == 0 else start + rng.normal(0.0, 0.5, 7)
            posture[0] = np.arctan2(target[1, 3], target[0, 3])
            solution = self._descend(target, np.clip(posture, self._lower, self._upper))
            if solution is not None:
                return solution
        # What is left lies near several limits at once, where a search ends in a corner: many short ones find it.
        for _ in range(self.settings.wide_restarts):
            posture = rng.uniform(self._lower, self._upper)
            posture[0] = np.arctan2(target[1, 3], target[0, 3]) + rng.normal()
            posture = np.clip(posture, self._lower, self._upper)
            solution = self._descend(target, posture, self.settings.wide_iterations)
            if solution is not None:
                return solution
        return None

    def smallest_singular_value(self, joints: ArrayLike) -> float:
        """Of the Jacobian in metres, turns counted with a lever of LEVER_M: metres per rad of joint motion.

        The least that the tool moves, in its worst direction, when the joints [7] move by 1 rad together.
        """
        jacobian = self.jacobian(joints)
        jacobian[3:] *= LEVER_M
        return float(np.linalg.svd(jacobian, compute_uv=False)[-1])

    def elbow_angle(self, joints: ArrayLike) -> float:
        """Where the elbow stands on its circle about the line from shoulder to wrist, in rad; 0 is straight above.

        Undefined where that line is vertical. Two postures for one tool pose differ in it.
        """
        self._update(joints)
        places = [self._data.xpos[self._links[name]] for name in ("fr3_link2", "fr3_link4", "fr3_link6")]
        axis = places[2] - places[0]
        elbow = places[1] - places[0]
        side = np.cross((0.0, 0.0, 1.0), axis)
        above = np.cross(axis, side) / max(float(np.linalg.norm(axis)), 1e-9)
        return float(np.arctan2(elbow @ side, elbow @ above))

    def _is_far(self, target: Array) -> bool:
        """Whether it can be told without a search that nothing reaches so far."""
        wrist = target[:3, 3] - WRIST_M * target[:3, 2]
        return float(np.linalg.norm(wrist - (0.0, 0.0, SHOULDER_HEIGHT_M))) > REACH_M + self.settings.position_tolerance

    def _descend(self, target: Array, start: Array, iterations: int = 0) -> Array | None:
        """Damped least squares from one start: dq = J^T (J J^T + lambda^2 I)^-1 e, clipped to the limits."""
        s = self.settings
        q = start.copy()
        for _ in range(iterations or s.max_iterations):
            self._update(q)
            error = self._error_to(target)
            distance, angle = np.linalg.norm(error[:3]), np.linalg.norm(error[3:])
            if distance < s.position_tolerance and angle < s.rotation_tolerance:
                return q
            jacobian = self._site_jacobian()
            # Damping that fades with the error: careful far away, Newton's quadratic end close by.
            damping = s.damping**2 * min(1.0, float(distance + 0.1 * angle) / 0.05) + 1e-8
            step = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + damping * np.eye(6), error)
            largest = float(np.abs(step).max())
            if largest > s.max_joint_step:
                step *= s.max_joint_step / largest
            q = np.clip(q + step, self._lower, self._upper)
        return None

    def _error_to(self, target: Array) -> Array:
        """Twist [6] in the base frame that takes the tool of the last `_update` to `target`."""
        error = np.empty(6)
        error[:3] = target[:3, 3] - self._data.site_xpos[self._tool]
        turn = target[:3, :3] @ self._data.site_xmat[self._tool].reshape(3, 3).T
        quat = np.empty(4)
        mujoco.mju_mat2Quat(quat, np.ascontiguousarray(turn).ravel())
        mujoco.mju_quat2Vel(error[3:], quat, 1.0)
        return error

    def _update(self, joints: ArrayLike) -> None:
        self._data.qpos[:] = joints
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)

    def _site_jacobian(self) -> Array:
        mujoco.mj_jacSite(self._model, self._data, self._jacobian[:3], self._jacobian[3:], self._tool)
        return self._jacobian


def model_path() -> Path:
    """The FR3's MJCF file; found without importing franky-sim, whose import takes seconds.

    Raises ConfigurationError where franky-sim is not installed.
    """
    package = importlib.util.find_spec("franky_sim")
    if package is None or not package.submodule_search_locations:
        raise ConfigurationError("the arm's model comes with franky-sim, which is missing: pip install franky-sim")
    return Path(package.submodule_search_locations[0]) / "assets" / "fr3.xml"


def _skeleton() -> mujoco.MjModel:
    """The arm's links, joints and tool frame; everything that is only seen or touched is left out."""
    root = ET.parse(model_path()).getroot()
    for section in ("asset", "actuator", "tendon", "equality", "contact", "sensor", "keyframe"):
        for element in root.findall(section):
            root.remove(element)
    for parent in list(root.iter()):
        for child in list(parent):
            finger = child.tag == "body" and "finger" in child.get("name", "")
            if parent.tag == "body" and (child.tag == "geom" or finger):
                parent.remove(child)
    hand = root.find(".//body[@name='hand']")
    if hand is None:
        raise ConfigurationError(f"{model_path()} has no body 'hand': install franky-sim 1.x, whose model has one")
    ET.SubElement(hand, "site", name=TOOL_FRAME, pos=f"0 0 {TCP_OFFSET}")
    return mujoco.MjModel.from_xml_string(ET.tostring(root, encoding="unicode"))


def _transform(position: Array, matrix: Array) -> Array:
    transform = np.eye(4)
    transform[:3, 3] = position
    transform[:3, :3] = np.reshape(matrix, (3, 3))
    return transform
