"""The table of a bring-up settles into nodes, and the launch file starts just those."""

from __future__ import annotations

import ast
import os
import runpy
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, List  # noqa: UP035

import pytest

from minidiffuser_ros.bringup import plan
from minidiffuser_ros.bringup_runner import process_of
from minidiffuser_ros.bringup_tables import BRINGUPS, SEEN_BY_POLICY
from minidiffuser_ros.contract import installation
from minidiffuser_ros.contract.errors import ConfigurationError

LAUNCH_FILES = Path(__file__).parents[1] / "launch"
CAMERAS = str(Path(__file__).parents[1] / "config" / "simulation_cameras.yaml")
HARDWARE = {
    "robot_ip": "172.16.0.2",
    "camera": "realsense",
    "calibration": CAMERAS,
    "front_serial": "0123",
    "wrist_serial": "4567",
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> dict[str, str]:
    return {"checkpoint": str(tmp_path)}


def test_simulation_starts_four_nodes_and_moves_without_asking(checkpoint: dict[str, str]) -> None:
    nodes = {node.name: node for node in plan("policy", checkpoint)}
    assert list(nodes) == ["simulator", "arm", "observer", "policy"]
    assert nodes["arm"].parameters["address"] == nodes["simulator"].parameters["address"]
    assert nodes["policy"].parameters["dry_run"] is False
    assert nodes["policy"].parameters["confirm"] is False
    assert nodes["observer"].parameters["calibration"] == CAMERAS
    assert nodes["observer"].parameters["streams.frozen_after"] == 0


def test_hardware_starts_cameras_instead_of_the_simulator_and_is_careful(checkpoint: dict[str, str]) -> None:
    nodes = {node.name: node for node in plan("policy", {**checkpoint, **HARDWARE})}
    assert list(nodes) == ["front", "wrist", "arm", "observer", "policy"]
    assert nodes["arm"].parameters["address"] == "172.16.0.2"
    assert nodes["arm"].parameters["dry_run"] is True
    assert nodes["policy"].parameters["dry_run"] is True
    assert nodes["policy"].parameters["confirm"] is True
    assert (nodes["front"].package, nodes["front"].executable) == ("minidiffuser_ros", "realsense")
    assert (nodes["front"].parameters["serial"], nodes["wrist"].parameters["serial"]) == ("0123", "4567")
    assert "recording" not in nodes["front"].parameters
    assert "spec.cameras" not in nodes["observer"].parameters


@pytest.mark.parametrize("bringup", BRINGUPS)
def test_the_arm_node_may_run_on_the_computer_beside_the_arm(bringup: str, checkpoint: dict[str, str]) -> None:
    values = checkpoint if bringup == "policy" else {}
    here, without = plan(bringup, values), plan(bringup, {**values, "arm": "elsewhere"})
    assert [n for n in here if n not in without] == [n for n in here if n.name == "arm"]
    assert all(node in here for node in without)


def test_the_driver_of_others_is_started_on_request_and_none_for_external_cameras(checkpoint: dict[str, str]) -> None:
    nodes = {node.name: node for node in plan("policy", {**checkpoint, **HARDWARE, "camera": "realsense_ros"})}
    assert list(nodes) == ["front", "wrist", "arm", "observer", "policy"]
    assert nodes["front"].package == "realsense2_camera"
    assert nodes["front"].parameters["serial_no"] == "0123"
    assert "streams.frozen_after" not in nodes["observer"].parameters
    external = [node.name for node in plan("policy", {**checkpoint, **HARDWARE, "camera": "external"})]
    assert external == ["arm", "observer", "policy"]


@pytest.mark.parametrize("driver", ["realsense", "realsense_ros"])
def test_a_single_camera_needs_no_serial_number_and_everybody_knows_of_it(
    checkpoint: dict[str, str], driver: str
) -> None:
    one = {**HARDWARE, "camera": driver, "front_serial": "", "wrist_serial": "", "single_camera": "wrist"}
    for bringup, user in (("policy", "observer"), ("record", "recorder")):
        nodes = {node.name: node for node in plan(bringup, one | (checkpoint if bringup == "policy" else {}))}
        assert "front" not in nodes
        assert "serial" not in nodes["wrist"].parameters
        assert nodes[user].parameters["spec.cameras"] == ["wrist"]


def test_a_recording_is_played_in_place_of_a_camera(checkpoint: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "front.db3"
    path.touch()
    values = {**HARDWARE, "front_serial": "", "front_recording": str(path)}
    nodes = {node.name: node for node in plan("policy", {**checkpoint, **values})}
    assert nodes["front"].parameters["recording"] == str(path)
    assert "serial" not in nodes["front"].parameters
    assert nodes["wrist"].parameters["serial"] == "4567"
    assert f"-p recording:='{path}'" in " ".join(process_of(nodes["front"]).command)


def test_poses_may_come_from_tf_or_from_a_file_for_each_camera(checkpoint: dict[str, str]) -> None:
    relative = os.path.relpath(CAMERAS)
    for given, settled in (
        ("tf", "tf"),
        (f"front={relative},wrist=tf", f"front={CAMERAS},wrist=tf"),
        (relative, CAMERAS),
    ):
        nodes = {node.name: node for node in plan("policy", {**checkpoint, **HARDWARE, "calibration": given})}
        assert nodes["observer"].parameters["calibration"] == settled


def test_the_observer_shows_what_the_checkpoint_was_trained_to_see(checkpoint: dict[str, str]) -> None:
    config = Path(checkpoint["checkpoint"]) / "config.json"
    config.write_text('{"spec": {"max_points": 1024, "voxel_size": 0.005, "cameras": ["front"]}}')
    seen = {node.name: node for node in plan("policy", checkpoint)}["observer"].parameters
    assert (seen["spec.max_points"], seen["spec.voxel_size"]) == (1024, 0.005)
    assert "spec.table_height" not in seen
    for foreign in ("no json", "[]", '{"spec": 3}'):  # the policy node says what is wrong with it
        config.write_text(foreign)
        observer = {node.name: node for node in plan("policy", checkpoint)}["observer"]
        assert "spec.max_points" not in observer.parameters


def test_carefulness_can_be_chosen(checkpoint: dict[str, str]) -> None:
    nodes = plan("policy", {**checkpoint, **HARDWARE, "dry_run": "false", "confirm": "false", "speed": "0.1"})
    arm = next(node for node in nodes if node.name == "arm")
    assert arm.parameters["dry_run"] is False
    assert arm.parameters["speed"] == 0.1


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"robot_pi": "sim"}, "robot_pi"),
        ({"camera": "kinect"}, "realsense"),
        ({"robot_ip": "172.16.0.2"}, "camera"),
        ({**HARDWARE, "calibration": ""}, "calibration"),
        ({**HARDWARE, "calibration": "/nowhere.yaml"}, "/nowhere.yaml"),
        ({**HARDWARE, "calibration": "front=tf,wrist=/nowhere.calib"}, "/nowhere.calib"),
        ({**HARDWARE, "wrist_serial": ""}, "wrist_serial"),
        ({**HARDWARE, "camera": "realsense_ros", "wrist_serial": ""}, "wrist_serial"),
        ({**HARDWARE, "camera": "external", "front_recording": "a.db3"}, "front_recording"),
        ({**HARDWARE, "front_recording": "/nowhere.db3"}, "/nowhere.db3"),
        ({**HARDWARE, "single_camera": "left"}, "single_camera"),
        ({"checkpoint": "/nowhere"}, "/nowhere"),
        ({"speed": "fast"}, "speed"),
        ({"dry_run": "maybe"}, "auto"),
    ],
)
def test_values_that_make_no_sense_are_refused_naming_them(
    checkpoint: dict[str, str], values: dict[str, str], word: str
) -> None:
    with pytest.raises(ConfigurationError, match=word):
        plan("policy", {**checkpoint, **values})


def test_recording_starts_a_recorder_and_on_request_somebody_who_leads() -> None:
    nodes = {node.name: node for node in plan("record", {})}
    assert list(nodes) == ["simulator", "arm", "recorder"]
    assert nodes["recorder"].parameters["root"] == "episodes"
    nodes = {node.name: node for node in plan("record", {"operator": "scripted", "tasks": "stack_pair push_button"})}
    assert list(nodes) == ["simulator", "arm", "recorder", "operator"]
    assert nodes["simulator"].parameters["task"] == "stack_pair"
    assert nodes["operator"].parameters["tasks"] == ["stack_pair", "push_button"]
    hardware = [node.name for node in plan("record", {**HARDWARE, "teleop": "spacemouse"})]
    assert hardware == ["front", "wrist", "arm", "recorder", "teleop"]


def test_the_scripted_operator_leads_no_real_arm() -> None:
    with pytest.raises(ConfigurationError, match="simulator"):
        plan("record", {**HARDWARE, "operator": "scripted"})


def test_arguments_are_described_have_valid_defaults_and_feed_only_existing_ones() -> None:
    for table in BRINGUPS.values():
        names = [argument.name for argument in table.arguments]
        assert len(names) == len(set(names))
        for argument in table.arguments:
            assert argument.description
            assert not argument.choices or argument.default in argument.choices
        for node in table.nodes:
            assert set(node.only_if) <= set(names)
            assert {source for source, _ in node.parameters.values()} <= {
                *names,
                "arm_address",
                "first_task",
                "frozen_after",
                *(argument for argument, _ in SEEN_BY_POLICY.values()),
            }
            assert all((installation.share_folder() / "config" / file).is_file() for file in node.files)


def test_a_command_carries_name_namespace_parameters_and_types(checkpoint: dict[str, str]) -> None:
    nodes = plan("policy", {**checkpoint, "namespace": "/left/", "seed": "7", "log_level": "debug", "speed": "1"})
    commands = {node.name: " ".join(process_of(node).command) for node in nodes}
    assert "-m minidiffuser_ros.nodes simulator --ros-args --log-level debug" in commands["simulator"]
    assert "-r __node:=simulator -r __ns:=/left" in commands["simulator"]
    assert "-p seed:=7" in commands["simulator"]
    assert "-p address:='127.0.0.2'" in commands["arm"]
    assert "-p dry_run:=false -p speed:=1.0" in commands["arm"]


def test_every_node_gets_one_thread_and_room_for_pictures_unless_the_user_chose(
    checkpoint: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*installation.TRANSPORT_VARIABLES, "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    environment = dict(process_of(plan("policy", checkpoint)[0]).environment)
    assert environment.pop("OMP_NUM_THREADS") == "1"
    assert set(environment) == set(installation.TRANSPORT_VARIABLES)
    assert all(Path(path).is_file() for path in environment.values())
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", "/mine.xml")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert process_of(plan("policy", checkpoint)[0]).environment == {"OMP_NUM_THREADS": "3"}


def test_a_package_that_is_not_installed_is_named(checkpoint: dict[str, str]) -> None:
    values = {**checkpoint, **HARDWARE, "camera": "realsense_ros"}
    front = next(node for node in plan("policy", values) if node.name == "front")
    with pytest.raises(ConfigurationError, match="realsense2_camera"):
        process_of(front)


class Recorded:
    """Stands in for a class of launch or launch_ros, which no wheel carries: keeps what it was called with."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args, self.kwargs = args, kwargs


class FakeConfiguration(Recorded):
    def perform(self, context: dict[str, str]) -> str:
        return context[self.args[0]]


LaunchFile = Callable[[str], dict[str, Any]]


@pytest.fixture
def launch_file(monkeypatch: pytest.MonkeyPatch) -> Iterator[LaunchFile]:
    """A launch file's globals, run against recorders in place of launch and launch_ros."""
    contents = {
        "launch": ["LaunchContext", "LaunchDescription"],
        "launch.actions": ["DeclareLaunchArgument", "OpaqueFunction", "SetEnvironmentVariable", "Shutdown"],
        "launch.substitutions": ["LaunchConfiguration"],
        "launch_ros": [],
        "launch_ros.actions": ["Node"],
        "launch_ros.parameter_descriptions": ["ParameterValue"],
    }
    for name, classes in contents.items():
        module = types.ModuleType(name)
        for kind in classes:
            base = FakeConfiguration if kind == "LaunchConfiguration" else Recorded
            setattr(module, kind, type(kind, (base,), {}))
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "minidiffuser_ros.bridge.launching", raising=False)
    yield lambda bringup: runpy.run_path(str(LAUNCH_FILES / f"{bringup}.launch.py"))
    # Made with stand-ins: nobody else may find it.
    sys.modules.pop("minidiffuser_ros.bridge.launching", None)


@pytest.mark.parametrize("bringup", BRINGUPS)
def test_a_launch_file_declares_every_argument_with_description_and_choices(
    launch_file: LaunchFile, bringup: str
) -> None:
    actions = launch_file(bringup)["generate_launch_description"]().args[0]
    declared = {a.args[0]: a.kwargs for a in actions if type(a).__name__ == "DeclareLaunchArgument"}
    assert declared == {
        a.name: {"default_value": a.default, "description": a.description, "choices": list(a.choices) or None}
        for a in BRINGUPS[bringup].arguments
    }


@pytest.mark.parametrize("bringup", BRINGUPS)
def test_a_launch_file_starts_the_planned_nodes(
    launch_file: LaunchFile, checkpoint: dict[str, str], bringup: str
) -> None:
    values = {a.name: a.default for a in BRINGUPS[bringup].arguments} | HARDWARE
    values |= checkpoint if "checkpoint" in values else {}
    actions = launch_file(bringup)["generate_launch_description"]().args[0]
    nodes = actions[-1].kwargs["function"](values)
    for node, planned in zip(nodes, plan(bringup, values), strict=True):
        assert (node.kwargs["package"], node.kwargs["executable"]) == (planned.package, planned.executable)
        assert node.kwargs["name"] == planned.name
        *files, typed = node.kwargs["parameters"]
        assert tuple(files) == planned.files
        assert {k: (v.args[0], v.kwargs["value_type"]) for k, v in typed.items()} == {
            k: (v, type(v)) for k, v in planned.parameters.items()
        }
        assert type(node.kwargs["on_exit"]).__name__ == "Shutdown"


def test_a_list_of_texts_reaches_launch_as_such(launch_file: LaunchFile) -> None:
    values = {a.name: a.default for a in BRINGUPS["record"].arguments}
    actions = launch_file("record")["generate_launch_description"]().args[0]
    nodes = actions[-1].kwargs["function"](values | {"operator": "scripted", "tasks": "stack_pair push_button"})
    tasks = nodes[-1].kwargs["parameters"][-1]["tasks"]
    assert tasks.args[0] == ["stack_pair", "push_button"]
    assert tasks.kwargs["value_type"] is List[str], "launch compares by identity"  # noqa: UP006


@pytest.mark.parametrize("path", sorted(LAUNCH_FILES.glob("*.launch.py")), ids=lambda path: path.name)
def test_a_launch_file_needs_only_launch_and_this_package_and_holds_no_logic(path: Path) -> None:
    tree = ast.parse(path.read_text())
    modules = {node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    assert modules == {"launch", "minidiffuser_ros"}
    *imports, function = tree.body[1:]
    assert all(isinstance(node, ast.ImportFrom) for node in imports)
    assert isinstance(function, ast.FunctionDef)
    assert len(function.body) == 2, "a docstring and what is returned"
