"""Pictures of a board as a camera on an arm takes them: warped exactly, then blurred and made noisy as pictures are."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from minidiffuser_ros.geometry.camera import PinholeCamera
from minidiffuser_ros.geometry.rotation import quat_from_euler_deg
from minidiffuser_ros.geometry.transform import apply, invert, look_at, transform_from
from minidiffuser_ros.perception.boards import Board, BoardDetector, Corners, board_pose
from minidiffuser_ros.perception.hand_eye import BoardView

# A colour camera of the D4xx family at 640 x 480: its principal point is not quite in the middle.
CAMERA = PinholeCamera(640, 480, 612.4, 611.7, 326.3, 238.1)
SUPERSAMPLING, TEXTURE_PX_PER_MM, QUIET_MM = 4, 5, 12
BLUR_PX, NOISE_GREY = 0.8, 5.0
ARM_MM, ARM_DEG = 0.2, 0.05

T_TOOL_CAMERA = transform_from([0.062, -0.018, -0.071], quat_from_euler_deg([-8.0, 3.0, 91.0]))
T_BASE_CAMERA = look_at([1.05, 0.12, 0.55], [0.45, 0.0, 0.25])
T_BASE_BOARD = transform_from([0.42, -0.09, 0.0], quat_from_euler_deg([180.0, 0.0, 12.0]))
# Held by the fingers: 60 mm below them, facing forward.
T_TOOL_BOARD = transform_from([0.02, 0.125, 0.03], quat_from_euler_deg([90.0, 0.0, -90.0]))


@dataclass(frozen=True)
class Rig:
    """A true camera pose, and views of a board with the arm's poses as a real arm reports them."""

    T_parent_camera: np.ndarray
    views: list[BoardView]


def picture_of(board: Board, T_camera_board: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What the camera sees of a board on a plain background [H, W] uint8."""
    texture = cv2.copyMakeBorder(
        board.picture(TEXTURE_PX_PER_MM), *[QUIET_MM * TEXTURE_PX_PER_MM] * 4, cv2.BORDER_CONSTANT, value=255
    )
    metres = 1e-3 / TEXTURE_PX_PER_MM
    offset = 0.5 * metres - 1e-3 * QUIET_MM
    to_board = np.array([[metres, 0.0, offset], [0.0, metres, offset], [0.0, 0.0, 1.0]])
    plane = T_camera_board[:3, [0, 1, 3]]
    s = SUPERSAMPLING
    to_fine = np.array([[s, 0.0, 0.5 * (s - 1)], [0.0, s, 0.5 * (s - 1)], [0.0, 0.0, 1.0]])
    size = (s * CAMERA.width, s * CAMERA.height)
    homography = to_fine @ CAMERA.matrix @ plane @ to_board
    background = int(rng.integers(90, 160))
    fine = cv2.warpPerspective(texture, homography, size, flags=cv2.INTER_LINEAR, borderValue=background)
    picture = cv2.resize(fine, (CAMERA.width, CAMERA.height), interpolation=cv2.INTER_AREA).astype(np.float64)
    picture = cv2.GaussianBlur(picture, (0, 0), BLUR_PX) * rng.uniform(0.7, 0.9) + 15.0
    return np.clip(picture + rng.normal(0.0, NOISE_GREY, picture.shape), 0, 255).astype(np.uint8)


def _jittered(pose: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The pose as the arm reports it."""
    turn = Rotation.from_rotvec(rng.normal(0.0, np.deg2rad(ARM_DEG) / np.sqrt(3.0), 3))
    shift = rng.normal(0.0, 1e-3 * ARM_MM / np.sqrt(3.0), 3)
    return pose @ transform_from(shift, turn.as_quat(scalar_first=True))


def _tilt(rng: np.random.Generator, degrees: float) -> np.ndarray:
    turn = Rotation.from_euler("xyz", rng.uniform(-degrees, degrees, 3), True)
    return transform_from([0, 0, 0], turn.as_quat(scalar_first=True))


def tool_poses(
    board: Board, on_hand: bool, count: int, rng: np.random.Generator, tilt: float = 30.0
) -> list[np.ndarray]:
    """Poses T_base_tool from which the board fills a good part of the picture."""
    poses = []
    for _ in range(count):
        # The camera before the middle of the board, tilted and shifted.
        T_camera_board = transform_from([0, 0, 0], [1, 0, 0, 0])
        middle = rng.uniform([-0.05, -0.04, 0.42], [0.05, 0.04, 0.6])
        T_camera_board = transform_from(middle, [1, 0, 0, 0]) @ _tilt(rng, tilt)
        T_camera_board = T_camera_board @ transform_from(-board.center, [1, 0, 0, 0])
        if on_hand:
            poses.append(T_BASE_BOARD @ invert(T_TOOL_CAMERA @ T_camera_board))
        else:
            poses.append(T_BASE_CAMERA @ T_camera_board @ invert(T_TOOL_BOARD))
    return poses


def seen(board: Board, on_hand: bool, T_base_tool: np.ndarray) -> np.ndarray:
    """T_camera_board of a pose of the arm."""
    if on_hand:
        return invert(T_base_tool @ T_TOOL_CAMERA) @ T_BASE_BOARD
    return invert(T_BASE_CAMERA) @ T_base_tool @ T_TOOL_BOARD


def exact_rig(board: Board, on_hand: bool, seed: int, noise_px: float, arm: bool, count: int = 14) -> Rig:
    """A rig whose corners are computed, not seen: quick, and exact without noise."""
    rng = np.random.default_rng(seed)
    points = np.asarray(board.cv().getChessboardCorners(), np.float64)
    views = []
    for index, pose in enumerate(tool_poses(board, on_hand, count, rng)):
        T_camera_board = seen(board, on_hand, pose)
        pixels = CAMERA.project(apply(T_camera_board, points)) + rng.normal(0.0, noise_px, (len(points), 2))
        found = board_pose(Corners(points, pixels), CAMERA)
        assert found is not None
        views.append(
            BoardView(f"{index:03d}.png", Corners(points, pixels), found, _jittered(pose, rng) if arm else pose)
        )
    return Rig(T_TOOL_CAMERA if on_hand else T_BASE_CAMERA, views)


def rig(board: Board, on_hand: bool, seed: int, count: int = 15, tilt: float = 30.0) -> Rig:
    """A rig with `count` views; those in which the board is not found are left out."""
    rng = np.random.default_rng(seed)
    detector = BoardDetector(board)
    views = []
    for index, pose in enumerate(tool_poses(board, on_hand, count, rng, tilt)):
        corners = detector.detect(picture_of(board, seen(board, on_hand, pose), rng))
        found = None if corners is None else board_pose(corners, CAMERA)
        if corners is not None and found is not None:
            views.append(BoardView(f"{index:03d}.png", corners, found, _jittered(pose, rng)))
    return Rig(T_TOOL_CAMERA if on_hand else T_BASE_CAMERA, views)
