"""Where a camera sits on the arm's base or hand, from views of a board.

The board hangs on the other end: it lies still where the camera is on the hand (eye in hand) and is held by the hand
where the camera stands still (eye on base). With `parent` the frame that carries the camera and `other` the one that
carries the board, every view i says

    T_other_parent(i) · T_parent_camera · T_camera_board(i) = T_other_board

A closed form gives a start: rotations by aligning the axes of relative motions (Park and Martin 1994, "Robot sensor
calibration: solving AX = XB on the Euclidean group"), translations by linear least squares. From there the robust
reprojection error of all corners in all views is minimised over T_parent_camera and T_other_board together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.geometry.camera import PinholeCamera
from minidiffuser_ros.geometry.transform import apply, invert
from minidiffuser_ros.perception.boards import Corners

Array = NDArray[np.float64]

# A start from a few views does not contain the wrong one among the others.
SUBSET, SUBSETS = 5, 40
# Below this a turn says nothing about a direction.
MIN_TURN_RAD = 1e-3
NUM_PARAMETERS = 12
# Rounds of dropping the worst views and solving again.
MAX_ROUNDS = 5
BEHIND_PX = 1e4  # a residual for corners that a trial pose puts behind the camera


@dataclass(frozen=True)
class HandEyeSettings:
    """When views are enough, and when one of them is wrong."""

    min_views: int = field(default=8, metadata={"description": "views that must remain", "range": (4, 1000)})
    min_turn_deg: float = field(
        default=6.0,
        metadata={
            "description": "least root mean square of the hand's turns about its second axis",
            "unit": "deg",
            "range": (1.0, 45.0),
        },
    )
    robust_px: float = field(
        default=1.0,
        metadata={"description": "residuals beyond it count less than squared", "unit": "px", "range": (0.1, 100.0)},
    )
    outlier_factor: float = field(
        default=4.0,
        metadata={"description": "a view this many times the median residual is dropped", "range": (1.5, 100.0)},
    )
    max_rms_px: float = field(
        default=5.0,
        metadata={
            "description": "views that disagree by more have no common solution",
            "unit": "px",
            "range": (0.5, 1000.0),
        },
    )
    outlier_px: float = field(
        default=2.0,
        metadata={"description": "a view with a smaller residual never is", "unit": "px", "range": (0.0, 100.0)},
    )


@dataclass(frozen=True)
class BoardView:
    """One view: the corners seen, `T_camera_board` of them alone, and `T_base_tool` of the arm, all [4, 4]."""

    name: str
    corners: Corners
    T_camera_board: Array
    T_base_tool: Array


@dataclass(frozen=True)
class ViewResidual:
    """How far a view is from what the solution says: corners in pixels (root mean square), the board's pose."""

    name: str
    px: float
    mm: float
    deg: float


@dataclass(frozen=True)
class HandEye:
    """A solution. Frames as above; standard deviations along the worst direction, the views taken as independent.

    leave_one_out: largest change of the camera's pose (mm, deg) when one view is left out, and the view.
    turn_deg: root mean square of the hand's turns about its three main axes, descending. board_scale: how many times
    as large as given the board is by the arm's motions, and the standard deviation of that.
    """

    on_hand: bool
    T_parent_camera: Array
    T_other_board: Array
    residuals: tuple[ViewResidual, ...]
    dropped: tuple[str, ...]
    rms_px: float
    std_mm: float
    std_deg: float
    leave_one_out: tuple[float, float, str]
    turn_deg: tuple[float, float, float]
    board_scale: tuple[float, float]


@dataclass(frozen=True)
class _Problem:
    """Views as arrays, the frames already turned so that both mounts look the same. T corners in V views."""

    views: tuple[BoardView, ...]
    T_other_parent: tuple[Array, ...]
    camera: PinholeCamera

    def without(self, index: int) -> _Problem:
        return self.only([i for i in range(len(self.views)) if i != index])

    def only(self, keep: Sequence[int]) -> _Problem:
        return _Problem(tuple(self.views[i] for i in keep), tuple(self.T_other_parent[i] for i in keep), self.camera)

    @cached_property
    def view_of(self) -> NDArray[np.intp]:
        """Index [T] of the view that each corner belongs to."""
        return np.repeat(np.arange(len(self.views)), [len(view.corners.pixels) for view in self.views])

    @cached_property
    def _corners(self) -> tuple[Array, Array]:
        corners = [view.corners for view in self.views]
        return np.concatenate([c.board_points for c in corners]), np.concatenate([c.pixels for c in corners])

    @cached_property
    def _T_parent_other(self) -> Array:
        return np.stack([invert(move) for move in self.T_other_parent])

    def board_in_camera(self, X: Array, Z: Array) -> Array:
        """T_camera_board [V, 4, 4] that the solution T_parent_camera, T_other_board predicts."""
        return np.asarray(invert(X) @ self._T_parent_other @ Z)

    def errors(self, X: Array, Z: Array, board_scale: float = 1.0) -> Array:
        """Predicted minus seen pixels [T, 2]."""
        points, pixels = self._corners
        poses = self.board_in_camera(X, Z)[self.view_of]
        in_camera = np.einsum("tij,tj->ti", poses[:, :3, :3], board_scale * points) + poses[:, :3, 3]
        return np.nan_to_num(self.camera.project(in_camera) - pixels, nan=BEHIND_PX)

    def rms(self, X: Array, Z: Array) -> Array:
        """Root mean square error [V] in pixels of every view."""
        squared = (self.errors(X, Z) ** 2).sum(axis=1)
        return np.asarray(np.sqrt(np.bincount(self.view_of, squared) / np.bincount(self.view_of)))


def solve_hand_eye(
    views: Sequence[BoardView], camera: PinholeCamera, on_hand: bool, settings: HandEyeSettings | None = None
) -> HandEye:
    """The camera's pose from views of a board; on_hand: the camera is on the hand and the board lies still.

    camera: intrinsics of the undistorted picture. Raises ConfigurationError where the views are too few or the hand
    turned too little in them, saying what to add.
    """
    settings = settings or HandEyeSettings()
    _check_views(views, settings)
    moves = tuple(view.T_base_tool if on_hand else invert(view.T_base_tool) for view in views)
    problem = _Problem(tuple(views), moves, camera)
    X, Z = _best_start(problem)
    dropped: list[str] = []
    for _ in range(MAX_ROUNDS):
        X, Z = _refined(problem, X, Z, settings)
        wrong = _outliers(problem, X, Z, settings)
        if not wrong:
            break
        dropped += [problem.views[i].name for i in wrong]
        problem = problem.only([i for i in range(len(problem.views)) if i not in wrong])
        _check_views(problem.views, settings, dropped)
    rms_px = float(np.sqrt((problem.errors(X, Z) ** 2).sum(axis=1).mean()))
    if rms_px > settings.max_rms_px:
        raise ConfigurationError(
            f"the views contradict each other: with the best pose the corners are off by {rms_px:.1f} px, at most "
            f"{settings.max_rms_px:g} are allowed: check whether the camera is on the hand (on_hand is "
            f"{str(on_hand).lower()}), that the arm's poses belong to the pictures, and that the board did not slip"
        )
    std_mm, std_deg = _uncertainty(problem, X, Z, settings)
    return HandEye(
        on_hand,
        X,
        Z,
        _residuals(problem, X, Z),
        tuple(dropped),
        rms_px,
        std_mm,
        std_deg,
        _leave_one_out(problem, X, Z, settings),
        _turns_deg(problem.views),
        _board_scale(problem, X, Z, settings),
    )


def pose_difference(first: Array, second: Array) -> tuple[float, float]:
    """Distance in mm and angle in degrees between two transforms [4, 4]."""
    turn = Rotation.from_matrix(first[:3, :3].T @ second[:3, :3])
    return 1e3 * float(np.linalg.norm(first[:3, 3] - second[:3, 3])), float(np.rad2deg(turn.magnitude()))


def _check_views(views: Sequence[BoardView], settings: HandEyeSettings, dropped: Sequence[str] = ()) -> None:
    beside = f" after {len(dropped)} that contradict the others were dropped ({', '.join(dropped)})" if dropped else ""
    if len(views) < settings.min_views:
        raise ConfigurationError(
            f"{len(views)} views with a board{beside}, at least {settings.min_views} are needed: add "
            f"{settings.min_views - len(views)} or more, each with the hand turned another way"
        )
    turns = _turns_deg(views)
    if turns[1] < settings.min_turn_deg:
        raise ConfigurationError(
            f"the hand turned by {turns[0]:.1f}° about one axis and by only {turns[1]:.1f}° about any other (root mean "
            f"square{beside}), {settings.min_turn_deg:g}° are needed about two: add views with the hand tilted by 20° "
            f"to 40° to the front, the back and both sides"
        )


def _turns_deg(views: Sequence[BoardView]) -> tuple[float, float, float]:
    """Root mean square turns of the hand about its three main axes, descending."""
    rotations = Rotation.from_matrix(np.stack([view.T_base_tool[:3, :3] for view in views]))
    turns = (rotations.mean().inv() * rotations).as_rotvec(degrees=True)
    values = np.zeros(3)
    values[: min(3, len(turns))] = np.linalg.svd(turns, compute_uv=False) / np.sqrt(len(turns))
    return float(values[0]), float(values[1]), float(values[2])


def _best_start(problem: _Problem) -> tuple[Array, Array]:
    """The closed form from all views and from small subsets: the one with which most views agree best."""
    count = len(problem.views)
    rng = np.random.default_rng(0)  # the same views always give the same answer
    subsets = [np.arange(count), *(rng.permutation(count)[:SUBSET] for _ in range(SUBSETS if count > SUBSET else 0))]
    best, best_error = None, np.inf
    for subset in subsets:
        start = _closed_form(problem.only(subset.tolist()))
        if start is None:
            continue
        error = float(np.median(problem.rms(*start)))
        if error < best_error:
            best, best_error = start, error
    if best is None:
        raise ConfigurationError("the views do not say where the camera is: add views with the hand turned other ways")
    return best


def _closed_form(problem: _Problem) -> tuple[Array, Array] | None:
    """Park and Martin's solution of A X = X B over all pairs of views; None where the turns span no plane."""
    moves, boards = problem.T_other_parent, [view.T_camera_board for view in problem.views]
    pairs = list(combinations(range(len(moves)), 2))
    A = [invert(moves[j]) @ moves[i] for i, j in pairs]
    B = [boards[j] @ invert(boards[i]) for i, j in pairs]
    alpha = np.stack([Rotation.from_matrix(a[:3, :3]).as_rotvec() for a in A])
    beta = np.stack([Rotation.from_matrix(b[:3, :3]).as_rotvec() for b in B])
    if np.linalg.svd(alpha, compute_uv=False)[1] < MIN_TURN_RAD:
        return None
    X = np.eye(4)
    X[:3, :3] = Rotation.align_vectors(alpha, beta)[0].as_matrix()
    left = np.concatenate([a[:3, :3] - np.eye(3) for a in A])
    right = np.concatenate([X[:3, :3] @ b[:3, 3] - a[:3, 3] for a, b in zip(A, B, strict=True)])
    X[:3, 3] = np.linalg.lstsq(left, right, rcond=None)[0]
    found = [move @ X @ board for move, board in zip(moves, boards, strict=True)]
    Z = np.eye(4)
    Z[:3, :3] = Rotation.from_matrix(np.stack([z[:3, :3] for z in found])).mean().as_matrix()
    Z[:3, 3] = np.median([z[:3, 3] for z in found], axis=0)
    return X, Z


def _moved(start: Array, change: Array) -> Array:
    """`start` after a small change [6] in its own frame: rotation vector in rad, then translation in metres."""
    step = np.eye(4)
    step[:3, :3] = Rotation.from_rotvec(change[:3]).as_matrix()
    step[:3, 3] = change[3:]
    return np.asarray(start @ step)


def _refined(problem: _Problem, X: Array, Z: Array, settings: HandEyeSettings) -> tuple[Array, Array]:
    """The poses with the least robust reprojection error, from a start near them."""

    def residuals(change: Array) -> Array:
        return problem.errors(_moved(X, change[:6]), _moved(Z, change[6:])).ravel()

    found = least_squares(
        residuals, np.zeros(NUM_PARAMETERS), loss="soft_l1", f_scale=settings.robust_px, x_scale="jac", xtol=1e-10
    )
    return _moved(X, found.x[:6]), _moved(Z, found.x[6:])


def _outliers(problem: _Problem, X: Array, Z: Array, settings: HandEyeSettings) -> list[int]:
    """Views that contradict the others, at most a third of them in one round."""
    errors = problem.rms(X, Z)
    limit = max(settings.outlier_px, settings.outlier_factor * float(np.median(errors)))
    worst = np.argsort(-errors)[: max(1, len(errors) // 3)]
    return [int(i) for i in worst if errors[i] > limit]


def _residuals(problem: _Problem, X: Array, Z: Array) -> tuple[ViewResidual, ...]:
    found = []
    for view, px, pose in zip(problem.views, problem.rms(X, Z), problem.board_in_camera(X, Z), strict=True):
        middle = view.corners.board_points.mean(axis=0)
        mm = 1e3 * float(np.linalg.norm(apply(pose, middle) - apply(view.T_camera_board, middle)))
        deg = pose_difference(pose, view.T_camera_board)[1]
        found.append(ViewResidual(view.name, float(px), mm, deg))
    return tuple(found)


def _uncertainty(problem: _Problem, X: Array, Z: Array, settings: HandEyeSettings) -> tuple[float, float]:
    """Standard deviations in mm and degrees of the camera's pose along the worst direction."""

    def errors(change: Array) -> Array:
        return problem.errors(_moved(X, change[:6]), _moved(Z, change[6:]))

    covariance = _covariance(errors, np.zeros(NUM_PARAMETERS), problem.view_of, settings)
    turn, shift = np.linalg.eigvalsh(covariance[:3, :3])[-1], np.linalg.eigvalsh(covariance[3:6, 3:6])[-1]
    return 1e3 * float(np.sqrt(max(shift, 0.0))), float(np.rad2deg(np.sqrt(max(turn, 0.0))))


def _board_scale(problem: _Problem, X: Array, Z: Array, settings: HandEyeSettings) -> tuple[float, float]:
    """The board's size over the given one, estimated with the poses, and its standard deviation.

    The arm measures lengths, too: what it says about the board tells a print that was scaled.
    """

    def errors(change: Array) -> Array:
        return problem.errors(_moved(X, change[:6]), _moved(Z, change[6:12]), 1.0 + change[12])

    found = least_squares(
        lambda change: errors(change).ravel(), np.zeros(NUM_PARAMETERS + 1),
        loss="soft_l1", f_scale=settings.robust_px, x_scale="jac", xtol=1e-10,
    )  # fmt: skip
    covariance = _covariance(errors, found.x, problem.view_of, settings)
    return 1.0 + float(found.x[12]), float(np.sqrt(max(covariance[12, 12], 0.0)))


def _covariance(
    errors: Callable[[Array], Array], at: Array, view_of: NDArray[np.intp], settings: HandEyeSettings
) -> Array:
    """Covariance [P, P] of parameters [P] that minimise `errors` [T, 2] of corners in the views `view_of` [T].

    The sandwich estimator (J'J)^-1 (Σ g g') (J'J)^-1 with one gradient g a view: the corners of a view share the error
    of the arm's pose, so that taken as independent they would promise far too much.
    """

    def robust(change: Array) -> Array:
        return _robust(errors(change), settings.robust_px)

    step, count = 1e-6, len(at)
    J = np.stack([(robust(at + step * e) - robust(at - step * e)) / (2.0 * step) for e in np.eye(count)])  # [P, T, 2]
    products = np.einsum("ptk,tk->pt", J, robust(at))
    gradients = np.stack([np.bincount(view_of, row) for row in products])  # [P, V]
    inverse = np.linalg.pinv(np.einsum("ptk,qtk->pq", J, J))
    # A view gives six equations about poses: as many views as the parameters take up tell nothing of the scatter.
    views = gradients.shape[1]
    correction = views / max(1.0, views - count / 6.0)
    return np.asarray(correction * inverse @ (gradients @ gradients.T) @ inverse)


def _robust(error: Array, scale: float) -> Array:
    """Residuals whose squares are the robust loss soft_l1 of `error`."""
    squared = (error / scale) ** 2
    return np.asarray(np.sign(error) * scale * np.sqrt(2.0 * (np.sqrt(1.0 + squared) - 1.0)))


def _leave_one_out(problem: _Problem, X: Array, Z: Array, settings: HandEyeSettings) -> tuple[float, float, str]:
    worst_mm, worst_deg, name = 0.0, 0.0, ""
    for index, view in enumerate(problem.views):
        mm, deg = pose_difference(_refined(problem.without(index), X, Z, settings)[0], X)
        if mm > worst_mm:
            worst_mm, name = mm, view.name
        worst_deg = max(worst_deg, deg)
    return worst_mm, worst_deg, name
