"""What can be brought up: one table of arguments and nodes, for `launch/*.launch.py` and for `minidiffuser bringup`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from minidiffuser_ros.contract.installation import PACKAGE

SIMULATION = "sim"
AUTO = "auto"
NONE = "none"
SCRIPTED = "scripted"
HERE, ELSEWHERE = "here", "elsewhere"
SWITCH = ("true", "false")
REALSENSE, REALSENSE_ROS, EXTERNAL = "realsense", "realsense_ros", "external"
FRONT, WRIST = "front", "wrist"


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

    parameters: parameter → (argument that gives its value, type); an empty value leaves the node's own default, and a
    list is written with spaces. files: parameter files below `config/`. only_if: argument → values with one of which
    the node is started. remaps: topic → topic.
    """

    executable: str
    name: str
    parameters: Mapping[str, tuple[str, type]] = field(default_factory=dict)
    package: str = PACKAGE
    files: tuple[str, ...] = ()
    only_if: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    remaps: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Bringup:
    """A named set of nodes with its arguments."""

    description: str
    arguments: tuple[Argument, ...]
    nodes: tuple[NodeEntry, ...]


ROBOT_ARGUMENTS = (
    Argument("robot_ip", SIMULATION, f"address of the arm; '{SIMULATION}' starts a simulated one"),
    Argument(
        "arm",
        HERE,
        "where the arm node runs: on this computer, or on the one beside the arm, where you start it",
        (HERE, ELSEWHERE),
    ),
    Argument("sim_address", "127.0.0.2", "loopback address on which the simulated arm listens"),
    Argument(
        "camera",
        SIMULATION,
        f"who publishes the pictures: the simulator, our node ({REALSENSE}), realsense2_camera ({REALSENSE_ROS}), "
        f"or what you start yourself ({EXTERNAL})",
        (SIMULATION, REALSENSE, REALSENSE_ROS, EXTERNAL),
    ),
    Argument("single_camera", "", "the one camera there is; empty: front and wrist", ("", FRONT, WRIST)),
    Argument(
        "calibration",
        "",
        "YAML file with the poses of the cameras, 'tf', or front=FILE,wrist=FILE with YAML or easy_handeye2 files; "
        "empty: the simulated cameras'",
    ),
    Argument("front_serial", "", "serial number of the RealSense in front of the table"),
    Argument("wrist_serial", "", "serial number of the RealSense on the hand"),
    Argument("front_recording", "", f"file (.db3) played in place of the front camera, with camera {REALSENSE}"),
    Argument("wrist_recording", "", f"file (.db3) played in place of the camera on the hand, with camera {REALSENSE}"),
)
GRAPH_ARGUMENTS = (
    Argument("namespace", "", "namespace of all nodes, so that several robots share nothing"),
    Argument("params_file", "", "your own parameter file, read last"),
    Argument("log_level", "info", "least severe messages shown", ("debug", "info", "warn", "error", "fatal")),
    Argument("use_sim_time", "false", "take the time from /clock, as for a replayed recording", SWITCH),
)
CAMERAS = (
    *(
        NodeEntry(
            "realsense",
            name,
            {"serial": (f"{name}_serial", str), "recording": (f"{name}_recording", str)},
            only_if={"camera": (REALSENSE,), "single_camera": ("", name)},
        )
        for name in (FRONT, WRIST)
    ),
    *(
        NodeEntry(
            "realsense2_camera_node",
            name,
            {"serial_no": (f"{name}_serial", str)},
            package="realsense2_camera",
            files=("realsense.yaml",),
            only_if={"camera": (REALSENSE_ROS,), "single_camera": ("", name)},
        )
        for name in (FRONT, WRIST)
    ),
)
SEEN_BY = {"calibration": ("calibration", str), "spec.cameras": ("single_camera", list)}
# The observer shows a policy what its demonstrations showed: these of the checkpoint's own spec.
SEEN_BY_POLICY = {
    f"spec.{name}": (f"checkpoint_{name}", kind)
    for name, kind in (("max_points", int), ("voxel_size", float), ("table_height", float), ("table_margin", float))
}

POLICY = Bringup(
    "run a trained policy on the arm, simulated or real",
    (
        *ROBOT_ARGUMENTS,
        Argument("checkpoint", "models/tabletop", "folder of the trained policy, or a name below the package's own"),
        Argument("task", "", "task that the simulation lays out first; empty: the simulator's own choice"),
        Argument("seed", "0", "seed of the first layout"),
        Argument("dry_run", AUTO, "decide and check but do not move; auto: on for hardware", (AUTO, *SWITCH)),
        Argument("confirm", AUTO, "wait for ~/approve before each motion; auto: on for hardware", (AUTO, *SWITCH)),
        Argument("speed", "", "fraction of the arm's full speed in (0, 1]; empty: the arm node's own"),
        *GRAPH_ARGUMENTS,
    ),
    (
        NodeEntry(
            "simulator",
            "simulator",
            {"address": ("sim_address", str), "task": ("task", str), "seed": ("seed", int)},
            only_if={"robot_ip": (SIMULATION,)},
        ),
        *CAMERAS,
        NodeEntry(
            "arm",
            "arm",
            {"address": ("arm_address", str), "dry_run": ("dry_run", bool), "speed": ("speed", float)},
            only_if={"arm": (HERE,)},
        ),
        NodeEntry(
            "observer",
            "observer",
            {**SEEN_BY, **SEEN_BY_POLICY, "streams.frozen_after": ("frozen_after", int)},
        ),
        NodeEntry(
            "policy",
            "policy",
            {"checkpoint": ("checkpoint", str), "dry_run": ("dry_run", bool), "confirm": ("confirm", bool)},
        ),
    ),
)

RECORD = Bringup(
    "record demonstrations by teleoperation, on a simulated or a real arm",
    (
        *ROBOT_ARGUMENTS,
        Argument("out", "episodes", "folder of the episodes"),
        Argument("teleop", NONE, "device that leads the arm; a keyboard needs a terminal of its own: "
                 "ros2 run minidiffuser_ros teleop", (NONE, "joystick", "spacemouse")),
        Argument("operator", NONE, f"'{SCRIPTED}': the simulator's expert teleoperates, unattended", (NONE, SCRIPTED)),
        Argument("tasks", "push_button", "tasks of the simulation; the scripted operator takes them in turn"),
        Argument("episodes", "20", "episodes a task that the scripted operator records"),
        Argument("seed", "0", "seed of the first layout"),
        Argument("camera_rate", "", "rate of the simulated cameras in Hz; empty: the simulator's own"),
        Argument("speed", "", "fraction of the arm's full speed in (0, 1]; empty: the arm node's own"),
        *GRAPH_ARGUMENTS,
    ),
    (
        NodeEntry(
            "simulator",
            "simulator",
            {
                "address": ("sim_address", str), "task": ("first_task", str), "seed": ("seed", int),
                "camera_rate": ("camera_rate", float),
            },
            only_if={"robot_ip": (SIMULATION,)},
        ),
        *CAMERAS,
        NodeEntry(
            "arm", "arm", {"address": ("arm_address", str), "speed": ("speed", float)}, files=("record.yaml",),
            only_if={"arm": (HERE,)},
        ),
        NodeEntry("recorder", "recorder", {"root": ("out", str), **SEEN_BY}),
        NodeEntry(
            "teleop", "teleop", {"device": ("teleop", str)}, only_if={"teleop": ("joystick", "spacemouse")}
        ),
        NodeEntry(
            "operator",
            "operator",
            {"root": ("out", str), "tasks": ("tasks", list), "episodes": ("episodes", int), "seed": ("seed", int)},
            only_if={"operator": (SCRIPTED,)},
        ),
    ),
)  # fmt: skip

BRINGUPS: dict[str, Bringup] = {"policy": POLICY, "record": RECORD}
