"""What a run rests on besides the graph: poses of the cameras, and a checkpoint made for what the observer sees."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from minidiffuser_ros.cli.doctor_findings import Finding, State
from minidiffuser_ros.contract.errors import CheckpointError, ConfigurationError
from minidiffuser_ros.contract.installation import share_folder
from minidiffuser_ros.contract.observation import ObservationSpec

CALIBRATION, POLICY = "calibration", "policy"
OLD_DAYS = 90.0
DAY_S = 86400.0


def calibration_finding(path: str, cameras: Sequence[str], now_s: float | None = None) -> Finding:
    """The file with the pose of each camera; now_s: seconds since the epoch."""
    from minidiffuser_ros.perception.calibration import load_calibration

    if not path:
        return Finding(CALIBRATION, "file", State.SKIP, "none named (--calibration), and no observer runs that has one")
    try:
        mounts = load_calibration(path, cameras)
    except ConfigurationError as error:
        return Finding(CALIBRATION, "file", State.FAIL, str(error), "name another file, or calibrate the cameras")
    days = ((time.time() if now_s is None else now_s) - Path(path).stat().st_mtime) / DAY_S
    text = f"{path}: {', '.join(f'{m.name} on {m.parent_frame}' for m in mounts.values())}; written {days:.0f} days ago"
    if days > OLD_DAYS:
        advice = "cameras are knocked and loosen: look at the cloud in RViz, and calibrate again where it does not fit"
        return Finding(CALIBRATION, "file", State.WARN, text, advice)
    return Finding(CALIBRATION, "file", State.OK, text)


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
