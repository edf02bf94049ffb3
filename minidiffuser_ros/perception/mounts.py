"""What every source of a camera's pose has to pass: finite numbers, a unit quaternion, metres, never the identity."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.contract.observation import CameraMount

Array = NDArray[np.float64]
# Frame → (the base or tool frame that it does not move against, T_parent_frame [4, 4]); `arm/frames.py` has the table.
KnownFrames = Mapping[str, tuple[str, Array]]

BASE_FRAME = "fr3_link0"
TOOL_FRAME = "fr3_hand_tcp"
PARENT_FRAMES = (BASE_FRAME, TOOL_FRAME)
QUATERNION_TOLERANCE = 1e-3
# A camera farther than this from its parent is a slip of the unit (millimetres for metres).
MAX_DISTANCE_M = 10.0
# Nearer than this to the identity no camera is: somebody's default.
IDENTITY_M, IDENTITY_RAD = 1e-4, 1e-3


def checked_mount(
    name: Any, parent: Any, position: Sequence[float], quat_wxyz: Sequence[float], where: str
) -> CameraMount:
    """The mount of checked values, the quaternion normalised. Raises ConfigurationError naming `where`."""
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"{where}: the name must be text, got {name!r}")
    if parent not in PARENT_FRAMES:
        raise ConfigurationError(f"{where} ({name}): parent_frame must be one of {list(PARENT_FRAMES)}, got {parent!r}")
    if math.hypot(*position) > MAX_DISTANCE_M:
        raise ConfigurationError(
            f"{where} ({name}): position {list(position)} is farther than {MAX_DISTANCE_M} m; use metres"
        )
    norm = math.hypot(*quat_wxyz)
    if abs(norm - 1.0) > QUATERNION_TOLERANCE:
        raise ConfigurationError(f"{where} ({name}): quat_wxyz must have norm 1, got {norm:.4f}")
    if math.hypot(*position) < IDENTITY_M and math.hypot(*quat_wxyz[1:]) < IDENTITY_RAD:
        raise ConfigurationError(
            f"{where} ({name}): the pose is the identity, which no camera has: calibrate it (docs/calibration.md)"
        )
    quat = [value / norm for value in quat_wxyz]
    return CameraMount(
        name, parent, (position[0], position[1], position[2]), (quat[0], quat[1], quat[2], quat[3])
    )  # fmt: skip


def resolved(frame: str, T_frame_camera: Array, known_frames: KnownFrames, where: str) -> tuple[str, Array]:
    """Base or tool frame, and the camera's pose in it, from its pose in a frame fixed to one of them.

    Raises ConfigurationError for a frame that is not known.
    """
    if frame not in known_frames:
        raise ConfigurationError(
            f"{where}: the pose is given in the frame {frame!r}, whose place on the arm is not known; known are "
            f"{', '.join(sorted({BASE_FRAME, TOOL_FRAME, *known_frames}))}"
        )
    parent, T_parent_frame = known_frames[frame]
    return parent, T_parent_frame @ T_frame_camera


def numbers(value: Any, count: int, where: str) -> list[float]:
    """`count` finite numbers; YAML reads `1e-3` as text and `yes` as a truth value, so types are checked."""
    fine = (
        isinstance(value, list)
        and len(value) == count
        and all(isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) for x in value)
    )
    if not fine:
        raise ConfigurationError(f"{where} must be {count} finite numbers, got {value!r}")
    return [float(x) for x in value]
