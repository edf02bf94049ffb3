"""The calibration file: where each camera sits. A camera without an entry is an error, never the identity.

cameras:
  - name: front
    parent_frame: fr3_link0        # or fr3_hand_tcp for a camera on the hand
    position: [1.0, 0.0, 0.5]      # metres, of the optical frame (x right, y down, z forward)
    quat_wxyz: [1.0, 0.0, 0.0, 0.0]
    date: 2026-01-31T14:00:00Z     # from here on optional, for one camera or, beside `cameras`, for all
    method: hand_eye charuco       # how it was made
    residuals: {rms_px: 0.31}      # numbers by name
    image_size: [640, 480]         # pixels
    intrinsics: [612.1, 612.3, 321.0, 240.4]   # fx, fy, cx, cy in pixels
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from minidiffuser_ros.contract.calibration import TF, CalibrationRecord, CalibrationSource, parse_date
from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.contract.files import replace_file
from minidiffuser_ros.contract.observation import CameraMount
from minidiffuser_ros.perception.easy_handeye import SUFFIX, mount_of_calib
from minidiffuser_ros.perception.mounts import (
    BASE_FRAME,
    PARENT_FRAMES,
    TOOL_FRAME,
    KnownFrames,
    checked_mount,
    numbers,
)

__all__ = [
    "BASE_FRAME",
    "PARENT_FRAMES",
    "TOOL_FRAME",
    "Calibration",
    "CalibrationEntry",
    "load_calibration",
    "parse_calibration",
    "read_calibration",
    "require_free",
    "write_calibration",
]

FIELDS = ("name", "parent_frame", "position", "quat_wxyz")
SHARED = ("date", "method")
OPTIONAL = (*SHARED, "residuals", "image_size", "intrinsics")
# A file with the poses of a few cameras is a thousand times smaller.
MAX_BYTES = 1_000_000
POSITION_DIGITS, QUAT_DIGITS = 6, 9
HEADER = (
    "# Where the cameras sit: position in metres, of the optical frame (x right, y down, z forward) in parent_frame.\n"
)


@dataclass(frozen=True)
class CalibrationEntry:
    """One camera of a file: its mount, and what the file tells about it. date: ISO 8601, UTC; empty: unknown."""

    mount: CameraMount
    date: str = ""
    method: str = ""
    residuals: Mapping[str, float] = field(default_factory=dict)
    image_size: tuple[int, int] | None = None
    intrinsics: tuple[float, float, float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for YAML, in the file's order; what is not known is left out."""
        mount = self.mount
        values: dict[str, Any] = {"name": mount.name, "parent_frame": mount.parent_frame}
        values["position"] = [round(float(v), POSITION_DIGITS) for v in mount.position]
        values["quat_wxyz"] = [round(float(v), QUAT_DIGITS) for v in mount.quat_wxyz]
        for name in OPTIONAL:
            if value := getattr(self, name):
                values[name] = dict(value) if isinstance(value, Mapping) else value
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


@dataclass(frozen=True)
class Calibration:
    """Mounts and records by camera name."""

    mounts: dict[str, CameraMount]
    records: dict[str, CalibrationRecord]


def load_calibration(path: str | Path, cameras: Sequence[str]) -> dict[str, CameraMount]:
    """Mounts by camera name from one YAML file, with one for each of `cameras`.

    Raises ConfigurationError for a file that is missing, no YAML, incomplete, or holds numbers that are no pose.
    """
    mounts = parse_calibration(_content(_bytes(Path(path)), Path(path)), str(path))
    _require(mounts, cameras, str(path))
    return mounts


def read_calibration(
    sources: Sequence[CalibrationSource], cameras: Sequence[str], known_frames: KnownFrames
) -> Calibration:
    """Mounts and records of `cameras` from files, YAML or easy_handeye2's `.calib`.

    Cameras that a source `tf` stands for are left out. Raises ConfigurationError for files that cannot be used and for
    cameras without a pose or with two.
    """
    mounts: dict[str, CameraMount] = {}
    records: dict[str, CalibrationRecord] = {}
    for part in sources:
        if part.source == TF:
            continue
        path = Path(part.source)
        data = _bytes(path)
        for entry in _entries_of(_content(data, path), part, known_frames):
            name = entry.mount.name
            if name in mounts:
                raise ConfigurationError(f"the pose of the camera {name!r} is given twice, by {path} and another file")
            mounts[name] = entry.mount
            digest = hashlib.sha256(data).hexdigest()
            records[name] = CalibrationRecord(name, str(path), digest, entry.date, entry.method)
    by_tf = {part.camera for part in sources if part.source == TF}
    if "" not in by_tf:
        wanted = [name for name in cameras if name not in by_tf]
        _require(mounts, wanted, ", ".join(part.source for part in sources))
    return Calibration(
        {name: mounts[name] for name in cameras if name in mounts},
        {name: records[name] for name in cameras if name in records},
    )


def parse_calibration(content: Any, source: str) -> dict[str, CameraMount]:
    """Mounts by name from the parsed YAML; `source` names it in errors."""
    return {entry.mount.name: entry.mount for entry in parse_entries(content, source)}


def parse_entries(content: Any, source: str) -> list[CalibrationEntry]:
    """Every camera of the parsed YAML. Raises ConfigurationError naming `source`."""
    entries = content.get("cameras") if isinstance(content, Mapping) else None
    if not isinstance(entries, list) or not entries:
        raise ConfigurationError(f"{source} needs a list `cameras` with an entry per camera")
    if unknown := sorted(set(map(str, content)) - {"cameras", *SHARED}):
        raise ConfigurationError(f"{source} has {unknown} beside `cameras`; there may be {list(SHARED)}")
    shared = {key: content[key] for key in SHARED if key in content}
    found: dict[str, CalibrationEntry] = {}
    for index, values in enumerate(entries):
        entry = _entry(values, shared, f"{source}, camera {index}")
        if entry.mount.name in found:
            raise ConfigurationError(f"{source} gives the pose of the camera {entry.mount.name!r} twice")
        found[entry.mount.name] = entry
    return list(found.values())


def write_calibration(path: Path, entry: CalibrationEntry, replace: bool, now: datetime) -> Path | None:
    """Put one camera into a calibration file, beside those it has; the file is whole at any moment.

    A file that was there is kept under a name with the date `now`, which is returned. Raises ConfigurationError where
    the camera is there and `replace` is false, or where the file cannot be read.
    """
    entries = require_free(path, entry.mount.name, replace)
    kept = [old for old in entries if old.mount.name != entry.mount.name]
    document = {"cameras": [one.to_dict() for one in (*kept, entry)]}
    text = HEADER + yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=100)
    parse_entries(yaml.safe_load(text), str(path))  # what is written must be readable
    backup = path.with_name(f"{path.stem}.{now:%Y%m%d-%H%M%S}{path.suffix}") if entries else None
    if backup is not None:
        data = path.read_bytes()
        replace_file(backup, lambda partial: partial.write_bytes(data))
    replace_file(path, lambda partial: partial.write_text(text, encoding="utf-8"))
    return backup


def require_free(path: Path, camera: str, replace: bool) -> list[CalibrationEntry]:
    """The entries of a file that is to get one of `camera`, none where there is no file.

    Raises ConfigurationError where the camera is there and `replace` is false, or where the file cannot be read.
    """
    entries = parse_entries(_content(_bytes(path), path), str(path)) if path.exists() else []
    if not replace and any(entry.mount.name == camera for entry in entries):
        raise ConfigurationError(f"{path} has a pose of the camera {camera!r} already: say --replace to change it")
    return entries


def _entries_of(content: Any, part: CalibrationSource, known_frames: KnownFrames) -> list[CalibrationEntry]:
    """The cameras of a file that its part of the setting asks for."""
    if part.source.endswith(SUFFIX):
        return [CalibrationEntry(mount_of_calib(content, part.source, part.camera, known_frames))]
    entries = parse_entries(content, part.source)
    if not part.camera:
        return entries
    chosen = [entry for entry in entries if entry.mount.name == part.camera]
    if not chosen and len(entries) == 1:
        # The only camera of a file may be called otherwise there: the setting says which it is.
        return [dataclasses.replace(entries[0], mount=dataclasses.replace(entries[0].mount, name=part.camera))]
    _require({entry.mount.name: entry.mount for entry in chosen}, [part.camera], part.source)
    return chosen


def _entry(values: Any, shared: Mapping[str, Any], where: str) -> CalibrationEntry:
    given = sorted(map(str, values)) if isinstance(values, Mapping) else values
    if not isinstance(values, Mapping) or not set(FIELDS) <= set(values) <= {*FIELDS, *OPTIONAL}:
        raise ConfigurationError(
            f"{where}: expected exactly the fields {list(FIELDS)}, and of {list(OPTIONAL)} any, got {given}"
        )
    name = values["name"]
    position = numbers(values["position"], 3, f"{where} ({name}): position")
    quat = numbers(values["quat_wxyz"], 4, f"{where} ({name}): quat_wxyz")
    mount = checked_mount(name, values["parent_frame"], position, quat, where)
    return CalibrationEntry(mount, **_about({**shared, **values}, f"{where} ({name})"))


def _about(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The optional fields, checked."""
    about: dict[str, Any] = {}
    if (moment := values.get("date")) is not None:
        text = moment.isoformat() if isinstance(moment, date) else moment  # YAML has a type of its own for dates
        if not isinstance(text, str):
            raise ConfigurationError(f"{where}: date must be written as 2026-01-31T14:00:00Z, got {text!r:.40}")
        about["date"] = parse_date(text).isoformat(timespec="seconds")
    if (method := values.get("method")) is not None:
        if not isinstance(method, str):
            raise ConfigurationError(f"{where}: method must be text, got {method!r:.40}")
        about["method"] = method
    if (residuals := values.get("residuals")) is not None:
        if not isinstance(residuals, Mapping):
            raise ConfigurationError(f"{where}: residuals must be numbers by name, got {residuals!r:.40}")
        about["residuals"] = {str(k): numbers([v], 1, f"{where}: residuals.{k}")[0] for k, v in residuals.items()}
    if (size := values.get("image_size")) is not None:
        width, height = numbers(size, 2, f"{where}: image_size")
        about["image_size"] = (int(width), int(height))
    if (intrinsics := values.get("intrinsics")) is not None:
        about["intrinsics"] = tuple(numbers(intrinsics, 4, f"{where}: intrinsics"))
        if not np.all(np.array(about["intrinsics"][:2]) > 0.0):
            raise ConfigurationError(f"{where}: intrinsics must be fx, fy, cx, cy with focal lengths above 0")
    return about


def _require(mounts: Mapping[str, CameraMount], cameras: Sequence[str], source: str) -> None:
    missing = [name for name in cameras if name not in mounts]
    if missing:
        raise ConfigurationError(
            f"{source} has no pose for the cameras {missing}; it knows {sorted(mounts)}: calibrate them, or write "
            "camera=file for a file that names its camera otherwise"
        )


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigurationError(f"the calibration file {path} is larger than {MAX_BYTES} bytes: name another one")
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"cannot read the calibration file {path} ({error.strerror}); name a file with the pose of each camera"
        ) from error


def _content(data: bytes, path: Path) -> Any:
    try:
        return yaml.safe_load(data.decode("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(f"the calibration file {path} is not YAML: {error}") from error
