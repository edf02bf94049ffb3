"""The arm's kinematics against MuJoCo's full model, and the laws that tie forward, Jacobian and inverse together."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from minidiffuser_ros.arm.kinematics import (
    HOME_JOINTS,
    LEVER_M,
    LINK_NAMES,
    REACH_M,
    SHOULDER_HEIGHT_M,
    TCP_OFFSET,
    WRIST_M,
    FrankaKinematics,
    model_path,
)
from minidiffuser_ros.arm.model import FER, FR3, ArmModel
from minidiffuser_ros.geometry.rotation import POINTING_DOWN_WXYZ, angle_between_deg, quat_from_yaw, quat_multiply
from minidiffuser_ros.geometry.transform import pose_of, transform_from


@pytest.fixture(scope="module")
def arm() -> FrankaKinematics:
    return FrankaKinematics()


def draws(arm: FrankaKinematics, count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(*arm.limits, size=(count, 7))


def test_forward_agrees_with_the_full_model_of_the_simulated_arm(arm: FrankaKinematics) -> None:
    full = mujoco.MjModel.from_xml_string(
        model_path().read_text().replace('meshdir="assets"', f'meshdir="{model_path().parent / "meshes"}"')
    )
    data = mujoco.MjData(full)
    for q in draws(arm, 20, seed=0):
        data.qpos[:7] = q
        mujoco.mj_kinematics(full, data)
        hand = data.body("hand")
        tool = hand.xpos + hand.xmat.reshape(3, 3) @ [0.0, 0.0, TCP_OFFSET]
        np.testing.assert_allclose(arm.forward(q)[:3, 3], tool, atol=1e-9)
        np.testing.assert_allclose(arm.forward(q)[:3, :3], hand.xmat.reshape(3, 3), atol=1e-9)
        for name, transform in arm.link_transforms(q).items():
            np.testing.assert_allclose(transform[:3, 3], data.body(name).xpos, atol=1e-9)


def test_at_home_the_tool_points_down_in_front_of_the_base(arm: FrankaKinematics) -> None:
    tool = arm.forward(HOME_JOINTS)
    np.testing.assert_allclose(tool[:3, :3], np.diag([1.0, -1.0, -1.0]), atol=1e-6)
    assert tool[0, 3] == pytest.approx(0.307, abs=1e-3)
    assert tool[1, 3] == pytest.approx(0.0, abs=1e-6)
    assert set(arm.link_transforms(HOME_JOINTS)) == set(LINK_NAMES)


def test_the_jacobian_is_the_derivative_of_the_position(arm: FrankaKinematics) -> None:
    step = 1e-6
    for q in draws(arm, 5, seed=1):
        ahead = np.stack([arm.forward(q + step * e)[:3, 3] for e in np.eye(7)], axis=1)
        behind = np.stack([arm.forward(q - step * e)[:3, 3] for e in np.eye(7)], axis=1)
        numeric = (ahead - behind) / (2 * step)
        np.testing.assert_allclose(arm.jacobian(q)[:3], numeric, atol=1e-6)


def test_inverse_lands_on_the_pose_it_was_asked_for(arm: FrankaKinematics) -> None:
    solved = 0
    for q in np.array(HOME_JOINTS) + np.random.default_rng(2).normal(0.0, 0.35, (100, 7)):
        target = arm.forward(np.clip(q, *arm.limits))
        joints = arm.inverse(target, HOME_JOINTS)
        if joints is not None:
            solved += 1
            np.testing.assert_allclose(arm.forward(joints), target, atol=2e-4)
            assert arm.within_limits(joints)
    assert solved >= 95


@pytest.mark.parametrize("model", [FR3, FER], ids=lambda model: model.name)
def test_of_200_reachable_poses_above_the_table_at_most_one_is_not_solved_from_home(model: ArmModel) -> None:
    arm = FrankaKinematics(model=model)
    poses = [pose for pose in map(arm.forward, draws(arm, 400, seed=4)) if pose[2, 3] > 0.0][:200]
    assert len(poses) == 200
    solved = 0
    for target in poses:
        joints = arm.inverse(target, HOME_JOINTS)
        if joints is not None:
            (position, quat), (wanted, wanted_quat) = pose_of(arm.forward(joints)), pose_of(target)
            solved += np.linalg.norm(position - wanted) < 1e-4 and angle_between_deg(quat, wanted_quat) < 0.05
            assert arm.within_limits(joints)
    assert solved >= 199


def test_what_is_called_too_far_without_a_search_has_no_posture(arm: FrankaKinematics) -> None:
    joints = draws(arm, 2000, seed=5)
    joints[:1000, 3] = arm.limits[1][3]  # stretched
    tools = np.array([arm.forward(q) for q in joints])
    wrists = tools[:, :3, 3] - WRIST_M * tools[:, :3, 2]
    distances = np.linalg.norm(wrists - (0.0, 0.0, SHOULDER_HEIGHT_M), axis=1)
    assert REACH_M - 0.02 < distances.max() <= REACH_M


def test_the_smallest_singular_value_bounds_the_motion_in_every_direction(arm: FrankaKinematics) -> None:
    rng = np.random.default_rng(6)
    for q in draws(arm, 20, seed=7):
        smallest, jacobian = arm.smallest_singular_value(q), arm.jacobian(q)
        jacobian[3:] *= LEVER_M
        directions = rng.normal(size=(500, 6))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        motions = np.linalg.norm(directions @ jacobian, axis=1)
        assert 0.0 <= smallest <= motions.min()
        assert smallest == pytest.approx(np.sqrt(max(0.0, np.linalg.eigvalsh(jacobian @ jacobian.T)[0])), abs=1e-9)


def test_the_elbow_keeps_its_angle_when_the_base_turns_and_mirrors_it_with_the_arm(arm: FrankaKinematics) -> None:
    assert arm.elbow_angle(HOME_JOINTS) == pytest.approx(0.0, abs=1e-9)
    mirror = np.array([-1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    for q in np.array(HOME_JOINTS) + np.random.default_rng(8).normal(0.0, 0.4, (50, 7)):
        angle, turned = arm.elbow_angle(q), q.copy()
        turned[0] += 0.7
        assert arm.elbow_angle(turned) == pytest.approx(angle, abs=1e-9)
        assert arm.elbow_angle(mirror * q) == pytest.approx(-angle, abs=1e-9)


def test_the_elbow_s_angle_tells_postures_of_one_tool_pose_apart(arm: FrankaKinematics) -> None:
    q = np.array(HOME_JOINTS)
    tool = arm.forward(q)
    angles = [arm.elbow_angle(q)]
    for _ in range(10):  # along the null space of the Jacobian the tool stays where it is
        q = q + 0.05 * np.linalg.svd(arm.jacobian(q))[2][-1]
        solution = arm.inverse(tool, q, seed_only=True)
        assert solution is not None
        q = solution
        angles.append(arm.elbow_angle(q))
    steps = np.diff(angles)
    assert (steps > 0.01).all() or (steps < -0.01).all()


def test_the_tool_can_point_down_anywhere_over_the_middle_of_the_table(arm: FrankaKinematics) -> None:
    rng = np.random.default_rng(3)
    for _ in range(100):
        quat = quat_multiply(quat_from_yaw(rng.uniform(-1.2, 1.2)), POINTING_DOWN_WXYZ)
        target = transform_from(rng.uniform([0.35, -0.25, 0.01], [0.6, 0.25, 0.35]), quat)
        assert arm.inverse(target, HOME_JOINTS) is not None


def test_inverse_from_nearby_joints_stays_near_them(arm: FrankaKinematics) -> None:
    joints = np.array(HOME_JOINTS)
    target = arm.forward(joints)
    target[:3, 3] += [0.01, -0.005, -0.01]
    solution = arm.inverse(target, joints, seed_only=True)
    assert solution is not None
    assert np.abs(solution - joints).max() < 0.1


@pytest.mark.parametrize("position", [(3.0, 0.0, 0.3), (0.0, 0.0, 2.0), (0.9, 0.6, 0.0)])
def test_a_pose_out_of_reach_has_no_solution(arm: FrankaKinematics, position: tuple[float, float, float]) -> None:
    assert arm.inverse(transform_from(position, POINTING_DOWN_WXYZ), HOME_JOINTS) is None


def test_the_same_question_has_the_same_answer(arm: FrankaKinematics) -> None:
    target = transform_from((0.55, 0.35, 0.1), POINTING_DOWN_WXYZ)
    first = arm.inverse(target, np.zeros(7))
    assert first is not None
    np.testing.assert_array_equal(first, arm.inverse(target, np.zeros(7)))
