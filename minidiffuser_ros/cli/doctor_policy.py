"""What a run rests on besides the graph: poses of the cameras, and a checkpoint made for what the observer sees."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from minidiffuser_ros.cli.doctor_findings import Finding, State
from minidiffuser_ros.contract.calibration import (
    SECONDS_PER_DAY,
    CalibrationRecord,
    CameraPoseSettings,
    calibration_sources,
)
from minidiffuser_ros.contract.errors import CheckpointError, ConfigurationError
from minidiffuser_ros.contract.installation import share_folder
from minidiffuser_ros.contract.observation import ObservationSpec

CALIBRATION, POLICY = "calibration", "policy"
OLD_DAYS = CameraPoseSettings.max_calibration_age_days


def calibration_finding(setting: str, cameras: Sequence[str], now: datetime | None = None) -> Finding:
    """setting: as the observer's `calibration` has it. cameras: that need a pose, any where empty."""
    from minidiffuser_ros.arm.frames import known_frames
    from minidiffuser_ros.perception.calibration import read_calibration

    def finding(state: State, found: str, advice: str = "") -> Finding:
        return Finding(CALIBRATION, "poses", state, found, advice)

    if not setting:
        return finding(State.SKIP, "none named (--calibration), and no observer runs that has one")
    try:
        sources = calibration_sources(setting)
        found = read_calibration(sources, cameras, known_frames())
    except ConfigurationError as error:
        return finding(State.FAIL, str(error), "name another file, or calibrate the cameras (docs/calibration.md)")
    if not found.mounts:
        return finding(State.SKIP, "all poses come from TF; the observer's status tells which are known")
    ages = {name: _age_days(record, now or datetime.now(UTC)) for name, record in found.records.items()}
    told = [f"{name} on {mount.parent_frame}, {ages[name]:.0f} days old" for name, mount in found.mounts.items()]
    text = f"{setting}: {'; '.join(told)}"
    if max(ages.values()) > OLD_DAYS:
        advice = (
            "cameras are knocked and loosen: minidiffuser calibrate check, and calibrate anew where it does not fit"
        )
        return finding(State.WARN, text, advice)
    return finding(State.OK, text)


def _age_days(record: CalibrationRecord, now: datetime) -> float:
    """Since the date in the file; where it has none, since the file was written."""
    age = record.age_days(now)
    return (now.timestamp() - Path(record.source).stat().st_mtime) / SECONDS_PER_DAY if age is None else age


def policy_findings(checkpoint: str, observed: ObservationSpec | None) -> Iterator[Finding]:
    """checkpoint: a folder, or its name below the package's own. observed: what the running observer makes."""
    if importlib.util.find_spec("torch") is None:
        yield Finding(POLICY, "checkpoint", State.SKIP, "torch is not installed")
        return
    from minidiffuser_ros.policy.checkpoint import load_checkpoint

    places = [Path(checkpoint), share_folder() / checkpoint, share_folder() / "models" / checkpoint]
    folder = next((place for place in places if place.is_dir()), places[0])
    try:
        config, weights = load_checkpoint(folder)
    except CheckpointError as error:
        yield Finding(POLICY, "checkpoint", State.FAIL, str(error), "name another folder with --checkpoint")
        return
    count = sum(tensor.numel() for tensor in weights.values())
    found = f"{folder}: {count / 1e6:.1f} million weights, {len(config.instructions)} sentences"
    yield Finding(POLICY, "checkpoint", State.OK, found)
    if observed is None:
        yield Finding(POLICY, "spec", State.SKIP, "no observer runs to compare with")
    elif differences := config.spec.differences(observed):
        yield Finding(
            POLICY, "spec", State.FAIL, "checkpoint against observer: " + "; ".join(differences),
            "set the observer's parameters spec.… to the checkpoint's values",
        )  # fmt: skip
    else:
        yield Finding(POLICY, "spec", State.OK, "the observer makes what the checkpoint was trained on")
