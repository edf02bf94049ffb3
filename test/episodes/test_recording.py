"""A recording keeps what cameras and joints gave, exactly enough to build the observations again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from minidiffuser_ros.contract.errors import EpisodeError
from minidiffuser_ros.episodes.demonstration import Demonstration, load_demonstration, save_demonstration
from minidiffuser_ros.episodes.recording import DEPTH_UNIT, Recorder, Recording, load_recording
from minidiffuser_ros.simulation.shifts import NONE
from minidiffuser_ros.simulation.stepped import JOINT_SPEEDS
from minidiffuser_ros.simulation.tabletop import shared_world
from minidiffuser_ros.training.demonstrations import Disturbance, demonstrate

QUIET = Disturbance(probability=0.0)


@pytest.fixture(scope="module")
def made() -> tuple[Demonstration, Recording]:
    recorder = Recorder()
    demonstration = demonstrate(shared_world(), "stack_pair", 3, QUIET, NONE, recorder)
    assert demonstration is not None
    return demonstration, recorder.recording()


def test_there_are_two_pictures_before_each_keypose(made: tuple[Demonstration, Recording]) -> None:
    demonstration, recording = made
    steps = len(demonstration.counts)
    assert recording.images.shape == (steps, 2, 240, 424, 3)
    assert recording.depths.shape == (steps, 2, 240, 424)
    assert recording.camera_poses.shape == (steps, 2, 4, 4)
    assert recording.intrinsics.shape == (2, 3, 3)


def test_the_first_picture_is_what_the_world_shows_and_its_depth_is_true_to_a_tenth_of_a_millimetre(
    made: tuple[Demonstration, Recording],
) -> None:
    world = shared_world()
    world.reset("stack_pair", 3)
    for index, view in enumerate(world.views()):
        np.testing.assert_array_equal(made[1].images[0, index], view.color)
        np.testing.assert_allclose(made[1].depths[0, index] * DEPTH_UNIT, view.depth, atol=0.51 * DEPTH_UNIT)
        np.testing.assert_array_equal(made[1].camera_poses[0, index], view.T_policy_camera)


def test_the_trajectory_leads_from_keypose_to_keypose_without_jumps(made: tuple[Demonstration, Recording]) -> None:
    demonstration, recording = made
    number, seconds, joints = recording.trajectory[:, 0], recording.trajectory[:, 1], recording.trajectory[:, 2:9]
    assert sorted(set(number.tolist())) == list(range(len(demonstration.counts) - 1))
    np.testing.assert_allclose(np.diff(seconds), 0.02, atol=1e-4)
    assert (np.abs(np.diff(joints, axis=0)) < 0.02 * 1.1 * np.array(JOINT_SPEEDS)).all()  # they overshoot a little
    for step in range(len(demonstration.counts) - 1):
        last = recording.trajectory[number == step][-1]
        np.testing.assert_allclose(last[2:9], demonstration.joints[step + 1], atol=2e-3)
        assert last[9] == pytest.approx(demonstration.openings[step + 1], abs=0.02)


def test_a_file_keeps_both_and_training_reads_the_demonstration_as_ever(
    made: tuple[Demonstration, Recording], tmp_path: Path
) -> None:
    path = tmp_path / "demo.npz"
    save_demonstration(*[made[0]], path, made[1])
    for name, array in vars(made[1]).items():
        np.testing.assert_array_equal(getattr(load_recording(path), name), array)
    np.testing.assert_array_equal(load_demonstration(path).points, made[0].points)


def test_a_file_without_pictures_and_a_foreign_one_say_what_to_do(
    made: tuple[Demonstration, Recording], tmp_path: Path
) -> None:
    save_demonstration(made[0], tmp_path / "demo.npz")
    with pytest.raises(EpisodeError, match=r"keeps no pictures: make it with `minidiffuser demos --rgbd`"):
        load_recording(tmp_path / "demo.npz")
    (tmp_path / "foreign.npz").write_bytes(b"PK not a zip")
    with pytest.raises(EpisodeError, match=r"cannot read the recording .*foreign\.npz"):
        load_recording(tmp_path / "foreign.npz")


def test_a_precise_task_is_shown_again_without_errors_where_the_disturbed_one_failed() -> None:
    wild = Disturbance(probability=1.0, position=0.2)
    demonstration = demonstrate(shared_world(), "stack_pair", 5, wild, NONE)
    assert demonstration is not None
    keyposes = demonstration.targets[:-2, :3]
    np.testing.assert_allclose(demonstration.tool[1:-1, :3], keyposes, atol=0.003)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_fit_is_shown_with_as_much_error_as_it_stands(seed: int) -> None:
    demonstration = demonstrate(shared_world(), "insert_ring_on_peg", seed, Disturbance(probability=1.0), NONE)
    assert demonstration is not None
    beside = np.linalg.norm(demonstration.tool[1:-1, :3] - demonstration.targets[:-2, :3], axis=1)
    assert beside.max() > 0.002  # without errors the arm arrives within half a millimetre
