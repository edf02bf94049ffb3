"""`minidiffuser calibrate` from the board on paper to a checked calibration, with the simulated cameras."""

from __future__ import annotations

import argparse
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minidiffuser_ros.cli import calibrate
from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.geometry.transform import transform_from
from minidiffuser_ros.perception.boards import Board, BoardDetector
from minidiffuser_ros.perception.calibration import load_calibration
from minidiffuser_ros.perception.hand_eye import pose_difference
from minidiffuser_ros.simulation.world import CAMERA_MOUNTS


def run(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    calibrate.add_arguments(parser)
    return calibrate.run(parser.parse_args([str(argument) for argument in arguments]))


def test_without_opencv_or_with_an_old_one_a_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (None, types.ModuleType("cv2")):
        monkeypatch.setitem(sys.modules, "cv2", module)
        with pytest.raises(ConfigurationError, match="needs OpenCV"):
            run("board", "--out", tmp_path / "board.pdf")


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Views of both simulated cameras."""
    root = tmp_path_factory.mktemp("views")
    for camera in CAMERA_MOUNTS:
        assert run("capture", "--camera", camera, "--simulated", "--out", root / camera, "--count", 12) == 0
    return {camera: root / camera for camera in CAMERA_MOUNTS}


def test_the_simulated_cameras_are_found_where_the_world_has_them(
    views: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cameras.yaml"
    for camera, mount in CAMERA_MOUNTS.items():
        assert run("solve", views[camera], "--out", out) == 0
        found = load_calibration(out, [camera])[camera]
        assert found.parent_frame == mount.parent_frame
        poses = [transform_from(m.position, m.quat_wxyz) for m in (found, mount)]
        mm, deg = pose_difference(*poses)
        assert mm < 1.0
        assert deg < 0.1
    assert "standard deviation" in capsys.readouterr().out
    before = out.read_text()
    with pytest.raises(ConfigurationError, match="--replace"):
        run("solve", views["front"], "--out", out)
    assert out.read_text() == before


def test_the_check_tells_a_right_calibration_from_one_that_is_3_cm_off(
    views: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, text = tmp_path / "check.png", (Path(__file__).parents[1] / "config" / "simulation_cameras.yaml").read_text()
    right, wrong = tmp_path / "right.yaml", tmp_path / "wrong.yaml"
    right.write_text(text)
    wrong.write_text(text.replace("[1.1000, 0.0000, 0.5600]", "[1.1300, 0.0000, 0.5600]"))
    medians = []
    for calibration in (right, wrong):
        assert run("check", views["front"], "--calibration", calibration, "--out", out) == 0
        match = re.search(r"points lie ([\d.]+) mm", capsys.readouterr().out)
        assert match is not None
        medians.append(float(match.group(1)))
        assert Image.open(out).size == (848, 480)
    assert medians[0] < 1.0
    assert medians[1] > 5.0


def test_views_are_not_mixed_into_a_folder_that_has_some(views: dict[str, Path]) -> None:
    with pytest.raises(ConfigurationError, match="has views already"):
        run("capture", "--camera", "front", "--simulated", "--out", views["front"])


def test_a_simulated_camera_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="front and wrist, not 'left'"):
        run("capture", "--camera", "left", "--simulated", "--out", tmp_path)


@pytest.mark.parametrize("name", ["board.png", "board.pdf"])
def test_a_board_is_written_in_true_scale_and_not_written_over(tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    assert run("board", "--out", out, "--kind", "apriltag", "--columns", 4, "--rows", 3) == 0
    if name.endswith("png"):
        with Image.open(out) as picture:
            assert picture.info["dpi"] == pytest.approx((254, 254), abs=0.1)
            found = BoardDetector(Board("apriltag", 4, 3)).detect(np.asarray(picture))
        assert found is not None
        assert np.ptp(found.pixels[:, 0]) == pytest.approx(10.0 * (3 * 36 + 27), abs=2.0)
    else:
        size = re.search(rb"/MediaBox \[\s*0\s+0\s+([\d.]+)\s+([\d.]+)", out.read_bytes())
        assert size is not None
        # A4 in points, of which 72 make an inch.
        assert [float(v) / 72 * 25.4 for v in size.groups()] == pytest.approx([297.0, 210.0], abs=0.5)
    with pytest.raises(ConfigurationError, match="--replace"):
        run("board", "--out", out)
