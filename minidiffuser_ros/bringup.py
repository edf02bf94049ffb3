"""From a bring-up's table (`bringup_tables.py`) and the values of its arguments to the processes to start.

The launch files and `minidiffuser bringup` both start what `plan` says.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from minidiffuser_ros.bringup_tables import (
    AUTO,
    BRINGUPS,
    FRONT,
    REALSENSE,
    REALSENSE_ROS,
    SCRIPTED,
    SEEN_BY_POLICY,
    SIMULATION,
    WRIST,
    Argument,
    Bringup,
)
from minidiffuser_ros.contract.calibration import TF, CalibrationSource, calibration_sources
from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.contract.installation import share_folder, transport_profiles


@dataclass(frozen=True)
class PlannedNode:
    """One node to start, with every value settled."""

    package: str
    executable: str
    name: str
    namespace: str
    parameters: dict[str, Any]
    files: tuple[str, ...]
    remaps: tuple[tuple[str, str], ...]
    log_level: str


def node_environment() -> dict[str, str]:
    """What every node needs in its environment, drivers of others included; what the user has set stays.

    Many processes share the cores: more threads than one each make all of them slower.
    """
    return {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"), **transport_profiles()}


def launched(
    bringup: str,
) -> tuple[tuple[Argument, ...], Callable[[Mapping[str, str]], list[PlannedNode]], dict[str, str]]:
    """What a launch file starts from: arguments, the plan for their values, the environment of every node."""
    return BRINGUPS[bringup].arguments, partial(plan, bringup), node_environment()


def plan(bringup: str, values: Mapping[str, str]) -> list[PlannedNode]:
    """The nodes to start, in order, for the given values of the arguments (the defaults for those not given).

    Raises ConfigurationError for an argument or a value that does not exist, or values that contradict each other.
    """
    table = BRINGUPS[bringup]
    settled = _settled(table, values)
    config = share_folder() / "config"
    own_file = (settled["params_file"],) if settled["params_file"] else ()
    planned = []
    for entry in table.nodes:
        if any(settled[argument] not in values for argument, values in entry.only_if.items()):
            continue
        parameters = {
            name: _typed(argument, settled[argument], kind)
            for name, (argument, kind) in entry.parameters.items()
            if settled[argument] != ""
        }
        parameters["use_sim_time"] = settled["use_sim_time"] == "true"
        planned.append(
            PlannedNode(
                package=entry.package,
                executable=entry.executable,
                name=entry.name,
                namespace=settled["namespace"].strip("/"),
                parameters=parameters,
                files=(*(str(config / name) for name in entry.files), *own_file),
                remaps=tuple(entry.remaps.items()),
                log_level=settled["log_level"],
            )
        )
    return planned


def _settled(table: Bringup, values: Mapping[str, str]) -> dict[str, str]:
    """Every argument with its value, `auto` and relative folders resolved, and what follows from them."""
    known = {argument.name: argument for argument in table.arguments}
    if unknown := sorted(set(values) - set(known)):
        raise ConfigurationError(f"unknown arguments {unknown}; known are {sorted(known)}")
    settled = {name: str(values.get(name, argument.default)).strip() for name, argument in known.items()}
    for name, argument in known.items():
        if argument.choices and settled[name] not in argument.choices:
            raise ConfigurationError(f"{name} must be one of {', '.join(argument.choices)}, got '{settled[name]}'")
    simulated = settled["robot_ip"] == SIMULATION
    if not simulated and settled["camera"] == SIMULATION:
        raise ConfigurationError(
            f"robot_ip is '{settled['robot_ip']}' but camera is '{SIMULATION}': a real arm needs camera realsense, "
            "realsense_ros or external"
        )
    for name in ("dry_run", "confirm"):
        if settled.get(name) == AUTO:
            settled[name] = "false" if simulated else "true"
    settled["arm_address"] = settled["sim_address"] if simulated else settled["robot_ip"]
    if not settled["calibration"]:
        if settled["camera"] != SIMULATION:
            raise ConfigurationError(
                f"camera '{settled['camera']}' needs calibration: a YAML file with the pose of each camera"
            )
        settled["calibration"] = str(share_folder() / "config" / "simulation_cameras.yaml")
    _check_cameras(settled)
    settled["calibration"] = ",".join(_resolved(part) for part in calibration_sources(settled["calibration"]))
    for name in ("params_file", "front_recording", "wrist_recording"):
        settled[name] = _file(name, settled[name]) if settled[name] else ""
    # Simulated pictures of a still scene are all alike; a real camera whose pictures are has stopped.
    settled["frozen_after"] = "0" if settled["camera"] == SIMULATION else ""
    if "checkpoint" in settled:
        folder = _checkpoint(settled["checkpoint"])
        settled |= {"checkpoint": str(folder), **_seen_by(folder)}
    if settled.get("operator") == SCRIPTED and not simulated:
        raise ConfigurationError(f"operator '{SCRIPTED}' asks the simulator where to go: it cannot lead a real arm")
    settled["first_task"] = next(iter(settled.get("tasks", "").split()), "")
    return settled


def _check_cameras(settled: Mapping[str, str]) -> None:
    """Raises ConfigurationError unless each camera that is started is told apart, and each recording is played."""
    driver, single = settled["camera"], settled["single_camera"]
    for name in (FRONT, WRIST):
        serial, recording = settled[f"{name}_serial"], settled[f"{name}_recording"]
        if recording and driver != REALSENSE:
            raise ConfigurationError(f"{name}_recording needs camera {REALSENSE}, which plays it, got '{driver}'")
        if driver in (REALSENSE, REALSENSE_ROS) and not (single or serial or recording):
            raise ConfigurationError(
                f"camera {driver} needs {name}_serial, to tell the two cameras apart; with one only, set single_camera"
            )


def _resolved(part: CalibrationSource) -> str:
    """A part of `calibration` that processes in other folders understand."""
    source = part.source if part.source == TF else _file("calibration", part.source)
    return f"{part.camera}={source}" if part.camera else source


def _file(name: str, value: str) -> str:
    if not Path(value).is_file():
        raise ConfigurationError(f"{name} '{value}' is no file")
    return str(Path(value).resolve())


def _checkpoint(value: str) -> Path:
    own = [Path(value), share_folder() / value, share_folder() / "models" / value]
    for path in own:
        if path.is_dir():
            return path.resolve()
    raise ConfigurationError(f"checkpoint '{value}' is no folder; looked for {', '.join(map(str, own))}")


def _seen_by(checkpoint: Path) -> dict[str, str]:
    """What a policy was trained to see, for the observer; empty where its config does not say, as the policy will."""
    try:
        spec = dict(json.loads((checkpoint / "config.json").read_text())["spec"])
    except (OSError, ValueError, LookupError, TypeError):
        spec = {}
    sources = {argument: name.removeprefix("spec.") for name, (argument, _) in SEEN_BY_POLICY.items()}
    return {argument: str(spec.get(name, "")) for argument, name in sources.items()}


def _typed(argument: str, text: str, kind: type) -> Any:
    if kind is bool:
        return text == "true"
    if kind is list:
        return text.split()
    try:
        return kind(text)
    except ValueError:
        raise ConfigurationError(f"{argument} must be a number ({kind.__name__}), got '{text}'") from None
