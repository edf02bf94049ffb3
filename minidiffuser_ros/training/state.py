"""`resume.pt`: everything needed to go on exactly where a run was, whatever ended it; `training.json`: how it went."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from minidiffuser_ros.contract.errors import CheckpointError
from minidiffuser_ros.contract.files import replace_file

STATE, RECORD = "resume.pt", "training.json"


class HasSteps(Protocol):
    """Settings of a run with so many optimiser steps."""

    @property
    def steps(self) -> int:
        """How many are asked for."""


class Trains(Protocol):
    """A trainer whose network, optimiser and progress are kept. held_out: its last figures, as plain values."""

    step_number: int
    seconds: float
    held_out: dict[str, Any]

    @property
    def network(self) -> torch.nn.Module:
        """What is trained."""

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """What trains it."""

    @property
    def config(self) -> HasSteps:
        """Its settings."""

    def settings(self) -> dict[str, Any]:
        """What a run must share with the one that it goes on from."""


def save_training(folder: Path, trainer: Trains, average: Mapping[str, Tensor]) -> None:
    """Everything that `restore_training` needs, with the averaged weights."""
    state = {
        "step": trainer.step_number,
        "seconds": trainer.seconds,
        "held_out": json.dumps(trainer.held_out),
        "network": trainer.network.state_dict(),
        "average": dict(average),
        "optimizer": trainer.optimizer.state_dict(),
    }
    save_state(folder, trainer.settings(), state)


def restore_training(folder: Path, trainer: Trains, device: torch.device) -> dict[str, Tensor]:
    """Put a trainer where `save_training` was called; returns the averaged weights.

    Raises CheckpointError where the file does not fit.
    """
    state = load_state(folder, trainer.settings(), device)
    try:
        step = int(state["step"])
        if step > trainer.config.steps:
            raise ValueError(f"it has done {step} steps, more than the {trainer.config.steps} asked for")
        trainer.network.load_state_dict(state["network"])
        trainer.optimizer.load_state_dict(state["optimizer"])
        trainer.step_number, trainer.seconds = step, float(state["seconds"])
        trainer.held_out = json.loads(state["held_out"])
        return dict(state["average"])
    except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise refusal(folder / STATE, error) from None


def write_record(folder: Path, trainer: Trains, settings: Mapping[str, Any], more: Mapping[str, Any]) -> None:
    """`training.json`: how this policy was made; the model card is written from it."""
    record = {
        "config": settings,
        "steps": trainer.step_number,
        "minutes": round(trainer.seconds / 60.0, 1),
        "parameters": sum(p.numel() for p in trainer.network.parameters()),
        **more,
        **({"held_out": trainer.held_out} if trainer.held_out else {}),
    }
    save_record(folder, record)


def save_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write `training.json`."""
    text = json.dumps(record, indent=2) + "\n"
    replace_file(folder / RECORD, lambda path: path.write_text(text))


def record_before(folder: Path) -> dict[str, float]:
    """Steps and minutes of a checkpoint's training and of those that it began with; empty where it does not say."""
    try:
        record = json.loads((folder / RECORD).read_text())
        before = record.get("before", {})
        return {name: record[name] + before.get(name, 0) for name in ("steps", "minutes")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def keep_record(source: Path, folder: Path, **more: Any) -> None:
    """A checkpoint's record of its training, for one that was made of it; nothing where none can be read."""
    try:
        record = json.loads((source / RECORD).read_text())
    except (OSError, ValueError):
        return
    if isinstance(record, dict):
        save_record(folder, record | more)


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
