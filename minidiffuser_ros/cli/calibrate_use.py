"""`minidiffuser calibrate solve` and `check`: from views to the calibration file, and whether it is right."""

from __future__ import annotations

import argparse
from pathlib import Path

from minidiffuser_ros.cli.verbs import Verb


def _add_solve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("views", type=Path, help="folder of views, from `calibrate capture` or made by hand")
    parser.add_argument("--out", type=Path, required=True, help="calibration file; other cameras in it stay")
    parser.add_argument("--replace", action="store_true", help="change the pose of a camera that is in the file")


def _solve(args: argparse.Namespace) -> int:
    """Find the pose, tell about it, write it."""
    from datetime import UTC, datetime

    from tqdm import tqdm

    from minidiffuser_ros.arm.kinematics import FrankaKinematics
    from minidiffuser_ros.perception.calibration import require_free, write_calibration
    from minidiffuser_ros.perception.hand_eye import solve_hand_eye
    from minidiffuser_ros.perception.solve_folder import board_views, entry_of, report
    from minidiffuser_ros.perception.view_folder import read_view_folder

    folder = read_view_folder(args.views, FrankaKinematics().forward)
    require_free(args.out, folder.camera, args.replace)  # before the work, not after it
    found = []
    for view, seen in tqdm(board_views(folder), total=len(folder.views), unit="view"):
        if seen is None:
            tqdm.write(f"{view.image}: left out, the board was not found in it")
        else:
            found.append(seen)
    solution = solve_hand_eye(found, folder.intrinsics, folder.on_hand)
    print("\n".join(report(solution)))
    now = datetime.now(UTC)
    backup = write_calibration(args.out, entry_of(folder, solution, now), args.replace, now)
    print(f"camera {folder.camera!r} is in {args.out}" + (f"; what was there is kept in {backup}" if backup else ""))
    return 0


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("views", type=Path, help="folder of views")
    parser.add_argument("--calibration", type=Path, required=True, help="calibration file to check")
    parser.add_argument("--view", default="", help="name of a view's picture, as 003.png (default: the first)")
    parser.add_argument("--out", type=Path, required=True, help="picture to write, such as check.png or check.jpg")


def _check(args: argparse.Namespace) -> int:
    """Draw the gripper where it must appear, and compare depths where there are some."""
    from PIL import Image

    from minidiffuser_ros.arm.hand_shape import hand_triangles
    from minidiffuser_ros.arm.kinematics import FrankaKinematics
    from minidiffuser_ros.contract.errors import ConfigurationError
    from minidiffuser_ros.contract.files import replace_file
    from minidiffuser_ros.geometry.transform import invert, transform_from
    from minidiffuser_ros.perception.calibration import TOOL_FRAME, load_calibration
    from minidiffuser_ros.perception.gripper_check import Gripper
    from minidiffuser_ros.perception.view_folder import picked, read_view_folder

    kinds = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
    if args.out.suffix.lower() not in kinds:
        raise ConfigurationError(f"--out must end in {', '.join(kinds)}, got {args.out}")
    folder = read_view_folder(args.views, FrankaKinematics().forward)
    view = picked(folder, args.view)
    mount = load_calibration(args.calibration, [folder.camera])[folder.camera]
    T_tool_camera = transform_from(mount.position, mount.quat_wxyz)
    if mount.parent_frame != TOOL_FRAME:
        T_tool_camera = invert(view.T_base_tool) @ T_tool_camera
    gripper = Gripper(*hand_triangles(view.opening), invert(T_tool_camera), folder.intrinsics)
    picture = Image.fromarray(gripper.drawn(folder.color(view)))
    replace_file(args.out, lambda partial: picture.save(partial, kinds[args.out.suffix.lower()], quality=88))
    print(f"{args.out}: the gripper must fill the outline in view {view.image}")
    depth = folder.depth(view)
    if depth is None:
        print("the view has no depth to compare with")
        return 0
    found = gripper.agreement(depth)
    print(
        f"observed points lie {found.median_mm:.1f} mm from the gripper's surface (median; {100 * found.close:.0f} % "
        f"nearer than 10 mm) and {found.depth_mm:+.1f} mm along the depth; {100 * found.seen:.0f} % of the gripper has "
        "such points"
    )
    return 0


VERBS = (
    Verb("solve", "find where the camera sits, and write the calibration file", _add_solve, _solve, """examples:
  minidiffuser calibrate solve views/front --out cameras.yaml
  minidiffuser calibrate solve views/wrist --out cameras.yaml --replace"""),
    Verb("check", "draw the gripper where it must appear, and compare depths", _add_check, _check, """examples:
  minidiffuser calibrate check views/front --calibration cameras.yaml --out check.png --view 003.png"""),
)  # fmt: skip
