"""Step files become demonstrations, or are refused in one sentence; nothing outside the file is touched."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml

from minidiffuser_ros.arm.kinematics import FrankaKinematics
from minidiffuser_ros.contract.errors import ConfigurationError, EpisodeError
from minidiffuser_ros.contract.observation import ObservationSpec
from minidiffuser_ros.episodes.converters.step_hdf5 import REAL_SPEC, StepOptions, import_step_hdf5
from minidiffuser_ros.episodes.demonstration import Demonstration, load_demonstration
from minidiffuser_ros.geometry.camera import PinholeCamera
from minidiffuser_ros.geometry.rotation import rotation
from minidiffuser_ros.geometry.transform import look_at
from minidiffuser_ros.perception.builder import CameraView, ObservationBuilder

JOINTS = np.array([0.1, -0.7, 0.0, -2.3, 0.0, 1.6, 0.8])
FINGERS = (0.039, 0.012, 0.038, 0.035)
STEPS = len(FINGERS)
BASE_SPEC = ObservationSpec(workspace_max=(0.75, 0.4, 0.9), voxel_size=0.01, max_points=4000, cameras=("front",))


def some_step(step: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """What the collector sends: a table at -4 cm with a block of 10 cm, seen as a cloud."""
    points = rng.uniform([0.3, -0.2, -0.04], [0.6, 0.2, -0.04], (1500, 3))
    on_block = (np.abs(points[:, :2] - [0.45, 0.0]) < 0.07).all(axis=1)
    points[on_block, 2] += 0.1
    quat = rng.normal(size=4)
    pose = [*rng.uniform([0.3, -0.2, 0.1], [0.6, 0.2, 0.4]), *(quat / np.linalg.norm(quat))]
    return {
        "xyz": points,
        "rgb": np.where(on_block[:, None], np.uint8([200, 40, 40]), np.uint8([90, 90, 90])),
        "gripper": np.array(pose, np.float32),
        "joint_states": np.array([*JOINTS, FINGERS[step], FINGERS[step]], np.float32),
    }


def write_steps(path: Path, change: Callable[[h5py.Group], None] = lambda _: None, episodes: int = 1) -> Path:
    """A file as the collector writes it; `change` gets the first episode's group."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for episode in range(episodes):
            for step in range(STEPS):
                group = file.create_group(f"episodes/episode_{episode}/step_{step}")
                for name, array in some_step(step, rng).items():
                    group.create_dataset(name, data=array)
        change(file["episodes/episode_0"])
    return path


def imported(path: Path, **options: Any) -> Demonstration:
    out = path.parents[1] / "out"
    assert import_step_hdf5(path, out, StepOptions(**options)) == 1
    return load_demonstration(next(out.glob("*/episode_0.npz")))


def refused(path: Path, message: str, **options: Any) -> None:
    """Refused in one line that names the file, and nothing is written."""
    with pytest.raises(EpisodeError, match=message) as caught:
        imported(path, **options)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(path.parents[1].glob("out/**/*.npz"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "close_box" / "dataset.h5"


def test_each_step_is_seen_before_the_next_one_and_the_last_repeats_itself(path: Path) -> None:
    made = imported(write_steps(path))
    rng = np.random.default_rng(0)
    steps = [some_step(step, rng) for step in range(STEPS)]
    rows = np.array([step["gripper"] for step in steps], np.float64)
    quats = rows[:, [6, 3, 4, 5]] / np.linalg.norm(rows[:, 3:], axis=1, keepdims=True)
    is_open = np.array([1.0, 0.0, 1.0, 1.0])  # a finger at 12 mm holds something
    targets = np.column_stack([rows[:, :3], quats, is_open])[[1, 2, 3, 3]]
    np.testing.assert_allclose(made.tool, np.column_stack([rows[:, :3], quats]), rtol=0, atol=1e-15)
    np.testing.assert_allclose(made.targets, targets, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(made.openings, is_open)
    np.testing.assert_allclose(made.joints, np.tile(JOINTS, (STEPS, 1)), atol=1e-6)
    assert (made.task, made.variation, made.seed, made.spec) == ("close_box", 0, 0, REAL_SPEC)
    assert made.instructions == ("close box",)
    assert (made.points[:, 2] > REAL_SPEC.table_height + REAL_SPEC.table_margin).all()
    assert (made.colors == [200, 40, 40]).all()


def test_steps_come_in_the_order_of_their_numbers_and_episodes_too(path: Path) -> None:
    def renumber(episode: h5py.Group) -> None:
        for step in reversed(range(STEPS)):
            episode.move(f"step_{step}", f"step_{step + 9}")  # as text, 10 comes before 9

    plain = imported(write_steps(path))
    next(path.parents[1].glob("out/*/*.npz")).unlink()
    np.testing.assert_array_equal(imported(write_steps(path, renumber)).tool, plain.tool)
    write_steps(path, episodes=11)
    assert import_step_hdf5(path, path.parents[1] / "eleven") == 11
    assert load_demonstration(path.parents[1] / "eleven/close_box/episode_10.npz").seed == 10


def test_the_thinned_copy_with_fractions_and_eight_numbers_reads_the_same(path: Path) -> None:
    def thinned(episode: h5py.Group) -> None:
        for step, finger in enumerate(FINGERS):
            group = episode[f"step_{step}"]
            rgb, gripper = group["rgb"][...] / 255.0, np.append(group["gripper"][...], np.float32(finger > 0.03))
            del group["rgb"], group["gripper"]
            group["rgb"], group["gripper"] = rgb, gripper

    first = imported(write_steps(path))
    copy = path.parents[1] / "copy" / "b" / "1cm.h5"
    second = imported(write_steps(copy, thinned))
    for name in ("points", "colors", "targets", "openings"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_a_folder_of_tasks_is_read_whole_and_what_exists_is_kept(tmp_path: Path) -> None:
    for task in ("close_box", "open_drawer+2"):
        write_steps(tmp_path / "in" / task / "dataset.h5", episodes=2)
    sentences = tmp_path / "sentences.yaml"
    sentences.write_text("close_box: [close the lid, shut it]\n")
    options = StepOptions(instructions=sentences)
    assert import_step_hdf5(tmp_path / "in", tmp_path / "out", options) == 4
    files = sorted((tmp_path / "out").glob("*/*.npz"))
    assert load_demonstration(files[0]).instructions == ("close the lid", "shut it")
    assert load_demonstration(files[2]).variation == 2
    files[0].write_bytes(b"kept")
    files[1].unlink()
    assert import_step_hdf5(tmp_path / "in", tmp_path / "out", options) == 4
    assert files[0].read_bytes() == b"kept"
    assert files[1].exists()


LAYOUT = {
    "episodes": "",
    "tool": "pose",
    "joints": "q",
    "quaternion": "wxyz",
    "cameras": {
        "front": {"color": "rgb", "depth": "depth", "intrinsics": "/K", "pose": "/T", "depth_unit": 0.0001},
    },
}


def write_pictures(path: Path) -> list[CameraView]:
    """A file of another layout, with pictures; the views that are in it."""
    path.parent.mkdir(parents=True)
    camera, T_base_camera = PinholeCamera.from_fov(40, 30, 50.0), look_at((0.5, 0.5, 0.6), (0.5, 0.0, 0.1))
    rng, views = np.random.default_rng(3), []
    with h5py.File(path, "w") as file:
        file["K"], file["T"] = camera.matrix, T_base_camera
        for step in range(2):
            depth = rng.integers(6600, 6800, (30, 40), np.uint16)
            depth[:3] = 0
            color = rng.integers(0, 256, (30, 40, 3), np.uint8)
            group = file.create_group(f"episode_0/step_{step}")
            group["rgb"], group["depth"], group["q"] = color, depth, JOINTS
            group.create_dataset("pose", data=np.array([0.5, 0.1 * step, 0.3, 0.0, 0.6, 0.8, 0.0, 1.0]))
            views.append(CameraView("front", color, depth * np.float32(0.0001), camera, T_base_camera, 0))
    return views


def test_a_layout_with_pictures_gives_the_clouds_of_the_observation_builder(path: Path) -> None:
    views = write_pictures(path)
    layout = path.parent / "layout.yaml"
    layout.write_text(yaml.safe_dump(LAYOUT))
    made = imported(path, layout=layout, spec=BASE_SPEC)
    for step, view in enumerate(views):
        seen = ObservationBuilder(BASE_SPEC).build([view], JOINTS, 1.0, np.eye(4), 0)
        start = int(made.counts[:step].sum())
        np.testing.assert_array_equal(made.points[start : start + made.counts[step]], seen.points)
        np.testing.assert_array_equal(made.colors[start : start + made.counts[step]], seen.colors)
    np.testing.assert_array_equal(made.tool[1], [0.5, 0.1, 0.3, 0.0, 0.6, 0.8, 0.0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"xyz": "points"}, "unknown entries"),
        ({"step": 3}, "'step' must be text"),
        ({"open_above": "wide"}, "'open_above' must be a number"),
        ({"quaternion": "zyxw"}, "xyzw, wxyz"),
        ({"cameras": {"front": {"color": "rgb"}}}, "missing entries"),
        ({"cameras": ["front"]}, "cameras must map"),
        (["episodes"], "must be a mapping"),
    ],
)
def test_a_layout_that_cannot_be_is_refused(path: Path, content: Any, message: str) -> None:
    layout = write_steps(path).parent / "layout.yaml"
    layout.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigurationError, match=message):
        imported(path, layout=layout)


def test_the_robot_is_taken_out_by_its_joints_where_the_frame_is_its_base(path: Path) -> None:
    hand = FrankaKinematics().forward(JOINTS)
    pose = [*hand[:3, 3], *rotation(np.array([0.0, 1.0, 0.0, 0.0])).as_quat()]

    def beside_the_hand(episode: h5py.Group) -> None:
        for name in episode:
            group = episode[name]
            cloud = np.random.default_rng(0).normal(hand[:3, 3] - hand[:3, 2] * 0.05, 0.05, (1500, 3))
            del group["gripper"], group["xyz"]
            group["gripper"], group["xyz"] = np.array(pose), cloud

    write_steps(path, beside_the_hand)
    robot, bare = (imported(path, spec=BASE_SPEC, remove_robot=flag) for flag in (False, True) if clear(path))
    assert bare.counts.sum() < 0.9 * robot.counts.sum()
    with pytest.raises(ConfigurationError, match="fr3_link0"):
        StepOptions(remove_robot=True)
    clear(path)
    elsewhere = write_steps(path)
    refused(elsewhere, "from where the joints put it", spec=BASE_SPEC, remove_robot=True)


def clear(path: Path) -> bool:
    for file in path.parents[1].glob("out/*/*.npz"):
        file.unlink()
    return True


def replaced(name: str, value: Any, **settings: Any) -> Callable[[h5py.Group], None]:
    """Another array in place of one of the first step."""

    def change(episode: h5py.Group) -> None:
        del episode["step_0"][name]
        if value is not None:
            episode["step_0"].create_dataset(name, data=value, **settings)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replaced("xyz", None), "no array '.*step_0/xyz'"),
        (replaced("xyz", np.zeros((5, 4))), r"must have the shape \(any, 3\), is float64 \(5, 4\)"),
        (replaced("xyz", np.zeros((5, 3))), "equal shape"),
        (replaced("xyz", np.full((1500, 3), 9.0)), "only 0 points"),
        (replaced("rgb", np.full((1500, 3), 300.0)), r"colours must lie in \[0, 1\] or \[0, 255\]"),
        (replaced("rgb", np.array([[b"a"] * 3])), "must have the shape"),
        (replaced("gripper", np.zeros(7)), "quaternion of norm 1"),
        (replaced("gripper", np.zeros(6)), "7 numbers, or 8"),
        (replaced("gripper", np.array(["a"] * 7, dtype="S1")), "must have the shape"),
        (replaced("joint_states", np.zeros(6)), "7 finite joint positions"),
        (replaced("joint_states", np.full(9, np.nan)), "7 finite joint positions"),
        (replaced("joint_states", np.zeros(7)), "does not say whether the gripper is open"),
        (lambda episode: [episode.pop(f"step_{n}") for n in range(1, STEPS)], "1 steps"),
    ],
)
def test_what_does_not_fit_is_told(path: Path, change: Callable[[h5py.Group], None], message: str) -> None:
    refused(write_steps(path, change), message)


SECRET = np.arange(7.0)


def outside(path: Path) -> Path:
    other = path.parent / "other.h5"
    with h5py.File(other, "w") as file:
        file["gripper"] = np.array([0.4, 0.0, 0.2, 0.0, 1.0, 0.0, 0.0])
    return other


def external_link(episode: h5py.Group) -> None:
    del episode["step_0"]["gripper"]
    episode["step_0"]["gripper"] = h5py.ExternalLink("other.h5", "/gripper")


def soft_link(episode: h5py.Group) -> None:
    del episode["step_0"]["gripper"]
    episode["step_0"]["gripper"] = h5py.SoftLink("/episodes/episode_0/step_1/gripper")


def external_group(episode: h5py.Group) -> None:
    episode["step_9"] = h5py.ExternalLink("other.h5", "/")


def virtual(episode: h5py.Group) -> None:
    del episode["step_0"]["gripper"]
    layout = h5py.VirtualLayout((7,), np.float64)
    layout[:] = h5py.VirtualSource("other.h5", "gripper", (7,))
    episode["step_0"].create_virtual_dataset("gripper", layout)


def external_data(episode: h5py.Group) -> None:
    del episode["step_0"]["gripper"]
    other = str(Path(episode.file.filename).with_name("other.h5"))
    episode["step_0"].create_dataset("gripper", (7,), np.float64, external=[(other, 0, 56)])


def reference(episode: h5py.Group) -> None:
    del episode["step_0"]["gripper"]
    episode["step_0"].create_dataset("gripper", data=np.array([episode.ref] * 7, h5py.ref_dtype), dtype=h5py.ref_dtype)


def ragged(episode: h5py.Group) -> None:
    del episode["step_0"]["gripper"]
    episode["step_0"].create_dataset("gripper", (7,), h5py.vlen_dtype(np.float64))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (external_link, "link to elsewhere, which is not followed"),
        (soft_link, "link to elsewhere, which is not followed"),
        (external_group, "link to elsewhere, which is not followed"),
        (virtual, "lie in another file"),
        (external_data, "lie in another file"),
        (reference, "must have the shape"),
        (ragged, "must have the shape"),
    ],
)
def test_nothing_outside_the_file_is_opened(path: Path, change: Callable[[h5py.Group], None], message: str) -> None:
    write_steps(path)
    other = outside(path)
    write_steps(path, change)
    refused(path, message)
    other.unlink()
    refused(path, message)  # nothing was looked for there


def claims(shape: tuple[int, ...], **settings: Any) -> Callable[[h5py.Group], None]:
    def change(episode: h5py.Group) -> None:
        del episode["step_0"]["xyz"]
        episode["step_0"].create_dataset("xyz", shape, np.float64, **settings)

    return change


@pytest.mark.parametrize(
    "change",
    [
        claims((2**50, 3), chunks=(1024, 3)),
        claims((2**50, 3), chunks=(1024, 3), compression="gzip"),
        claims((10, 3), chunks=(2**24, 3), maxshape=(None, 3)),
        claims((2**23, 3), chunks=(2**20, 3), compression="gzip", fillvalue=1.0),
    ],
)
def test_a_claim_of_size_is_refused_before_anything_is_allocated(path: Path, change: Callable[..., None]) -> None:
    write_steps(path, change)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(path, "at most 67108864 are read")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def test_filters_that_plugins_undo_are_refused(path: Path) -> None:
    def scaled(episode: h5py.Group) -> None:
        del episode["step_0"]["xyz"]
        episode["step_0"].create_dataset("xyz", data=np.zeros((9, 3)), chunks=(9, 3), scaleoffset=3)

    refused(write_steps(path, scaled), "use gzip or none")


def test_a_file_cut_off_anywhere_is_refused(path: Path) -> None:
    whole = write_steps(path).read_bytes()
    for length in np.linspace(0, len(whole) - 1, 40).astype(int):
        path.write_bytes(whole[:length])
        refused(path, "cannot be read")


def test_a_file_with_damaged_bytes_is_refused_or_read_but_nothing_else_happens(path: Path) -> None:
    whole, rng = write_steps(path).read_bytes(), np.random.default_rng(0)
    # Descriptions, not the clouds: the bytes that are not part of a long array.
    described = [n for n in np.flatnonzero(np.frombuffer(whole, np.uint8)) if n < 3000 or rng.random() < 0.02]
    outcomes: list[Any] = []
    for round_ in range(150):
        damaged = bytearray(whole)
        for index in rng.choice(described, 3):
            damaged[index] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            outcomes.append(import_step_hdf5(path, path.parents[1] / str(round_)))
        except (EpisodeError, ConfigurationError) as error:
            outcomes.append(str(error))
    told = [outcome for outcome in outcomes if isinstance(outcome, str)]
    assert told
    assert all("\n" not in outcome for outcome in told)


def test_what_is_no_hdf5_file_and_a_folder_without_any_are_told(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"\x80\x04 a pickle")
    refused(path, "cannot be read as HDF5")
    with pytest.raises(ConfigurationError, match=r"no other\.h5"):
        import_step_hdf5(tmp_path, tmp_path / "out", StepOptions(file="other.h5"))
    with pytest.raises(ConfigurationError, match="no folder"):
        import_step_hdf5(tmp_path / "nowhere", tmp_path / "out")
