"""Boards of known corners that cameras are calibrated with: ChArUco boards and grids of AprilTags.

Board frame, as OpenCV has it: origin at the board's upper left corner, x right, y down, z into the board; metres.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.geometry.camera import PinholeCamera

Array = NDArray[np.float64]

CHARUCO, APRILTAG = "charuco", "apriltag"
KINDS = (CHARUCO, APRILTAG)
DICTIONARIES = {CHARUCO: "DICT_5X5_100", APRILTAG: "DICT_APRILTAG_36h11"}
# A marker's print is sharp from here on; more only makes the file larger.
PIXELS_PER_MM = 10
MM_PER_INCH = 25.4
A4_MM = (297, 210)
# What office printers leave white, and room for the caption.
MARGIN_MM = 12
MAX_SIDE = 40
MIN_CORNERS = 6
# The AprilTag refinement counts from the corner of the first pixel, everything else here from its centre.
APRILTAG_SHIFT_PX = 0.5


@dataclass(frozen=True)
class Board:
    """A printed board. Raises ConfigurationError for one that cannot be made.

    kind: `charuco` or `apriltag`. columns, rows: squares of a ChArUco board or tags of a grid. square: side of a
    square, or from one tag's edge to the next one's, in metres. marker: side of a marker's black border in metres.
    dictionary: a predefined one of cv2.aruco; empty: the usual one of the kind.
    """

    kind: str = CHARUCO
    columns: int = 7
    rows: int = 5
    square: float = 0.036
    marker: float = 0.027
    dictionary: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigurationError(f"a board is one of {', '.join(KINDS)}, not {self.kind!r}")
        if not (2 <= self.columns <= MAX_SIDE and 2 <= self.rows <= MAX_SIDE):
            raise ConfigurationError(f"a board has 2 to {MAX_SIDE} columns and rows, got {self.columns} x {self.rows}")
        if not 0.004 <= self.marker < self.square <= 1.0:
            raise ConfigurationError(
                f"a board's marker must be at least 4 mm and smaller than its square of at most 1 m, got a marker of "
                f"{1e3 * self.marker:g} mm and a square of {1e3 * self.square:g} mm: give metres"
            )
        name = self.dictionary or DICTIONARIES[self.kind]
        code = getattr(cv2.aruco, name, None) if name.startswith("DICT_") else None
        if not isinstance(code, int):
            raise ConfigurationError(f"there is no dictionary {name!r} in cv2.aruco; the usual one is DICT_5X5_100")
        object.__setattr__(self, "dictionary", name)
        size, needed = len(_dictionary(name).bytesList), self._markers
        if needed > size:
            raise ConfigurationError(
                f"a {self.kind} board of {self.columns} x {self.rows} needs {needed} markers, {name} has {size}"
            )

    @property
    def _markers(self) -> int:
        cells = self.columns * self.rows
        return cells // 2 if self.kind == CHARUCO else cells

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in metres, without a margin."""
        gap = 0.0 if self.kind == CHARUCO else self.square - self.marker
        return self.columns * self.square - gap, self.rows * self.square - gap

    @property
    def center(self) -> Array:
        """Middle [3] of the board in its frame."""
        return np.array([0.5 * self.size[0], 0.5 * self.size[1], 0.0])

    def describe(self) -> str:
        """In words, for captions and reports."""
        what = "squares" if self.kind == CHARUCO else "tags, pitch"
        return (
            f"{self.kind} {self.columns} x {self.rows} {what} {1e3 * self.square:g} mm, "
            f"markers {1e3 * self.marker:g} mm, {self.dictionary}"
        )

    def cv(self) -> Any:
        """OpenCV's own board."""
        dictionary = _dictionary(self.dictionary)
        if self.kind == CHARUCO:
            return cv2.aruco.CharucoBoard((self.columns, self.rows), self.square, self.marker, dictionary)
        return cv2.aruco.GridBoard((self.columns, self.rows), self.marker, self.square - self.marker, dictionary)

    def picture(self, pixels_per_mm: int = PIXELS_PER_MM) -> NDArray[np.uint8]:
        """The board [H, W] without a margin, in true scale."""
        width, height = (round(1e3 * side * pixels_per_mm) for side in self.size)
        picture: NDArray[np.uint8] = np.asarray(self.cv().generateImage((width, height), marginSize=0))
        return picture


@dataclass(frozen=True)
class Corners:
    """Corners found in a picture: board_points [N, 3] in metres in the board frame, pixels [N, 2]."""

    board_points: Array
    pixels: Array


class BoardDetector:
    """Finds one board in pictures."""

    def __init__(self, board: Board) -> None:
        self._board = board.cv()
        self._shift = 0.0 if board.kind == CHARUCO else APRILTAG_SHIFT_PX
        if board.kind == CHARUCO:
            self._detect: Callable[..., Any] = cv2.aruco.CharucoDetector(self._board).detectBoard
            return
        settings = cv2.aruco.DetectorParameters()
        settings.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_APRILTAG
        self._detect = cv2.aruco.ArucoDetector(_dictionary(board.dictionary), settings).detectMarkers

    def detect(self, picture: NDArray[np.uint8]) -> Corners | None:
        """The corners seen in a picture [H, W, 3] RGB or [H, W] grey; None where fewer than six are."""
        grey = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        corners, ids, *_ = self._detect(np.ascontiguousarray(grey))
        if ids is None or corners is None or len(ids) == 0:
            return None
        points, pixels = self._board.matchImagePoints(corners, ids)
        if points is None or len(points) < MIN_CORNERS:
            return None
        pixels = np.asarray(pixels, np.float64).reshape(-1, 2) - self._shift
        return Corners(np.asarray(points, np.float64).reshape(-1, 3), pixels)


def board_pose(corners: Corners, camera: PinholeCamera) -> Array | None:
    """`T_camera_board` [4, 4] of corners in an undistorted picture; None where there is no pose."""
    found, turn, position = cv2.solvePnP(
        corners.board_points, corners.pixels, camera.matrix, None, flags=cv2.SOLVEPNP_IPPE
    )
    if not found:
        return None
    turn, position = cv2.solvePnPRefineLM(corners.board_points, corners.pixels, camera.matrix, None, turn, position)
    pose = np.eye(4)
    pose[:3, :3] = cv2.Rodrigues(turn)[0]
    pose[:3, 3] = position.ravel()
    return pose if np.isfinite(pose).all() and pose[2, 3] > 0.0 else None


def undistorted(corners: Corners, camera: PinholeCamera, distortion: Array) -> Corners:
    """The corners where a camera without distortion sees them. distortion [4, 5, 8, …]: OpenCV's, as CameraInfo.d."""
    if not np.any(distortion):
        return corners
    pixels = cv2.undistortPoints(corners.pixels[:, None], camera.matrix, distortion, P=camera.matrix)
    return Corners(corners.board_points, np.asarray(pixels, np.float64).reshape(-1, 2))


def page(board: Board, size_mm: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """A page [H, W] to print at 254 dots per inch: the board in true scale with a ruler and a caption.

    size_mm: width and height; None: A4 where the board fits, and as large as needed otherwise. Raises
    ConfigurationError where the board does not fit.
    """
    needed = tuple(int(np.ceil(1e3 * side)) + 2 * MARGIN_MM for side in board.size)
    if size_mm is None:
        fits = needed[0] <= A4_MM[0] and needed[1] <= A4_MM[1]
        size_mm = A4_MM if fits else (needed[0], needed[1])
    if needed[0] > size_mm[0] or needed[1] > size_mm[1]:
        raise ConfigurationError(
            f"the board needs {needed[0]} x {needed[1]} mm with its margin and the page has {size_mm[0]} x "
            f"{size_mm[1]} mm: choose smaller squares or fewer of them"
        )
    sheet = np.full((size_mm[1] * PIXELS_PER_MM, size_mm[0] * PIXELS_PER_MM), 255, np.uint8)
    picture = board.picture()
    top, left = (sheet.shape[0] - picture.shape[0]) // 2, (sheet.shape[1] - picture.shape[1]) // 2
    sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    _write_caption(sheet, board, left)
    return sheet


def _write_caption(sheet: NDArray[np.uint8], board: Board, left: int) -> None:
    """A line of 100 mm to measure after printing (50 mm on small pages), and what the board is."""
    length = 100 if sheet.shape[1] > 130 * PIXELS_PER_MM else 50
    y = sheet.shape[0] - 5 * PIXELS_PER_MM
    end = left + length * PIXELS_PER_MM
    cv2.line(sheet, (left, y), (end, y), 0, 3)
    for x in (left, end):
        cv2.line(sheet, (x, y - 15), (x, y + 15), 0, 3)
    text = f"{length} mm: print at 100 %, then measure   {board.describe()}"
    scale = min(1.2, 1.2 * (sheet.shape[1] - 2 * left) / cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 1.2, 2)[0][0])
    cv2.putText(sheet, text, (left, y - 25), cv2.FONT_HERSHEY_SIMPLEX, scale, 0, 2, cv2.LINE_AA)


def _dictionary(name: str) -> Any:
    return cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, name))
