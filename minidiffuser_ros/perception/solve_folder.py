"""From a folder of views to an entry of the calibration file, and what a person reads about it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import numpy as np

from minidiffuser_ros.contract.observation import CameraMount
from minidiffuser_ros.geometry.transform import pose_of
from minidiffuser_ros.perception.boards import BoardDetector, board_pose, undistorted
from minidiffuser_ros.perception.calibration import CalibrationEntry
from minidiffuser_ros.perception.hand_eye import BoardView, HandEye
from minidiffuser_ros.perception.mounts import BASE_FRAME, TOOL_FRAME
from minidiffuser_ros.perception.view_folder import SavedView, ViewFolder

# From here on a calibration limits what the arm can do; views are cheap.
LARGE_MM, LARGE_DEG, LARGE_PX = 2.0, 0.3, 1.5
# A scaled print: half a per cent is 3 mm at 0.6 m. SURE: in standard deviations.
LARGE_SCALE, SURE = 0.005, 3.0


def board_views(folder: ViewFolder) -> Iterator[tuple[SavedView, BoardView | None]]:
    """Every view with what was found in its picture, None where the board was not. Raises ConfigurationError."""
    detector, distortion = BoardDetector(folder.board), np.array(folder.distortion)
    for view in folder.views:
        corners = detector.detect(folder.color(view))
        if corners is not None:
            corners = undistorted(corners, folder.intrinsics, distortion)
        pose = None if corners is None else board_pose(corners, folder.intrinsics)
        found = None if corners is None or pose is None else BoardView(view.image, corners, pose, view.T_base_tool)
        yield view, found


def entry_of(folder: ViewFolder, solution: HandEye, now: datetime) -> CalibrationEntry:
    """The entry of the calibration file; now: with a time zone."""
    position, quat = pose_of(solution.T_parent_camera)
    camera, (mm, deg, _) = folder.intrinsics, solution.leave_one_out
    mount = CameraMount(
        folder.camera,
        TOOL_FRAME if solution.on_hand else BASE_FRAME,
        (float(position[0]), float(position[1]), float(position[2])),
        (float(quat[0]), float(quat[1]), float(quat[2]), float(quat[3])),
    )
    residuals = {
        "rms_px": solution.rms_px, "std_mm": solution.std_mm, "std_deg": solution.std_deg, "leave_one_out_mm": mm,
        "leave_one_out_deg": deg, "views": float(len(solution.residuals)), "dropped": float(len(solution.dropped)),
    }  # fmt: skip
    return CalibrationEntry(
        mount,
        date=now.isoformat(timespec="seconds"),
        method=f"hand_eye {folder.board.kind}",
        residuals={name: round(value, 4) for name, value in residuals.items()},
        image_size=(camera.width, camera.height),
        intrinsics=(camera.fx, camera.fy, camera.cx, camera.cy),
    )


def report(solution: HandEye) -> list[str]:
    """Lines for a person: a view each, then the whole."""
    lines = ["view              px     mm    deg"]
    lines += [f"{r.name:<14.14} {r.px:5.2f} {r.mm:6.2f} {r.deg:6.3f}" for r in solution.residuals]
    lines += [f"{name}: dropped, it contradicts the others" for name in solution.dropped]
    position, quat = pose_of(solution.T_parent_camera)
    mm, deg, name = solution.leave_one_out
    parent = TOOL_FRAME if solution.on_hand else BASE_FRAME
    lines += [
        f"pose in {parent}: position {np.round(position, 4).tolist()} m, quat_wxyz {np.round(quat, 5).tolist()}",
        f"{len(solution.residuals)} views, corners {solution.rms_px:.2f} px (root mean square)",
        f"standard deviation {solution.std_mm:.2f} mm and {solution.std_deg:.3f}° along the worst direction",
        "the arm's motions say that the board is {:.4f} ± {:.4f} times as large as given".format(*solution.board_scale),
        f"without one view the pose changes by at most {mm:.2f} mm ({name}) and {deg:.3f}°",
        "the hand turned by {:.0f}°, {:.0f}° and {:.0f}° about its main axes (root mean square)".format(
            *solution.turn_deg
        ),
    ]
    return lines + advice(solution)


def advice(solution: HandEye) -> list[str]:
    """What to do about a solution that is not good enough for work on a table; empty where it is."""
    lines = []
    if solution.std_mm > LARGE_MM or solution.std_deg > LARGE_DEG:
        lines.append(
            f"that is more than {LARGE_MM:g} mm or {LARGE_DEG:g}°: add views with the hand tilted more, the board near "
            "and in all parts of the picture"
        )
    scale, std = solution.board_scale
    if abs(scale - 1.0) > max(LARGE_SCALE, SURE * std):
        lines.append(
            f"by the arm's motions the board is {scale:.3f} times as large as given (standard deviation {std:.3f}): "
            "measure it, or else the intrinsics are wrong"
        )
    if solution.rms_px > LARGE_PX:
        lines.append(
            f"corners are off by more than {LARGE_PX:g} px: check the board's measures, the intrinsics, and that arm "
            "and board stood still"
        )
    return lines
