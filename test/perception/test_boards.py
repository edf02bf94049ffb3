"""Laws of the boards: what is printed has true scale, and corners are found where they are."""

from __future__ import annotations

import numpy as np
import pytest
from board_views import CAMERA, picture_of, seen, tool_poses

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.geometry.transform import apply
from minidiffuser_ros.perception.boards import (
    PIXELS_PER_MM,
    Board,
    BoardDetector,
    Corners,
    board_pose,
    page,
    undistorted,
)
from minidiffuser_ros.perception.hand_eye import pose_difference

CHARUCO = Board()
TAGS = Board("apriltag", 6, 4, 0.042, 0.032)


@pytest.mark.parametrize("board", [CHARUCO, TAGS, Board(square=0.05, marker=0.035)], ids=lambda b: b.describe())
def test_a_printed_page_has_the_board_in_true_scale(board: Board) -> None:
    found = BoardDetector(board).detect(page(board))
    assert found is not None
    assert len(found.pixels) == (24 if board.kind == "charuco" else 4 * 24)
    shifts = found.pixels - 1e3 * PIXELS_PER_MM * found.board_points[:, :2]
    # 0.1 mm on paper: what is left is the detector's own.
    assert np.abs(shifts - np.median(shifts, axis=0)).max() < 1.0


@pytest.mark.parametrize("board", [CHARUCO, TAGS], ids=lambda b: b.kind)
def test_corners_are_found_where_they_are_without_a_bias(board: Board) -> None:
    rng, errors = np.random.default_rng(0), []
    for pose in tool_poses(board, True, 8, rng):
        T_camera_board = seen(board, True, pose)
        found = BoardDetector(board).detect(picture_of(board, T_camera_board, rng))
        assert found is not None
        errors.append(found.pixels - CAMERA.project(apply(T_camera_board, found.board_points)))
        T_found = board_pose(found, CAMERA)
        assert T_found is not None
        mm, deg = pose_difference(T_found, T_camera_board)
        assert mm < 3.0
        assert deg < 1.0
    error = np.concatenate(errors)
    assert np.abs(error.mean(axis=0)).max() < 0.08
    assert np.median(np.linalg.norm(error, axis=1)) < 0.2


def test_a_picture_without_the_board_has_no_corners() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    assert BoardDetector(CHARUCO).detect(noise) is None
    assert BoardDetector(TAGS).detect(noise) is None


def test_corners_of_a_distorting_camera_are_put_where_a_pinhole_sees_them() -> None:
    points = np.stack([*np.meshgrid(np.linspace(-0.1, 0.1, 5), np.linspace(-0.08, 0.08, 4)), np.zeros((4, 5))], axis=-1)
    points = points.reshape(-1, 3)
    rays = points[:, :2] / 0.5  # half a metre away
    k1 = 0.08  # the Brown model's first radial term
    bent = rays * (1.0 + k1 * (rays**2).sum(axis=1, keepdims=True))
    seen_pixels = bent * [CAMERA.fx, CAMERA.fy] + [CAMERA.cx, CAMERA.cy]
    straight = undistorted(Corners(points, seen_pixels), CAMERA, np.array([k1, 0.0, 0.0, 0.0, 0.0]))
    np.testing.assert_allclose(straight.pixels, rays * [CAMERA.fx, CAMERA.fy] + [CAMERA.cx, CAMERA.cy], atol=1e-3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "chess"}, "charuco, apriltag"),
        ({"columns": 1}, "2 to 40"),
        ({"marker": 0.04}, "smaller than its square"),
        ({"square": 36.0, "marker": 27.0}, "give metres"),
        ({"dictionary": "DICT_9X9"}, "no dictionary"),
        ({"columns": 20, "rows": 20}, "needs 200 markers"),
    ],
)
def test_boards_that_cannot_be_are_refused(values: dict, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Board(**values)


def test_a_board_too_large_for_its_page_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="choose smaller squares"):
        page(Board(square=0.1, marker=0.08), (297, 210))
