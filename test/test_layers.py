"""The layers go one way: a folder imports only folders of a lower number, and ROS stays at the border."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "minidiffuser_ros"
ROOT = Path(__file__).parents[1] / PACKAGE
LAYERS = {
    "geometry": 0,
    "contract": 1,
    "diffusion": 2,
    "perception": 2,
    "arm": 2,
    "model": 2,
    "episodes": 3,
    "simulation": 3,
    "pruning": 3,
    "policy": 4,
    "training": 5,
    "evaluation": 5,
    "bridge": 5,
    "nodes": 6,
    "cli": 7,
}
# Beside the folders: the table that the launch files and the command line share, and its process runner.
BESIDE_LAYERS = {"bringup", "bringup_tables", "bringup_runner"}
GENERATED = {"msg", "srv", "action"}
ROS_LAYERS = {"bridge", "nodes"}
ROS_PACKAGES = {
    "rclpy", "rcl_interfaces", "builtin_interfaces", "geometry_msgs", "sensor_msgs", "std_msgs", "std_srvs",
    "visualization_msgs", "trajectory_msgs", "lifecycle_msgs", "action_msgs", "diagnostic_msgs", "tf2_ros", "tf2_msgs",
    "message_filters", "launch", "launch_ros", "ament_index_python",
}  # fmt: skip
NO_TORCH = {"geometry", "contract", "perception", "arm", "episodes", "simulation", "bridge"}

SOURCES = sorted(ROOT.rglob("*.py"))


def layer_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0]


def imported_modules(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """Line and absolute name of every import, inside functions too; `package` resolves relative ones."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([base] if base else [])])
            # `from minidiffuser_ros import arm` names the layer only here.
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"


def imports_of(path: Path) -> list[tuple[int, str]]:
    package = ".".join([PACKAGE, *path.relative_to(ROOT).parent.parts])
    return list(imported_modules(ast.parse(path.read_text(encoding="utf-8")), package))


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_only_to_lower_layers(path: Path) -> None:
    layer = layer_of(path)
    if layer in BESIDE_LAYERS or layer == "__init__":
        return
    assert layer in LAYERS, f"{path} lies in no layer; add its folder to the table"
    wrong = []
    for line, name in imports_of(path):
        parts = name.split(".")
        if parts[0] != PACKAGE or len(parts) < 2:
            continue
        target = parts[1]
        if target in GENERATED:
            allowed = layer in ROS_LAYERS or layer == "cli"
        elif target in BESIDE_LAYERS:
            allowed = layer == "cli"
        else:
            assert target in LAYERS, f"{path}:{line} imports {name}, which is in no layer"
            allowed = target == layer or LAYERS[target] < LAYERS[layer]
        if not allowed:
            wrong.append(f"{path.name}:{line} imports {name}")
    assert not wrong


@pytest.mark.parametrize("name", sorted(BESIDE_LAYERS))
def test_the_bringup_table_and_runner_import_the_contract_at_most(name: str) -> None:
    targets = {m.split(".")[1] for _, m in imports_of(ROOT / f"{name}.py") if m.startswith(f"{PACKAGE}.")}
    assert targets <= {"contract"} | BESIDE_LAYERS


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_ros_appears_only_in_bridge_and_nodes(path: Path) -> None:
    # Clients of the running graph on the command line import ROS inside their `run`; the purity test watches --help.
    if layer_of(path) in ROS_LAYERS:
        return
    wrong = [(line, name) for line, name in imports_of(path) if name.split(".")[0] in ROS_PACKAGES]
    assert not wrong


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_layers_for_machines_without_torch_never_name_it(path: Path) -> None:
    if layer_of(path) not in NO_TORCH:
        return
    assert not [(line, name) for line, name in imports_of(path) if name.split(".")[0] == "torch"]


def test_the_checker_sees_imports_in_functions_and_relative_ones() -> None:
    code = "def f():\n    from minidiffuser_ros.nodes import arm\n    from ..training import loop\n    import torch\n"
    found = [name for _, name in imported_modules(ast.parse(code), f"{PACKAGE}.model")]
    assert found == [f"{PACKAGE}.nodes.arm", f"{PACKAGE}.training.loop", "torch"]


def test_the_package_itself_imports_nothing_of_its_own() -> None:
    # Importing any part runs this file first: a line too many here would reach every machine.
    assert {name.split(".")[0] for _, name in imports_of(ROOT / "__init__.py")} <= {"pkgutil", "__future__"}
