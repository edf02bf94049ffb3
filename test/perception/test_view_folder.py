"""Laws of folders of views: what is written is read, and lists from elsewhere lead nowhere else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.geometry.camera import PinholeCamera
from minidiffuser_ros.geometry.transform import transform_from
from minidiffuser_ros.perception.boards import Board
from minidiffuser_ros.perception.view_folder import (
    VIEWS,
    SavedView,
    ViewFolder,
    picked,
    read_view_folder,
    save_pictures,
    write_view_folder,
)

CAMERA = PinholeCamera(32, 24, 30.0, 31.0, 15.5, 11.5)
POSE = transform_from([0.4, -0.1, 0.3], [0.0, 1.0, 0.0, 0.0])


def refuse_joints(joints: np.ndarray) -> np.ndarray:
    raise AssertionError("no joints were given")


def folder(root: Path) -> ViewFolder:
    rng = np.random.default_rng(0)
    names = save_pictures(root, 0, rng.integers(0, 256, (24, 32, 3), dtype=np.uint8), rng.uniform(0.2, 1.0, (24, 32)))
    view = SavedView(names[0], POSE, names[1], 0.5)
    return ViewFolder(root, "front", False, Board(), CAMERA, (0.1, 0.0, 0.0, 0.0, 0.0), (view,))


def changed(root: Path, **changes: Any) -> Path:
    write_view_folder(folder(root))
    content = yaml.safe_load((root / VIEWS).read_text())
    for key, value in changes.items():
        outer, _, inner = key.partition("__")
        if inner:
            target = content[outer][0] if outer == "views" else content[outer]
            target[inner] = value
        else:
            content[outer] = value
    (root / VIEWS).write_text(yaml.safe_dump(content))
    return root


def test_a_written_folder_reads_back_with_its_pictures(tmp_path: Path) -> None:
    written = folder(tmp_path)
    write_view_folder(written)
    found = read_view_folder(tmp_path, refuse_joints)
    assert (found.camera, found.on_hand, found.board) == ("front", False, Board())
    assert (found.intrinsics, found.distortion) == (CAMERA, written.distortion)
    np.testing.assert_allclose(found.views[0].T_base_tool, POSE, atol=1e-12)
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(found.color(found.views[0]), rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    depth = found.depth(found.views[0])
    assert depth is not None
    np.testing.assert_allclose(depth, rng.uniform(0.2, 1.0, (24, 32)), atol=6e-4)


def test_joints_stand_for_the_pose_that_kinematics_gives_them(tmp_path: Path) -> None:
    content = yaml.safe_load((changed(tmp_path) / VIEWS).read_text())
    content["views"] = [{"image": "000.png", "joints": [0.1] * 7}]
    (tmp_path / VIEWS).write_text(yaml.safe_dump(content))
    found = read_view_folder(tmp_path, lambda joints: POSE * joints[0])
    np.testing.assert_allclose(found.views[0].T_base_tool, 0.1 * POSE)
    (tmp_path / VIEWS).unlink()
    (tmp_path / "views.json").write_text(json.dumps(content))
    assert read_view_folder(tmp_path, lambda joints: POSE * joints[0]).intrinsics == found.intrinsics
    assert found.depth(found.views[0]) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"views__image": "../secret.png"}, "file in the folder"),
        ({"views__image": "/etc/passwd"}, "file in the folder"),
        ({"views__depth": 3}, "file in the folder"),
        ({"views__position": [0.1, 0.2]}, "position"),
        ({"views__quat_wxyz": [1.0, 1.0, 0.0, 0.0]}, "norm 1"),
        ({"views": []}, "list `views`"),
        ({"camera": ""}, "camera must be a name"),
        ({"on_hand": "yes"}, "true or false"),
        ({"distortion": [0.1, 0.2]}, "distortion"),
        ({"board__kind": 3}, "kind must be like"),
        ({"board__colour": "red"}, "keys"),
        ({"board__square": 36.0}, "give metres"),
        ({"intrinsics__fx": -600.0}, "above 0"),
        ({"intrinsics__width": 1e9}, "above 0 pixels|size"),
    ],
)
def test_what_is_wrong_in_a_list_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read_view_folder(changed(tmp_path, **changes), refuse_joints)


def test_pictures_of_another_size_or_kind_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    found = read_view_folder(changed(tmp_path), refuse_joints)
    Image.new("RGB", (64, 48)).save(tmp_path / "000.png")
    with pytest.raises(ConfigurationError, match="64x48 pixels"):
        found.color(found.views[0])
    (tmp_path / "000.png").write_bytes(b"no picture")
    with pytest.raises(ConfigurationError, match="cannot read the picture"):
        found.color(found.views[0])


def test_a_view_that_is_not_there_is_answered_with_those_that_are(tmp_path: Path) -> None:
    found = folder(tmp_path)
    assert picked(found, "") is found.views[0]
    with pytest.raises(ConfigurationError, match=r"it has 000\.png"):
        picked(found, "007.png")


def test_a_folder_without_views_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="name a folder of views"):
        read_view_folder(tmp_path, refuse_joints)
