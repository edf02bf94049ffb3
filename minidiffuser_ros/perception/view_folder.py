"""A folder of views to calibrate a camera from: pictures, and `views.yaml` (or `views.json`) beside them.

camera: front
on_hand: false                       # true: the camera is on the hand and the board lies still
board: {kind: charuco, columns: 7, rows: 5, square: 0.036, marker: 0.027, dictionary: DICT_5X5_100}
intrinsics: {width: 640, height: 480, fx: 612.4, fy: 611.7, cx: 326.3, cy: 238.1}
distortion: [0.0, 0.0, 0.0, 0.0, 0.0]    # optional: as CameraInfo.d, for pictures that are not rectified
views:
  - {image: 000.png, joints: [7 numbers in rad]}
  - {image: 001.png, position: [x, y, z], quat_wxyz: [w, x, y, z], depth: 001_depth.png, opening: 0.5}

A view has the arm's joints or the pose of the tool in the base frame. depth (16-bit PNG, mm) and opening (0 to 1) are
optional: `check` compares with them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.contract.files import replace_file
from minidiffuser_ros.geometry.camera import PinholeCamera
from minidiffuser_ros.geometry.transform import pose_of, transform_from
from minidiffuser_ros.perception.boards import Board
from minidiffuser_ros.perception.mounts import QUATERNION_TOLERANCE, numbers

Array = NDArray[np.float64]

VIEWS = "views.yaml"
MILLIMETRE = 0.001
# An index is small and pictures of cameras are not huge: what is more is something else.
MAX_BYTES, MAX_VIEWS, MAX_SIDE = 4_000_000, 2000, 10_000
DISTORTION_SIZES = (0, 4, 5, 8, 12, 14)


@dataclass(frozen=True)
class SavedView:
    """One view: file names in the folder (depth may be empty), T_base_tool [4, 4], opening in [0, 1]."""

    image: str
    T_base_tool: Array
    depth: str = ""
    opening: float = 0.0


@dataclass(frozen=True)
class ViewFolder:
    """The views of one camera. distortion: OpenCV's coefficients, empty for rectified pictures."""

    root: Path
    camera: str
    on_hand: bool
    board: Board
    intrinsics: PinholeCamera
    distortion: tuple[float, ...]
    views: tuple[SavedView, ...]

    def color(self, view: SavedView) -> NDArray[np.uint8]:
        """Colour [H, W, 3] of a view. Raises ConfigurationError where there is none of the camera's size."""
        with self._opened(view.image) as picture:
            return np.asarray(picture.convert("RGB"), np.uint8)

    def depth(self, view: SavedView) -> NDArray[np.float32] | None:
        """Depth [H, W] in metres of a view, 0 where unknown; None where none was kept."""
        if not view.depth:
            return None
        with self._opened(view.depth) as picture:
            return np.asarray(picture).astype(np.float32) * MILLIMETRE

    def _opened(self, name: str) -> Image.Image:
        path, size = self.root / name, (self.intrinsics.width, self.intrinsics.height)
        try:
            picture = Image.open(path)  # reads the head only
        except (OSError, Image.DecompressionBombError) as error:
            raise ConfigurationError(f"cannot read the picture {path} ({error}): take the view again") from None
        if picture.size != size:
            raise ConfigurationError(
                f"{path} has {picture.size[0]}x{picture.size[1]} pixels and its intrinsics are for "
                f"{size[0]}x{size[1]}: give those of this picture"
            )
        return picture


def read_view_folder(root: Path, forward: Callable[[Array], Array]) -> ViewFolder:
    """The views of a folder; forward: joints [7] in rad → T_base_tool [4, 4].

    Raises ConfigurationError naming what is missing or wrong in `views.yaml`.
    """
    path = root / VIEWS
    if not path.exists() and path.with_suffix(".json").exists():
        path = path.with_suffix(".json")  # JSON is YAML, too
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigurationError(f"{path} is larger than {MAX_BYTES} bytes: it is no list of views")
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"cannot read {path} ({error.strerror}): name a folder of views (docs/calibration.md)"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{path} is not YAML: {error}") from None
    if not isinstance(content, Mapping):
        raise ConfigurationError(f"{path} must hold camera, on_hand, board, intrinsics and views")
    camera, on_hand, views = content.get("camera"), content.get("on_hand"), content.get("views")
    if not isinstance(camera, str) or not camera or not isinstance(on_hand, bool):
        raise ConfigurationError(
            f"{path}: camera must be a name and on_hand true or false, got {camera!r}, {on_hand!r}"
        )
    if not isinstance(views, list) or not 0 < len(views) <= MAX_VIEWS:
        raise ConfigurationError(f"{path} needs a list `views` of 1 to {MAX_VIEWS}")
    distortion = content.get("distortion", [])
    if not isinstance(distortion, list) or len(distortion) not in DISTORTION_SIZES:
        raise ConfigurationError(
            f"{path}: distortion must be a list of {DISTORTION_SIZES} numbers, got {distortion!r:.60}"
        )
    return ViewFolder(
        root,
        camera,
        on_hand,
        _made(Board, content.get("board"), f"{path}: board"),
        _intrinsics(content.get("intrinsics"), f"{path}: intrinsics"),
        tuple(numbers(distortion, len(distortion), f"{path}: distortion")),
        tuple(_view(values, f"{path}, view {index}", forward) for index, values in enumerate(views)),
    )


def write_view_folder(folder: ViewFolder) -> None:
    """Write `views.yaml`; the pictures are the caller's."""
    entries = []
    for view in folder.views:
        position, quat = pose_of(view.T_base_tool)
        entry: dict[str, Any] = {"image": view.image, "position": position.tolist(), "quat_wxyz": quat.tolist()}
        entry |= {"depth": view.depth} if view.depth else {}
        entries.append(entry | {"opening": float(view.opening)})
    document = {
        "camera": folder.camera,
        "on_hand": folder.on_hand,
        "board": dataclasses.asdict(folder.board),
        "intrinsics": dataclasses.asdict(folder.intrinsics),
        "distortion": list(folder.distortion),
        "views": entries,
    }
    text = yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=120)
    replace_file(folder.root / VIEWS, lambda partial: partial.write_text(text, encoding="utf-8"))


def save_pictures(
    root: Path, index: int, color: NDArray[np.uint8], depth: NDArray[np.floating] | None
) -> tuple[str, str]:
    """Save a view's colour [H, W, 3] and depth [H, W] in metres as PNG files; returns their names, '' for no depth."""
    name = f"{index:03d}.png"
    replace_file(root / name, lambda partial: Image.fromarray(color).save(partial, "PNG"))
    if depth is None:
        return name, ""
    millimetres = np.nan_to_num(depth / MILLIMETRE, nan=0.0, posinf=0.0, neginf=0.0)
    millimetres[(millimetres < 0) | (millimetres > np.iinfo(np.uint16).max)] = 0
    picture = Image.fromarray(np.rint(millimetres).astype(np.uint16))
    depth_name = f"{index:03d}_depth.png"
    replace_file(root / depth_name, lambda partial: picture.save(partial, "PNG"))
    return name, depth_name


def _made(kind: Any, values: Any, where: str) -> Any:
    """A dataclass from YAML: known keys, values of the types of the defaults."""
    defaults = {f.name: f.default for f in dataclasses.fields(kind)}
    if not isinstance(values, Mapping) or not set(values) <= set(defaults):
        raise ConfigurationError(f"{where} must have of the keys {sorted(defaults)} any, got {values!r:.100}")
    for key, value in values.items():
        expected = (int, float) if isinstance(defaults[key], float) else type(defaults[key])
        if isinstance(value, bool) or not isinstance(value, expected):
            raise ConfigurationError(f"{where}: {key} must be like {defaults[key]!r}, got {value!r:.60}")
    return kind(**values)


def _intrinsics(values: Any, where: str) -> PinholeCamera:
    keys = [f.name for f in dataclasses.fields(PinholeCamera)]
    if not isinstance(values, Mapping) or sorted(values) != sorted(keys):
        raise ConfigurationError(f"{where} must have exactly the keys {keys}, got {values!r:.100}")
    width, height, fx, fy, cx, cy = numbers([values[key] for key in keys], 6, where)
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and fx > 0.0 and fy > 0.0):
        raise ConfigurationError(f"{where}: size and focal lengths must be above 0 pixels, got {dict(values)}")
    return PinholeCamera(int(width), int(height), fx, fy, cx, cy)


def _view(values: Any, where: str, forward: Callable[[Array], Array]) -> SavedView:
    if not isinstance(values, Mapping):
        raise ConfigurationError(f"{where} must have `image` and the arm's pose, got {values!r:.60}")
    if "joints" in values:
        T_base_tool = forward(np.array(numbers(values["joints"], 7, f"{where}: joints")))
    else:
        position = numbers(values.get("position"), 3, f"{where}: position (or give joints)")
        quat = numbers(values.get("quat_wxyz"), 4, f"{where}: quat_wxyz")
        if abs(math.hypot(*quat) - 1.0) > QUATERNION_TOLERANCE:
            raise ConfigurationError(f"{where}: quat_wxyz must have norm 1, got {math.hypot(*quat):.4f}")
        T_base_tool = transform_from(position, quat)
    opening = numbers([values.get("opening", 0.0)], 1, f"{where}: opening")[0]
    image = _file_name(values.get("image"), f"{where}: image")
    depth = _file_name(values["depth"], f"{where}: depth") if "depth" in values else ""
    return SavedView(image, T_base_tool, depth, min(1.0, max(0.0, opening)))


def _file_name(value: Any, where: str) -> str:
    """A name in the folder itself: a list of views from elsewhere must not lead out of it."""
    if not isinstance(value, str) or PurePath(value).name != value or value in ("", ".", ".."):
        raise ConfigurationError(f"{where} must name a file in the folder of {VIEWS}, got {value!r:.60}")
    return value


def picked(folder: ViewFolder, name: str) -> SavedView:
    """The view with the picture `name`, the first one for an empty name. Raises ConfigurationError for another."""
    names: Sequence[str] = [view.image for view in folder.views]
    if not name:
        return folder.views[0]
    if name not in names:
        raise ConfigurationError(f"{folder.root} has no view {name!r}; it has {', '.join(names)}")
    return folder.views[names.index(name)]
