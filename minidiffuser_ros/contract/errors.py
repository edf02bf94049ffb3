"""Errors a user can fix. Each message says in one sentence what was given, what was expected and what to do."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any


class MinidiffuserError(Exception):
    """Base of every error this package raises on purpose; the command line prints it without a traceback."""


class ConfigurationError(MinidiffuserError):
    """A setting is out of range, unknown, or contradicts another one."""


def require_positive(config: object, names: Iterable[str]) -> None:
    """ConfigurationError unless each named setting, a number or a tuple of some, is above 0."""
    for name in names:
        value = getattr(config, name)
        if min(value, default=0) <= 0 if isinstance(value, tuple) else value <= 0:
            raise ConfigurationError(f"{name} must be above 0, got {value}")


def require_in_range(config: Any) -> None:
    """ConfigurationError unless each number lies in the range that its field's metadata gives; NaN lies in none."""
    for item in dataclasses.fields(config):
        if "range" in item.metadata:
            low, high = item.metadata["range"]
            value = getattr(config, item.name)
            values = value if isinstance(value, tuple) else (value,)
            if not all(low <= number <= high for number in values):
                raise ConfigurationError(f"{item.name} must lie in [{low:g}, {high:g}], got {value}")


class UnknownTaskError(MinidiffuserError):
    """A task or variation that the simulation does not have."""


class InstructionError(MinidiffuserError):
    """A sentence that cannot be used as an instruction."""


class ObservationError(MinidiffuserError):
    """No valid observation can be built; `reasons` lists every cause found."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__("no observation: " + "; ".join(reasons))
        self.reasons = reasons

    def __reduce__(self) -> tuple[type[ObservationError], tuple[list[str]]]:
        return type(self), (self.reasons,)  # as made: from its message alone another process could not make it


class SpecMismatchError(MinidiffuserError):
    """Observation, dataset and checkpoint were made for different observation specs."""


class CheckpointError(MinidiffuserError):
    """A checkpoint that is missing, incomplete or not of this package."""


class EpisodeError(MinidiffuserError):
    """A demonstration file or folder that is missing, truncated or foreign."""


class StorageError(EpisodeError):
    """An episode that could not be written for want of room, or because the disk refused: worth another try."""


class GoalRejectedError(MinidiffuserError):
    """A keypose goal failed a check before any motion started; `reasons` are the sentences against it.

    Made from one sentence or from several (`contract.refusal.Refusal`, which carries a code, or plain text).
    """

    def __init__(self, *reasons: str) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons

    def __reduce__(self) -> tuple[type[GoalRejectedError], tuple[str, ...]]:
        return type(self), self.reasons


class MotionError(MinidiffuserError):
    """A motion was started and did not end where it should; `reason` carries a code where it is a `Refusal`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class PlanningError(MotionError):
    """No way was found to where the arm was asked to go; nothing moved. `reason` is a `contract.refusal.Refusal`."""


class ConnectionLostError(MinidiffuserError):
    """The robot, a camera or another process stopped answering."""


class MessageError(MinidiffuserError):
    """A message whose content cannot be read: an unknown encoding, a wrong size, a joint that is missing."""


class BusyError(MinidiffuserError):
    """Something that does one thing at a time was asked for a second one."""
