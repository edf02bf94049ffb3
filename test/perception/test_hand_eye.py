"""Laws of hand-eye calibration, on pictures of boards as a camera takes them and on exact corners."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from board_views import CAMERA, exact_rig, rig
from scipy.spatial.transform import Rotation

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.geometry.transform import transform_from
from minidiffuser_ros.perception.boards import Board, Corners, board_pose
from minidiffuser_ros.perception.hand_eye import HandEyeSettings, pose_difference, solve_hand_eye
from minidiffuser_ros.perception.solve_folder import advice

CHARUCO = Board()
TAGS = Board("apriltag", 6, 4, 0.042, 0.032)
MOUNTS = pytest.mark.parametrize("on_hand", [True, False], ids=["eye_in_hand", "eye_on_base"])


@MOUNTS
@pytest.mark.parametrize("board", [CHARUCO, TAGS], ids=lambda b: b.kind)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_noisy_pictures_and_arm_poses_give_the_camera_within_2_mm_and_0_3_deg(
    board: Board, on_hand: bool, seed: int
) -> None:
    true = rig(board, on_hand, seed, count=18)
    found = solve_hand_eye(true.views, CAMERA, on_hand)
    mm, deg = pose_difference(found.T_parent_camera, true.T_parent_camera)
    assert mm < 2.0
    assert deg < 0.3
    assert not found.dropped
    assert found.rms_px < 1.0


@MOUNTS
def test_exact_corners_and_poses_give_the_exact_camera(on_hand: bool) -> None:
    true = exact_rig(CHARUCO, on_hand, 0, noise_px=0.0, arm=False)
    found = solve_hand_eye(true.views, CAMERA, on_hand)
    mm, deg = pose_difference(found.T_parent_camera, true.T_parent_camera)
    assert mm < 1e-3
    assert deg < 1e-4
    assert found.rms_px < 1e-3
    assert max(r.mm for r in found.residuals) < 1e-2


@MOUNTS
def test_views_with_the_pose_of_another_one_are_dropped_and_change_nothing(on_hand: bool) -> None:
    true = exact_rig(CHARUCO, on_hand, 1, noise_px=0.2, arm=True)
    clean = solve_hand_eye([*true.views[:3], *true.views[4:9], *true.views[10:]], CAMERA, on_hand)
    swapped = list(true.views)
    swapped[3] = dataclasses.replace(swapped[3], T_base_tool=swapped[9].T_base_tool)
    swapped[9] = dataclasses.replace(swapped[9], T_base_tool=swapped[5].T_base_tool)
    found = solve_hand_eye(swapped, CAMERA, on_hand)
    assert sorted(found.dropped) == ["003.png", "009.png"]
    mm, deg = pose_difference(found.T_parent_camera, clean.T_parent_camera)
    assert mm < 1e-2
    assert deg < 1e-3
    assert {r.name for r in found.residuals}.isdisjoint(found.dropped)


@MOUNTS
def test_the_promised_uncertainty_is_that_of_repeated_calibrations(on_hand: bool) -> None:
    errors, promised = [], []
    for seed in range(12):
        true = exact_rig(CHARUCO, on_hand, seed, noise_px=0.2, arm=True, count=20)
        found = solve_hand_eye(true.views, CAMERA, on_hand)
        errors.append(pose_difference(found.T_parent_camera, true.T_parent_camera))
        promised.append((found.std_mm, found.std_deg))
    # The promise is for the worst of three directions, the error is the length of all three.
    ratios = np.sqrt((np.array(errors) ** 2).mean(axis=0)) / np.sqrt((np.array(promised) ** 2).mean(axis=0))
    assert (ratios > 0.5).all()
    assert (ratios < 2.5).all()


@MOUNTS
@pytest.mark.parametrize("scale", [0.98, 1.0, 1.03])
def test_a_board_of_another_size_than_given_shows_in_the_arms_motions(on_hand: bool, scale: float) -> None:
    """A board believed to be 1 / scale times as large as it is."""
    views = []
    for view in exact_rig(CHARUCO, on_hand, 3, noise_px=0.1, arm=True, count=20).views:
        believed = Corners(view.corners.board_points / scale, view.corners.pixels)
        pose = board_pose(believed, CAMERA)
        assert pose is not None
        views.append(dataclasses.replace(view, corners=believed, T_camera_board=pose))
    found = solve_hand_eye(views, CAMERA, on_hand)
    estimate, std = found.board_scale
    assert estimate == pytest.approx(scale, abs=0.004)
    assert 1e-5 < std < 0.004
    assert any("times as large as given" in line for line in advice(found)) == (scale != 1.0)


@MOUNTS
def test_views_of_the_wrong_mount_are_refused_and_nothing_is_said_to_be_found(on_hand: bool) -> None:
    views = exact_rig(CHARUCO, on_hand, 0, noise_px=0.2, arm=True).views
    with pytest.raises(ConfigurationError, match=f"contradict each other.*on_hand is {str(not on_hand).lower()}"):
        solve_hand_eye(views, CAMERA, not on_hand)


def test_too_few_views_are_refused_saying_how_many_to_add() -> None:
    views = exact_rig(CHARUCO, True, 0, 0.0, False, count=5).views
    with pytest.raises(ConfigurationError, match=r"5 views with a board, at least 8 are needed: add 3"):
        solve_hand_eye(views, CAMERA, True)


@pytest.mark.parametrize("axes", [(0.0, 0.0, 0.0), (1.0, 0.0, 0.0)], ids=["no_turn", "one_axis"])
def test_turns_about_less_than_two_axes_are_refused_saying_what_to_add(axes: tuple[float, float, float]) -> None:
    rng = np.random.default_rng(0)
    views = exact_rig(CHARUCO, True, 0, 0.0, False).views
    turned = []
    for view in views:
        turn = Rotation.from_rotvec(rng.uniform(-0.7, 0.7) * np.array(axes)).as_quat(scalar_first=True)
        turned.append(dataclasses.replace(view, T_base_tool=transform_from(view.T_base_tool[:3, 3], turn)))
    with pytest.raises(ConfigurationError, match="add views with the hand tilted"):
        solve_hand_eye(turned, CAMERA, True)


def test_so_many_wrong_views_that_too_few_remain_are_named() -> None:
    views = exact_rig(CHARUCO, True, 2, 0.1, False, count=9).views
    views[4] = dataclasses.replace(views[4], T_base_tool=views[0].T_base_tool)
    with pytest.raises(ConfigurationError, match=r"after 1 that contradict the others were dropped \(004\.png\)"):
        solve_hand_eye(views, CAMERA, True, HandEyeSettings(min_views=9))
