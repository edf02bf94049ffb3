"""Where the poses of the cameras came from: what a setting names, and what is kept of it beside the poses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from minidiffuser_ros.contract.errors import ConfigurationError

TF = "tf"
SECONDS_PER_DAY = 86400.0
MAX_TEXT = 1000


@dataclass(frozen=True)
class CameraPoseSettings:
    """Where the poses of the cameras come from, and when they are too old to be believed."""

    calibration: str = field(
        default="",
        metadata={
            "description": "YAML file with the pose of each camera, or for each camera a file of easy_handeye2 or 'tf' "
            "as front=front.calib,wrist=tf; 'tf': all from TF",
            "read_only": True,
        },
    )
    optical_frame: str = field(
        default="{camera}_color_optical_frame",
        metadata={
            "description": "optical frame of the colour picture, for poses from TF; {camera} stands for its name",
            "read_only": True,
        },
    )
    max_calibration_age_days: float = field(
        default=90.0,
        metadata={
            "description": "older calibrations are warned of; 0: never",
            "unit": "d",
            "range": (0.0, 3650.0),
            "read_only": True,
        },
    )


@dataclass(frozen=True)
class CalibrationSource:
    """One part of the setting: a file or `tf`, for one camera or (empty) for every camera that it has."""

    camera: str
    source: str


@dataclass(frozen=True)
class CalibrationRecord:
    """What is kept of one camera's calibration: the file or `tf`, its sha256, when it was made (ISO 8601, UTC)."""

    camera: str
    source: str
    sha256: str
    date: str = ""
    method: str = ""

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if not isinstance(value, str) or len(value) > MAX_TEXT or not value.isprintable():
                raise ConfigurationError(f"a calibration's {name} must be printable text, is {value!r:.60}")

    def age_days(self, now: datetime) -> float | None:
        """Days from the calibration to `now` (with a time zone); None where its date is not known."""
        return (now - parse_date(self.date)).total_seconds() / SECONDS_PER_DAY if self.date else None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CalibrationRecord:
        """Inverse of dataclasses.asdict. Raises ConfigurationError for anything else."""
        names = [f.name for f in dataclasses.fields(cls)]
        if not isinstance(values, Mapping) or sorted(values) != sorted(names):
            raise ConfigurationError(f"a record of a calibration has the keys {names}, got {values!r:.100}")
        record = cls(**values)
        if record.date:
            parse_date(record.date)
        return record


def calibration_sources(setting: str) -> tuple[CalibrationSource, ...]:
    """The parts of `calibration`: `cameras.yaml`, `tf`, or `front=front.calib,wrist=tf`, separated by commas.

    Raises ConfigurationError for an empty setting or part, and for a camera that is named twice.
    """
    parts = [part.strip() for part in setting.split(",")] if setting.strip() else []
    found = []
    for part in parts:
        camera, equals, source = (text.strip() for text in part.rpartition("="))
        if not source or (equals and not camera):
            raise ConfigurationError(
                f"calibration '{setting}' has an empty part; write a file, 'tf', or camera=file for each camera, "
                "separated by commas"
            )
        found.append(CalibrationSource(camera, source))
    if not found:
        raise ConfigurationError("the parameter 'calibration' is empty; name a YAML file with the pose of each camera")
    named = [part.camera for part in found if part.camera]
    if twice := sorted({name for name in named if named.count(name) > 1}):
        raise ConfigurationError(f"calibration '{setting}' names the cameras {twice} twice")
    return tuple(found)


def parse_date(text: str) -> datetime:
    """The moment of an ISO 8601 text, UTC where it names no zone. Raises ConfigurationError for anything else."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"a date is written as 2026-01-31T14:00:00Z, got {text!r:.40}") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
