"""`minidiffuser calibrate board` and `capture`: the board on paper, and views of it."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from minidiffuser_ros.cli.verbs import Verb

if TYPE_CHECKING:
    from minidiffuser_ros.perception.boards import Board
    from minidiffuser_ros.perception.view_folder import ViewFolder

PDF, PICTURES = ".pdf", (".pdf", ".png")
MM = 1e-3
SIMULATED = ("front", "wrist")
# In the simulated hand a smaller board fits better into the picture of the camera before it.
HELD_SQUARE_MM, HELD_MARKER_MM = 24.0, 18.0
ASK = "Enter: take a view   q, Enter: done > "


def _add_board_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("board", "as printed; what is left out is as `calibrate board` has it")
    group.add_argument("--kind", choices=("charuco", "apriltag"), help="ChArUco board or grid of AprilTags")
    group.add_argument("--columns", type=int, help="squares or tags across")
    group.add_argument("--rows", type=int, help="squares or tags down")
    group.add_argument("--square-mm", type=float, help="side of a square, or from a tag's edge to the next one's")
    group.add_argument("--marker-mm", type=float, help="side of a marker's black border; measure it after printing")
    group.add_argument("--dictionary", help="of cv2.aruco, such as DICT_5X5_100 or DICT_APRILTAG_36h11")


def _board_of(args: argparse.Namespace, default: Board | None = None) -> Board:
    from minidiffuser_ros.perception.boards import Board

    values = {name: getattr(args, name) for name in ("kind", "columns", "rows", "dictionary")}
    for name in ("square", "marker"):
        length = getattr(args, f"{name}_mm")
        values[name] = None if length is None else MM * length
    given = {name: value for name, value in values.items() if value is not None}
    default = default or Board()
    if "kind" in given and "dictionary" not in given:
        given["dictionary"] = ""  # the usual one of that kind
    return replace(default, **given)


def _add_board(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, help="board.pdf or board.png")
    parser.add_argument("--replace", action="store_true", help="write over a file that is there")
    _add_board_options(parser)


def _board(args: argparse.Namespace) -> int:
    """Write the page."""
    from PIL import Image

    from minidiffuser_ros.contract.errors import ConfigurationError
    from minidiffuser_ros.contract.files import replace_file
    from minidiffuser_ros.perception.boards import MM_PER_INCH, PIXELS_PER_MM, page

    kind = args.out.suffix.lower()
    if kind not in PICTURES:
        raise ConfigurationError(f"--out must end in {' or '.join(PICTURES)}, got {args.out}")
    if args.out.exists() and not args.replace:
        raise ConfigurationError(f"{args.out} is there already: say --replace to write over it")
    board = _board_of(args)
    picture, dpi = Image.fromarray(page(board)), PIXELS_PER_MM * MM_PER_INCH
    if kind == PDF:
        replace_file(args.out, lambda partial: picture.save(partial, "PDF", resolution=dpi))
    else:
        replace_file(args.out, lambda partial: picture.save(partial, "PNG", dpi=(dpi, dpi)))
    print(f"{args.out}: {board.describe()}; print at 100 %, glue it on something flat and measure it")
    return 0


def _add_capture(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--camera", required=True, help="the camera's name, as the observer has it")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the views; one that is there is gone on with"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--on-hand", action="store_true", help="the camera is on the hand, the board lies still")
    where.add_argument("--simulated", action="store_true", help="the simulated camera of that name, by itself")
    parser.add_argument("--count", type=int, default=15, help="simulated views (default: 15)")
    parser.add_argument("--seed", type=int, default=0, help="of the simulated views (default: 0)")
    parser.add_argument("--color-topic", default="{camera}/color/image_raw", help="default: %(default)s")
    parser.add_argument(
        "--depth-topic", default="{camera}/aligned_depth_to_color/image_raw", help="default: %(default)s"
    )
    parser.add_argument("--info-topic", default="{camera}/color/camera_info", help="default: %(default)s")
    parser.add_argument("--rectified", action="store_true", help="the pictures are rectified: ignore CameraInfo's d")
    _add_board_options(parser)


def _capture(args: argparse.Namespace) -> int:
    """Collect views."""
    from minidiffuser_ros.contract.errors import ConfigurationError
    from minidiffuser_ros.contract.files import make_folder

    if args.simulated and args.camera not in SIMULATED:
        raise ConfigurationError(f"the simulated cameras are {' and '.join(SIMULATED)}, not {args.camera!r}")
    if args.count < 1 or args.seed < 0:
        raise ConfigurationError(f"--count must be at least 1 and --seed not negative, got {args.count}, {args.seed}")
    make_folder(args.out)
    if args.simulated:
        return _simulate(args)
    return _lead(args)


def _simulate(args: argparse.Namespace) -> int:
    """Views of the simulated camera; a folder with views is refused, as they are quick to make."""
    from tqdm import tqdm

    from minidiffuser_ros.contract.errors import ConfigurationError
    from minidiffuser_ros.perception.boards import Board
    from minidiffuser_ros.perception.view_folder import VIEWS, SavedView, ViewFolder, save_pictures, write_view_folder
    from minidiffuser_ros.simulation.board_scene import FINGER_OPENING, PICTURE, BoardScene

    if (args.out / VIEWS).exists():
        raise ConfigurationError(f"{args.out} has views already: name another folder")
    held = Board(square=MM * HELD_SQUARE_MM, marker=MM * HELD_MARKER_MM)
    board = _board_of(args, held if args.camera == SIMULATED[0] else None)
    scene = BoardScene(board, args.camera)
    try:
        views = []
        for index, view in enumerate(tqdm(scene.views(args.count, args.seed), total=args.count, unit="view")):
            names = save_pictures(args.out, index, view.color, view.depth)
            views.append(SavedView(names[0], view.T_base_tool, names[1], FINGER_OPENING))
    finally:
        scene.close()
    write_view_folder(ViewFolder(args.out, args.camera, scene.on_hand, board, PICTURE, (), tuple(views)))
    print(f"{len(views)} views of the simulated camera {args.camera!r} in {args.out}")
    return 0


def _lead(args: argparse.Namespace) -> int:
    """A person leads the arm; Enter takes a view."""
    from minidiffuser_ros.arm.kinematics import FrankaKinematics
    from minidiffuser_ros.cli.graph import require_ros
    from minidiffuser_ros.contract.errors import MinidiffuserError
    from minidiffuser_ros.perception.boards import BoardDetector
    from minidiffuser_ros.perception.view_folder import (
        VIEWS,
        SavedView,
        ViewFolder,
        read_view_folder,
        save_pictures,
        write_view_folder,
    )

    require_ros()
    from minidiffuser_ros.bridge.view_taker import ViewTaker

    kinematics, board = FrankaKinematics(), _board_of(args)
    folder: ViewFolder | None = None
    if (args.out / VIEWS).exists():
        folder = _same(read_view_folder(args.out, kinematics.forward), args, board)
        print(f"going on after {len(folder.views)} views in {args.out}")
    topics = tuple(t.replace("{camera}", args.camera) for t in (args.color_topic, args.depth_topic, args.info_topic))
    with ViewTaker(topics[0], topics[1], topics[2], args.rectified) as taker:
        while _asked_for_more():
            try:
                taken = taker.take()
            except MinidiffuserError as error:
                print(f"no view: {error}")
                continue
            corners = BoardDetector(board).detect(taken.color)
            if corners is None:
                print("no view: the board was not found in the picture")
                continue
            folder = folder or ViewFolder(
                args.out, args.camera, args.on_hand, board, taken.camera, taken.distortion, ()
            )  # fmt: skip
            names = save_pictures(folder.root, len(folder.views), taken.color, taken.depth)
            saved = SavedView(names[0], kinematics.forward(taken.joints), names[1], taken.opening)
            folder = replace(folder, views=(*folder.views, saved))
            write_view_folder(folder)
            print(f"view {len(folder.views)}: {len(corners.pixels)} corners")
    count = 0 if folder is None else len(folder.views)
    print(f"{count} views in {args.out}; solve: minidiffuser calibrate solve {args.out} --out cameras.yaml")
    return 0


def _same(folder: ViewFolder, args: argparse.Namespace, board: Board) -> ViewFolder:
    """The folder, if its views are of the same camera and board. Raises ConfigurationError."""
    from minidiffuser_ros.contract.errors import ConfigurationError

    if (folder.camera, folder.on_hand, folder.board) != (args.camera, args.on_hand, board):
        raise ConfigurationError(
            f"{folder.root} has views of camera {folder.camera!r} with {folder.board.describe()}: name another folder"
        )
    return folder


def _asked_for_more() -> bool:
    try:
        return input(ASK).strip().lower() != "q"
    except EOFError:
        return False


VERBS = (
    Verb("board", "write a page with the board to print in true scale", _add_board, _board, """examples:
  minidiffuser calibrate board --out board.pdf
  minidiffuser calibrate board --out tags.pdf --kind apriltag --columns 6 --rows 4 --square-mm 42 --marker-mm 32"""),
    Verb("capture", "collect views of the board", _add_capture, _capture, """examples:
  minidiffuser calibrate capture --camera front --out views/front
  minidiffuser calibrate capture --camera wrist --on-hand --out views/wrist
  minidiffuser calibrate capture --camera wrist --simulated --out views/wrist""",
         "Lead the arm by hand from view to view, at rest in each, and press Enter there."),
)  # fmt: skip
