"""Machines without ROS run the core, machines without torch record and move: shown by importing every module."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from minidiffuser_ros.cli.main import COMMANDS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "minidiffuser_ros"
CORE = (
    "geometry", "contract", "diffusion", "perception", "arm", "model", "episodes", "simulation", "pruning", "policy",
    "training", "evaluation",
)  # fmt: skip
WITHOUT_TORCH = ("geometry", "contract", "perception", "arm", "episodes", "simulation")
# These need torch, numpy, scipy, safetensors and tokenizers.
LEARNS = ("geometry", "contract", "diffusion", "model", "policy", "training")

# Imports each module named on the command line while the packages named first cannot be found.
IMPORT_ALL = """
import importlib, sys

blocked = set(sys.argv[1].split(","))


class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ImportError(f"{name} is blocked")
        return None


sys.meta_path.insert(0, Blocker())
for name in sys.argv[2:]:
    importlib.import_module(name)
loaded = blocked & set(sys.modules)
assert not loaded, loaded
print(len(sys.argv) - 2)
"""


def modules_of(layers: tuple[str, ...]) -> list[str]:
    files = [path for layer in layers for path in sorted((PACKAGE / layer).rglob("*.py"))]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files]
    return [name.removesuffix(".__init__") for name in names]


def import_in_subprocess(blocked: str, modules: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", IMPORT_ALL, blocked, *modules]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=100)


def test_the_core_imports_without_ros() -> None:
    modules = modules_of(CORE)
    result = import_in_subprocess("rclpy,sensor_msgs,geometry_msgs,std_msgs,builtin_interfaces", modules)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout.splitlines()[-1]) == len(modules) >= 10


def test_what_learns_and_decides_imports_without_the_optional_packages() -> None:
    modules = modules_of(LEARNS)
    result = import_in_subprocess("lightning_fabric,tensorboard,tqdm,mujoco,open3d,PIL,yaml", modules)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout.splitlines()[-1]) == len(modules) >= 10


def test_what_records_and_moves_imports_without_torch() -> None:
    modules = modules_of(WITHOUT_TORCH)
    result = import_in_subprocess("torch", modules)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout.splitlines()[-1]) == len(modules) >= 10


def test_only_calibrating_needs_opencv() -> None:
    calibrating = {"boards", "hand_eye", "view_folder", "solve_folder", "gripper_check"}
    modules = [name for name in modules_of(("perception", "arm")) if name.split(".")[-1] not in calibrating]
    result = import_in_subprocess("cv2", [*modules, "minidiffuser_ros.cli.calibrate"])
    assert result.returncode == 0, result.stderr
    assert int(result.stdout.splitlines()[-1]) == len(modules) + 1 >= 10


def test_the_simulation_needs_gymnasium_for_its_environment_only() -> None:
    modules = [name for name in modules_of(("simulation",)) if not name.split(".")[-1].startswith("environment")]
    result = import_in_subprocess("gymnasium", modules)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout.splitlines()[-1]) == len(modules) >= 10


def test_perception_needs_the_drivers_of_cameras_only_where_they_are_driven() -> None:
    drivers = {"realsense_device", "realsense_lens"}
    modules = [name for name in modules_of(("perception",)) if name.split(".")[-1] not in drivers]
    result = import_in_subprocess("pyrealsense2", modules)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout.splitlines()[-1]) == len(modules) >= 8


def test_the_block_does_block() -> None:
    result = import_in_subprocess("scipy", ["minidiffuser_ros.geometry.rotation"])
    assert result.returncode != 0
    assert "scipy is blocked" in result.stderr or "scipy.spatial" in result.stderr


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_needs_neither_torch_nor_ros(command: str) -> None:
    program = (
        "import sys\n"
        "from minidiffuser_ros.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "except SystemExit as end:\n    assert end.code == 0, end.code\n"
        "heavy = {'torch', 'rclpy', 'mujoco', 'open3d'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    arguments = [command, "--help"] if command else ["--help"]
    result = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert "usage: minidiffuser" in result.stdout
