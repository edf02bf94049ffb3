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

from collections.abc import Sequence
from dataclasses import dataclass, field
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
    turn_deg: root mean square of the hand's turns about its three main axes, descending.
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


@dataclass(frozen=True)
class _Problem:
    """Views as arrays, the frames already turned so that both mounts look the same."""

    views: tuple[BoardView, ...]
    T_other_parent: tuple[Array, ...]
    camera: PinholeCamera

    def without(self, index: int) -> _Problem:
        keep = [i for i in range(len(self.views)) if i != index]
        return self.only(keep)

    def only(self, keep: Sequence[int]) -> _Problem:
        return _Problem(tuple(self.views[i] for i in keep), tuple(self.T_other_parent[i] for i in keep), self.camera)

    def board_in_camera(self, X: Array, Z: Array) -> list[Array]:
        """T_camera_board [4, 4] of every view that the solution T_parent_camera, T_other_board predicts."""
        return [invert(M @ X) @ Z for M in self.T_other_parent]

    def errors(self, X: Array, Z: Array) -> list[Array]:
        """Predicted minus seen pixels [N, 2] of every view."""
        found = []
        for view, pose in zip(self.views, self.board_in_camera(X, Z), strict=True):
            pixels = self.camera.project(apply(pose, view.corners.board_points))
            found.append(np.nan_to_num(pixels - view.corners.pixels, nan=BEHIND_PX))
        return found


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
    std_mm, std_deg = _uncertainty(problem, X, Z, settings)
    errors = np.concatenate(problem.errors(X, Z))
    return HandEye(
        on_hand,
        X,
        Z,
        _residuals(problem, X, Z),
        tuple(dropped),
        float(np.sqrt((errors**2).sum(axis=1).mean())),
        std_mm,
        std_deg,
        _leave_one_out(problem, X, Z, settings),
        _turns_deg(problem.views),
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
        error = float(np.median([np.sqrt((e**2).sum(axis=1).mean()) for e in problem.errors(*start)]))
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
        return np.concatenate(problem.errors(_moved(X, change[:6]), _moved(Z, change[6:]))).ravel()

    found = least_squares(
        residuals, np.zeros(NUM_PARAMETERS), loss="soft_l1", f_scale=settings.robust_px, x_scale="jac", xtol=1e-10
    )
    return _moved(X, found.x[:6]), _moved(Z, found.x[6:])


def _outliers(problem: _Problem, X: Array, Z: Array, settings: HandEyeSettings) -> list[int]:
    """Views that contradict the others, at most a third of them in one round."""
    errors = np.array([np.sqrt((e**2).sum(axis=1).mean()) for e in problem.errors(X, Z)])
    limit = max(settings.outlier_px, settings.outlier_factor * float(np.median(errors)))
    worst = np.argsort(-errors)[: max(1, len(errors) // 3)]
    return [int(i) for i in worst if errors[i] > limit]


def _residuals(problem: _Problem, X: Array, Z: Array) -> tuple[ViewResidual, ...]:
    found = []
    for view, error, pose in zip(problem.views, problem.errors(X, Z), problem.board_in_camera(X, Z), strict=True):
        middle = view.corners.board_points.mean(axis=0)
        mm = 1e3 * float(np.linalg.norm(apply(pose, middle) - apply(view.T_camera_board, middle)))
        deg = pose_difference(pose, view.T_camera_board)[1]
        found.append(ViewResidual(view.name, float(np.sqrt((error**2).sum(axis=1).mean())), mm, deg))
    return tuple(found)


def _uncertainty(problem: _Problem, X: Array, Z: Array, settings: HandEyeSettings) -> tuple[float, float]:
    """Standard deviations in mm and degrees of the camera's pose along the worst direction.

    The sandwich estimator (J'J)^-1 (Σ g g') (J'J)^-1 with one gradient g a view: the corners of a view share the error
    of the arm's pose, so that taken as independent they would promise far too much.
    """

    def errors(change: Array) -> Array:
        moved = problem.errors(_moved(X, change[:6]), _moved(Z, change[6:]))
        return np.concatenate([_robust(error, settings.robust_px).ravel() for error in moved])

    step = 1e-6
    J = np.stack([(errors(step * e) - errors(-step * e)) / (2 * step) for e in np.eye(NUM_PARAMETERS)], axis=1)
    residuals, ends = errors(np.zeros(NUM_PARAMETERS)), np.cumsum([2 * len(v.corners.pixels) for v in problem.views])
    gradients = [j.T @ r for j, r in zip(np.split(J, ends[:-1]), np.split(residuals, ends[:-1]), strict=True)]
    inverse = np.linalg.pinv(J.T @ J)
    count = len(problem.views)
    # As many equations as parameters a view can settle are used up by the fit.
    correction = count / max(1, count - NUM_PARAMETERS // 6)
    covariance = correction * inverse @ (np.stack(gradients).T @ np.stack(gradients)) @ inverse
    turn, shift = np.linalg.eigvalsh(covariance[:3, :3])[-1], np.linalg.eigvalsh(covariance[3:6, 3:6])[-1]
    return 1e3 * float(np.sqrt(max(shift, 0.0))), float(np.rad2deg(np.sqrt(max(turn, 0.0))))


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
