"""What cameras and joints gave during a demonstration: kept beside the observations where it was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.contract.errors import EpisodeError

if TYPE_CHECKING:
    from minidiffuser_ros.perception.builder import CameraView

DEPTH_UNIT = 1e-4  # m, as a RealSense D405 counts
RECORDED: dict[str, type[np.generic]] = {
    "images": np.uint8, "depths": np.uint16, "camera_poses": np.float64, "intrinsics": np.float64,
    "trajectory": np.float32,
}  # fmt: skip


@dataclass(frozen=True)
class Recording:
    """T observations of C cameras, and the way between them.

    images [T, C, H, W, 3]; depths [T, C, H, W] in DEPTH_UNIT, 0 where unknown; camera_poses [T, C, 4, 4]:
    T_policy_camera; intrinsics [C, 3, 3]; trajectory [N, 10]: number of the keypose on the way to, seconds since the
    start, joints in rad, gripper opening.
    """

    images: NDArray[np.uint8]
    depths: NDArray[np.uint16]
    camera_poses: NDArray[np.float64]
    intrinsics: NDArray[np.float64]
    trajectory: NDArray[np.float32]


class Recorder:
    """Collects a recording while a demonstration is made."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything: the demonstration begins again."""
        self._views: list[Sequence[CameraView]] = []
        self._rows: list[NDArray[np.float64]] = []

    def see(self, views: Sequence[CameraView]) -> None:
        """Keep what the cameras saw before a keypose."""
        self._views.append(views)

    def follow(self, rows: NDArray[np.float64]) -> None:
        """Keep the way to the keypose after the last views: rows [N, 9] of seconds, joints and opening."""
        self._rows.append(np.insert(rows, 0, len(self._views) - 1, axis=1))

    def recording(self) -> Recording:
        """Everything so far."""
        depths = [[np.nan_to_num(v.depth, nan=0.0) / DEPTH_UNIT for v in views] for views in self._views]
        return Recording(
            np.array([[v.color for v in views] for views in self._views]),
            np.where(np.array(depths) < 2**16, np.round(depths), 0).astype(np.uint16),
            np.array([[v.T_policy_camera for v in views] for views in self._views]),
            np.array([v.camera.matrix for v in self._views[0]]),
            np.concatenate(self._rows).astype(np.float32),
        )


def load_recording(path: Path) -> Recording:
    """What a demonstration's file keeps of cameras and joints. Raises EpisodeError where it keeps nothing of it."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in RECORDED}
    except KeyError:
        raise EpisodeError(f"{path} keeps no pictures: make it with `minidiffuser demos --rgbd`") from None
    except Exception as error:  # damaged and foreign files make zipfile, zlib and numpy raise almost anything
        raise EpisodeError(f"cannot read the recording {path} ({error}): name a demonstration's file") from None
    wrong = [name for name, kind in RECORDED.items() if arrays[name].dtype != kind]
    if wrong:
        raise EpisodeError(f"{path}: {', '.join(wrong)} are not of the types that a recording has: make it again")
    return Recording(**arrays)
