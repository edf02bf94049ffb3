"""Laws of the calibration file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.perception.calibration import load_calibration, parse_calibration
from minidiffuser_ros.simulation.world import CAMERA_MOUNTS

GOOD = """
cameras:
  - {name: front, parent_frame: fr3_link0, position: [1.0, 0, 0.5], quat_wxyz: [0.0, 1.0, 0.0, 0.0]}
  - {name: wrist, parent_frame: fr3_hand_tcp, position: [0.05, 0.0, -0.06], quat_wxyz: [1, 0, 0, 0]}
"""


def entry(**changes: Any) -> dict[str, Any]:
    good = {
        "name": "front",
        "parent_frame": "fr3_link0",
        "position": [1.0, 0.0, 0.5],
        "quat_wxyz": [1.0, 0.0, 0.0, 0.0],
    }
    return {"cameras": [good | changes]}


def test_a_file_gives_the_mount_of_every_camera_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "cameras.yaml"
    path.write_text(GOOD)
    mounts = load_calibration(path, ["wrist", "front"])
    assert mounts["front"].position == (1.0, 0.0, 0.5)
    assert mounts["wrist"].parent_frame == "fr3_hand_tcp"


def test_a_camera_without_an_entry_is_an_error_naming_it(tmp_path: Path) -> None:
    path = tmp_path / "cameras.yaml"
    path.write_text(GOOD)
    with pytest.raises(ConfigurationError, match=r"no pose for the cameras \['left'\]"):
        load_calibration(path, ["front", "left"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quat_wxyz": [1.0, 1.0, 0.0, 0.0]}, "norm 1, got 1.4142"),
        ({"quat_wxyz": [0, 0, 0, 0]}, "norm 1, got 0.0000"),
        ({"quat_wxyz": [1.0, 0.0, 0.0]}, "4 finite numbers"),
        ({"position": [1.0, 0.0, "1e-3"]}, "3 finite numbers"),
        ({"position": [1.0, 0.0, float("nan")]}, "3 finite numbers"),
        ({"position": [True, 0.0, 0.0]}, "3 finite numbers"),
        ({"position": [1000.0, 0.0, 500.0]}, "use metres"),
        ({"position": None}, "3 finite numbers"),
        ({"parent_frame": "world"}, "parent_frame must be one of"),
        ({"name": 3}, "name must be text"),
        ({"colour": "red"}, "exactly the fields"),
    ],
)
def test_entries_that_are_no_pose_are_refused_with_what_was_given(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        parse_calibration(entry(**changes), "cameras.yaml")


@pytest.mark.parametrize("content", [None, [], {"cameras": {}}, {"cameras": []}, "text", {"cameras": [None]}])
def test_content_of_another_shape_is_refused(content: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"cameras\.yaml"):
        parse_calibration(content, "cameras.yaml")


def test_one_camera_twice_is_refused() -> None:
    twice = {"cameras": entry()["cameras"] * 2}
    with pytest.raises(ConfigurationError, match="twice"):
        parse_calibration(twice, "cameras.yaml")


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.yaml"):
        load_calibration(tmp_path / "nowhere.yaml", ["front"])
    broken = tmp_path / "broken.yaml"
    broken.write_text("cameras: [")
    with pytest.raises(ConfigurationError, match="is not YAML"):
        load_calibration(broken, ["front"])


def test_the_shipped_file_holds_the_poses_of_the_simulated_world() -> None:
    path = Path(__file__).parents[2] / "config" / "simulation_cameras.yaml"
    mounts = load_calibration(path, list(CAMERA_MOUNTS))
    for name, mount in CAMERA_MOUNTS.items():
        assert mounts[name].parent_frame == mount.parent_frame
        np.testing.assert_allclose(mounts[name].position, mount.position, atol=1e-4)
        np.testing.assert_allclose(mounts[name].quat_wxyz, mount.quat_wxyz, atol=1e-6)
