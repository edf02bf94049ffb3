"""Where a step file keeps what: the layout that Mini-Diffuser's collector writes, or one told by a YAML file.

    episodes: episodes        # the group with a group for each episode; "" for the file itself
    step: step_               # what the names of steps begin with, before their number
    points: xyz               # [P, 3] m in the policy frame
    colors: rgb               # [P, 3] bytes, or fractions of 1
    tool: gripper             # [7] position and quaternion, or [8] with 1 for an open gripper
    joints: joint_states      # [7] rad, or [9] with both fingers in m
    quaternion: xyzw          # or wxyz
    open_above: 0.03          # m: fingers farther out are an open gripper

Instead of `points` and `colors`, pictures:

    cameras:
      front:
        color: front/rgb            # [H, W, 3] bytes
        depth: front/depth          # [h, w]
        intrinsics: front/K         # [3, 3] pixels of the colour picture
        pose: front/T_base_camera   # [4, 4] from the optical frame to the policy frame
        depth_unit: 0.001           # m

Paths lead from the step; those that begin with `/` from the top of the file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from minidiffuser_ros.contract.errors import ConfigurationError

MAX_BYTES = 2**20
ORDERS = ("xyzw", "wxyz")


@dataclass(frozen=True)
class CameraLayout:
    """Paths of a camera's arrays, and the unit of its depth in metres."""

    color: str
    depth: str
    intrinsics: str
    pose: str
    depth_unit: float = 1e-3


@dataclass(frozen=True)
class StepLayout:
    """Paths of a step's arrays; the defaults are what Mini-Diffuser's collector writes."""

    episodes: str = "episodes"
    step: str = "step_"
    points: str = "xyz"
    colors: str = "rgb"
    tool: str = "gripper"
    joints: str = "joint_states"
    quaternion: str = "xyzw"
    open_above: float = 0.03
    cameras: Mapping[str, CameraLayout] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.quaternion not in ORDERS:
            raise ConfigurationError(f"quaternion must be one of {', '.join(ORDERS)}, is {self.quaternion!r:.40}")


def load_layout(path: Path | None) -> StepLayout:
    """The layout in a YAML file; the default for None. Raises ConfigurationError naming what is unknown or wrong."""
    if path is None:
        return StepLayout()
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigurationError(f"{path} has more than {MAX_BYTES} bytes: a layout is a page of YAML")
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"cannot read {path} ({error.strerror}): name a layout") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} is not YAML ({str(error).splitlines()[0]:.80})") from None
    values = _fields(content, StepLayout, str(path))
    cameras = values.get("cameras") or {}
    if not isinstance(cameras, dict):
        raise ConfigurationError(f"{path}: cameras must map names to paths, is {cameras!r:.60}")
    values["cameras"] = {
        str(name): CameraLayout(**_fields(entry, CameraLayout, f"{path}, camera {name}"))
        for name, entry in cameras.items()
    }
    return StepLayout(**values)


def _fields(content: Any, kind: type, where: str) -> dict[str, Any]:
    """The entries of a mapping, as the fields of a dataclass; each text or a number, as its field is."""
    if not isinstance(content, dict):
        raise ConfigurationError(f"{where} must be a mapping, is {content!r:.60}")
    fields = {f.name: f for f in dataclasses.fields(kind)}
    if unknown := sorted(str(key) for key in content if key not in fields):
        raise ConfigurationError(f"{where}: unknown entries {unknown}; known are {sorted(fields)}")
    needed = [n for n, f in fields.items() if f.default is f.default_factory is dataclasses.MISSING]
    if missing := [name for name in needed if name not in content]:
        raise ConfigurationError(f"{where}: missing entries {missing}")
    for name, value in content.items():
        number = fields[name].type == "float"
        right = isinstance(value, int | float) and value > 0 if number else isinstance(value, str)
        if name != "cameras" and (isinstance(value, bool) or not right):
            expected = "a number above 0" if number else "text"
            raise ConfigurationError(f"{where}: '{name}' must be {expected}, is {value!r:.40}")
    return dict(content)
