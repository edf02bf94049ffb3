"""Where a package is missing, a converter says which and how to install it; the others work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from handmade_dataset import write_dataset
from stores import packed, some_keysteps, write_store
from test_step_hdf5 import write_steps

# Runs a converter while a package cannot be found; prints the error.
BLOCKED = """
import sys
from pathlib import Path


class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in sys.argv[1].split(","):
            raise ImportError(f"{name} is blocked")
        return None


sys.meta_path.insert(0, Blocker())
from minidiffuser_ros.contract.errors import MinidiffuserError
from minidiffuser_ros.episodes.converters import {module} as converter

try:
    print(converter.{function}(Path(sys.argv[2]), Path(sys.argv[3])))
except MinidiffuserError as error:
    print(error)
"""


def run(module: str, function: str, blocked: str, source: Path, out: Path) -> str:
    code = BLOCKED.replace("{module}", module).replace("{function}", function)
    command = [sys.executable, "-c", code, blocked, str(source), str(out)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize(
    ("module", "function", "blocked"),
    [
        ("keystep_lmdb", "import_keystep_lmdb", "msgpack"),
        ("step_hdf5", "import_step_hdf5", "h5py"),
        ("lerobot", "import_lerobot", "pyarrow"),
    ],
)
def test_the_missing_package_is_named(tmp_path: Path, module: str, function: str, blocked: str) -> None:
    write_store(tmp_path / "store+0", {"episode0": packed(some_keysteps(2))})
    source = {
        "keystep_lmdb": tmp_path,
        "step_hdf5": write_steps(tmp_path / "task" / "dataset.h5"),
        "lerobot": write_dataset(tmp_path / "set"),
    }[module]
    told = run(module, function, blocked, source, tmp_path / "out")
    assert f"needs the package {blocked}, which is not installed: pip install 'minidiffuser_ros[converters]'" in told
    assert "\n" not in told


def test_keysteps_and_steps_need_neither_ros_nor_torch_nor_mujoco_nor_lmdb(tmp_path: Path) -> None:
    blocked = "rclpy,torch,mujoco,lmdb,pyarrow,rosbags"
    store = write_store(tmp_path / "close_jar+0", {"episode0": packed(some_keysteps(2))})
    steps = write_steps(tmp_path / "close_box" / "dataset.h5")
    assert run("keystep_lmdb", "import_keystep_lmdb", blocked, store, tmp_path / "a") == "1"
    assert run("step_hdf5", "import_step_hdf5", blocked, steps, tmp_path / "b") == "1"
