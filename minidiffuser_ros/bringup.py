"""What a bring-up starts: one table of arguments and nodes, for `launch/*.launch.py` and for `minidiffuser bringup`.

`plan` turns the table and the values of the arguments into processes to start; both ways of starting use it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minidiffuser_ros.contract.errors import ConfigurationError

PACKAGE = "minidiffuser_ros"
SIMULATION = "sim"
AUTO = "auto"
SWITCH = ("true", "false")


def share_folder() -> Path:
    """Where `config/`, `launch/` and `models/` lie: the repository, or `share/` of the installed package."""
    here = Path(__file__).resolve().parent
    if (here.parent / "package.xml").is_file():
        return here.parent
    for parent in here.parents:
        if (parent / "share" / PACKAGE).is_dir():
            return parent / "share" / PACKAGE
    return here.parent


@dataclass(frozen=True)
class Argument:
    """One argument of a bring-up; values are text, as in launch."""

    name: str
    default: str
    description: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class NodeEntry:
    """One node of a bring-up.

    parameters: parameter → (argument that gives its value, type); an empty value leaves the node's own default.
    files: parameter files below `config/`. only_if: argument → value it must have for the node to be started.
    remaps: topic → topic.
    """

    executable: str
    name: str
    parameters: Mapping[str, tuple[str, type]] = field(default_factory=dict)
    package: str = PACKAGE
    files: tuple[str, ...] = ()
    only_if: Mapping[str, str] = field(default_factory=dict)
    remaps: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Bringup:
    """A named set of nodes with its arguments."""

    description: str
    arguments: tuple[Argument, ...]
    nodes: tuple[NodeEntry, ...]


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


POLICY_ARGUMENTS = (
    Argument("robot_ip", SIMULATION, f"address of the arm; '{SIMULATION}' starts a simulated one"),
    Argument("sim_address", "127.0.0.2", "loopback address on which the simulated arm listens"),
    Argument("camera", SIMULATION, "who publishes the pictures", (SIMULATION, "realsense", "external")),
    Argument("calibration", "", "YAML file with the pose of each camera; empty: the simulated cameras'"),
    Argument("front_serial", "", "serial number of the RealSense in front of the table"),
    Argument("wrist_serial", "", "serial number of the RealSense on the hand"),
    Argument("checkpoint", "models/tabletop_small", "folder of the trained policy, or a name below the package's own"),
    Argument("task", "", "task that the simulation lays out first; empty: the simulator's own choice"),
    Argument("seed", "0", "seed of the first layout"),
    Argument("namespace", "", "namespace of all nodes, so that several robots share nothing"),
    Argument("dry_run", AUTO, "decide and check but do not move; auto: on for hardware", (AUTO, *SWITCH)),
    Argument("confirm", AUTO, "wait for ~/approve before each motion; auto: on for hardware", (AUTO, *SWITCH)),
    Argument("speed", "", "fraction of the arm's full speed in (0, 1]; empty: the arm node's own"),
    Argument("params_file", "", "your own parameter file, read last"),
    Argument("log_level", "info", "least severe messages shown", ("debug", "info", "warn", "error", "fatal")),
    Argument("use_sim_time", "false", "take the time from /clock, as for a replayed recording", SWITCH),
)

BRINGUPS: dict[str, Bringup] = {
    "policy": Bringup(
        "run a trained policy on the arm, simulated or real",
        POLICY_ARGUMENTS,
        (
            NodeEntry(
                "simulator",
                "simulator",
                {"address": ("sim_address", str), "task": ("task", str), "seed": ("seed", int)},
                only_if={"robot_ip": SIMULATION},
            ),
            NodeEntry(
                "realsense2_camera_node",
                "front",
                {"serial_no": ("front_serial", str)},
                package="realsense2_camera",
                files=("realsense.yaml",),
                only_if={"camera": "realsense"},
            ),
            NodeEntry(
                "realsense2_camera_node",
                "wrist",
                {"serial_no": ("wrist_serial", str)},
                package="realsense2_camera",
                files=("realsense.yaml",),
                only_if={"camera": "realsense"},
            ),
            NodeEntry(
                "arm",
                "arm",
                {"address": ("arm_address", str), "dry_run": ("dry_run", bool), "speed": ("speed", float)},
            ),
            NodeEntry("observer", "observer", {"calibration": ("calibration", str)}),
            NodeEntry(
                "policy",
                "policy",
                {"checkpoint": ("checkpoint", str), "dry_run": ("dry_run", bool), "confirm": ("confirm", bool)},
            ),
        ),
    ),
}


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
        if any(settled[argument] != value for argument, value in entry.only_if.items()):
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
            f"robot_ip is '{settled['robot_ip']}' but camera is '{SIMULATION}': a real arm needs camera realsense or "
            "external"
        )
    for name in ("dry_run", "confirm"):
        if settled[name] == AUTO:
            settled[name] = "false" if simulated else "true"
    settled["arm_address"] = settled["sim_address"] if simulated else settled["robot_ip"]
    if not settled["calibration"]:
        if settled["camera"] != SIMULATION:
            raise ConfigurationError(
                f"camera '{settled['camera']}' needs calibration: a YAML file with the pose of each camera"
            )
        settled["calibration"] = str(share_folder() / "config" / "simulation_cameras.yaml")
    if settled["camera"] == "realsense" and not (settled["front_serial"] and settled["wrist_serial"]):
        raise ConfigurationError("camera realsense needs front_serial and wrist_serial, to tell the two cameras apart")
    for name in ("calibration", "params_file"):
        if settled[name] and not Path(settled[name]).is_file():
            raise ConfigurationError(f"{name} '{settled[name]}' is no file")
        settled[name] = str(Path(settled[name]).resolve()) if settled[name] else ""
    settled["checkpoint"] = str(_checkpoint(settled["checkpoint"]))
    return settled


def _checkpoint(value: str) -> Path:
    own = [Path(value), share_folder() / value, share_folder() / "models" / value]
    for path in own:
        if path.is_dir():
            return path.resolve()
    raise ConfigurationError(f"checkpoint '{value}' is no folder; looked for {', '.join(map(str, own))}")


def _typed(argument: str, text: str, kind: type) -> Any:
    if kind is bool:
        return text == "true"
    try:
        return kind(text)
    except ValueError:
        raise ConfigurationError(f"{argument} must be a number ({kind.__name__}), got '{text}'") from None
