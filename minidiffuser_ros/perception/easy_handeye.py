"""Calibrations of easy_handeye2: its `.calib` files.

They hold the pose of `tracking_base_frame` in the effector (eye_in_hand) or in the robot's base (eye_on_base):

parameters: {name: front, calibration_type: eye_on_base, robot_base_frame: fr3_link0, robot_effector_frame: fr3_link8,
             tracking_base_frame: front_color_optical_frame, …}
transform: {translation: {x: …, y: …, z: …}, rotation: {x: …, y: …, z: …, w: …}}

Files of its first versions say `eye_on_hand: true` and `transformation: {x, y, z, qx, qy, qz, qw}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.contract.observation import CameraMount
from minidiffuser_ros.geometry.transform import pose_of, transform_from
from minidiffuser_ros.perception.mounts import BASE_FRAME, KnownFrames, checked_mount, numbers, resolved

Array = NDArray[np.float64]

SUFFIX = ".calib"
IN_HAND, ON_BASE = "eye_in_hand", "eye_on_base"
# The pictures that become points are colour pictures, with depth brought to their pixels.
OTHER_SENSORS = ("depth", "infra")


def mount_of_calib(content: Any, source: str, camera: str, known_frames: KnownFrames) -> CameraMount:
    """The camera's mount from a parsed file; camera: its name, empty for the one in the file.

    Raises ConfigurationError for content of another shape, for an identity, and for frames that cannot be brought to
    the optical frame or to the base or tool.
    """
    parameters = content.get("parameters") if isinstance(content, Mapping) else None
    if not isinstance(parameters, Mapping):
        raise ConfigurationError(f"{source} needs `parameters` and `transform` as easy_handeye2 writes them")
    name = camera or parameters.get("name") or str(parameters.get("namespace", "")).strip("/").split("/")[-1]
    where = f"{source} ({name})"
    parent = _text(parameters, "robot_effector_frame" if _in_hand(parameters, where) else "robot_base_frame", where)
    frame = _text(parameters, "tracking_base_frame", where)
    if not frame.endswith("optical_frame") or any(word in frame for word in OTHER_SENSORS):
        raise ConfigurationError(
            f"{where}: it gives the pose of tracking_base_frame {frame!r}, which is not the optical frame of the "
            "colour picture: calibrate with that frame, or run easy_handeye2's publisher and set calibration to 'tf'"
        )
    T_parent_camera = _transform(content, where)
    mount_parent, pose = resolved(parent, T_parent_camera, known_frames, where)
    position, quat = pose_of(pose)
    return checked_mount(name, mount_parent, position.tolist(), quat.tolist(), where)


def _in_hand(parameters: Mapping[str, Any], where: str) -> bool:
    kind = parameters.get("calibration_type")
    if kind is None and isinstance(parameters.get("eye_on_hand"), bool):
        return bool(parameters["eye_on_hand"])
    if kind not in (IN_HAND, ON_BASE):
        raise ConfigurationError(f"{where}: calibration_type must be {IN_HAND} or {ON_BASE}, got {kind!r:.40}")
    return bool(kind == IN_HAND)


def _text(parameters: Mapping[str, Any], key: str, where: str) -> str:
    value = parameters.get(key)
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{where}: parameters.{key} must name a frame, got {value!r:.40}")
    return value.lstrip("/")


def _transform(content: Mapping[str, Any], where: str) -> Array:
    new, old = content.get("transform"), content.get("transformation")
    if isinstance(new, Mapping) and all(isinstance(new.get(key), Mapping) for key in ("translation", "rotation")):
        position = [new["translation"].get(axis) for axis in "xyz"]
        quat = [new["rotation"].get(axis) for axis in "wxyz"]
    elif isinstance(old, Mapping):
        position, quat = [old.get(axis) for axis in "xyz"], [old.get(f"q{axis}") for axis in "wxyz"]
    else:
        raise ConfigurationError(
            f"{where}: `transform` needs `translation` and `rotation` as easy_handeye2 writes them"
        )
    place, turn = numbers(position, 3, f"{where}: translation"), numbers(quat, 4, f"{where}: rotation")
    checked = checked_mount("camera", BASE_FRAME, place, turn, where)
    return transform_from(checked.position, checked.quat_wxyz)
