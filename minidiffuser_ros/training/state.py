"""`resume.pt`: everything needed to go on exactly where a run was, whatever ended it."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from minidiffuser_ros.contract.errors import CheckpointError
from minidiffuser_ros.contract.files import replace_file

STATE = "resume.pt"


def save_state(folder: Path, settings: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Write state (tensors, numbers, dicts of them) beside the settings that make it what it is."""
    content = {"settings": json.dumps(settings), **state}
    replace_file(folder / STATE, lambda path: torch.save(content, path))


def load_state(folder: Path, settings: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Read it back. Raises CheckpointError for a damaged file and for one of other settings, naming those."""
    path = folder / STATE
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        before = json.loads(state["settings"])
    except (RuntimeError, LookupError, ValueError, TypeError, OSError, EOFError, pickle.UnpicklingError) as error:
        raise refusal(
            path, "it is damaged or of another version" if isinstance(error, LookupError) else error
        ) from None
    if changed := differences(before, json.loads(json.dumps(settings))):
        raise refusal(path, "; ".join(changed))
    return state


def refusal(path: Path, reason: object) -> CheckpointError:
    """The one sentence for a state that cannot be used."""
    return CheckpointError(f"{path} does not continue this training ({_first_line(reason)}): use another --out")


def differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """One phrase per setting that differs, nested ones by their dotted name."""
    found = []
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += differences(old, new, f"{prefix}{key}.")
        elif old != new:
            found.append(f"{prefix}{key} was {old}, now {new}")
    return found


def _first_line(reason: object) -> str:
    return (str(reason).splitlines() or ["damaged"])[0]
