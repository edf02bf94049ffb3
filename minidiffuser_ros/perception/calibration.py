"""The calibration file: where each camera sits. A camera without an entry is an error, never the identity.

cameras:
  - name: front
    parent_frame: fr3_link0        # or fr3_hand_tcp for a camera on the hand
    position: [1.0, 0.0, 0.5]      # metres, of the optical frame (x right, y down, z forward)
    quat_wxyz: [1.0, 0.0, 0.0, 0.0]
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.contract.observation import CameraMount

BASE_FRAME = "fr3_link0"
TOOL_FRAME = "fr3_hand_tcp"
PARENT_FRAMES = (BASE_FRAME, TOOL_FRAME)
QUATERNION_TOLERANCE = 1e-3
# A camera farther than this from its parent is a slip of the unit (millimetres for metres).
MAX_DISTANCE_M = 10.0
FIELDS = ("name", "parent_frame", "position", "quat_wxyz")


def load_calibration(path: str | Path, cameras: Sequence[str]) -> dict[str, CameraMount]:
    """Mounts by camera name, one for each of `cameras`.

    Raises ConfigurationError for a file that is missing, no YAML, incomplete, or holds numbers that are no pose.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"cannot read the calibration file {path} ({error.strerror}); name a file with the pose of each camera"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the calibration file {path} is not YAML: {error}") from error
    mounts = parse_calibration(content, str(path))
    missing = [name for name in cameras if name not in mounts]
    if missing:
        raise ConfigurationError(f"{path} has no pose for the cameras {missing}; it knows {sorted(mounts)}")
    return mounts


def parse_calibration(content: Any, source: str) -> dict[str, CameraMount]:
    """Mounts by name from the parsed YAML; `source` names it in errors."""
    entries = content.get("cameras") if isinstance(content, Mapping) else None
    if not isinstance(entries, list) or not entries:
        raise ConfigurationError(f"{source} needs a list `cameras` with an entry per camera")
    mounts: dict[str, CameraMount] = {}
    for index, entry in enumerate(entries):
        mount = _mount(entry, f"{source}, camera {index}")
        if mount.name in mounts:
            raise ConfigurationError(f"{source} gives the pose of the camera {mount.name!r} twice")
        mounts[mount.name] = mount
    return mounts


def _mount(entry: Any, where: str) -> CameraMount:
    if not isinstance(entry, Mapping) or sorted(map(str, entry)) != sorted(FIELDS):
        given = sorted(map(str, entry)) if isinstance(entry, Mapping) else entry
        raise ConfigurationError(f"{where}: expected exactly the fields {list(FIELDS)}, got {given}")
    name, parent = entry["name"], entry["parent_frame"]
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"{where}: the name must be text, got {name!r}")
    if parent not in PARENT_FRAMES:
        raise ConfigurationError(f"{where} ({name}): parent_frame must be one of {list(PARENT_FRAMES)}, got {parent!r}")
    position = _numbers(entry["position"], 3, f"{where} ({name}): position")
    quat = _numbers(entry["quat_wxyz"], 4, f"{where} ({name}): quat_wxyz")
    if math.hypot(*position) > MAX_DISTANCE_M:
        raise ConfigurationError(
            f"{where} ({name}): position {list(position)} is farther than {MAX_DISTANCE_M} m; use metres"
        )
    norm = math.hypot(*quat)
    if abs(norm - 1.0) > QUATERNION_TOLERANCE:
        raise ConfigurationError(f"{where} ({name}): quat_wxyz must have norm 1, got {norm:.4f}")
    return CameraMount(
        name,
        parent,
        (position[0], position[1], position[2]),
        (quat[0] / norm, quat[1] / norm, quat[2] / norm, quat[3] / norm),
    )


def _numbers(value: Any, count: int, where: str) -> list[float]:
    """`count` finite numbers; YAML reads `1e-3` as text and `yes` as a truth value, so types are checked."""
    fine = (
        isinstance(value, list)
        and len(value) == count
        and all(isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) for x in value)
    )
    if not fine:
        raise ConfigurationError(f"{where} must be {count} finite numbers, got {value!r}")
    return [float(x) for x in value]
