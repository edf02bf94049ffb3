"""Demonstrations as batches: what augmentation keeps, and that episodes are split whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small import MODEL, SPEC, demonstration, small_trainer

from minidiffuser_ros.contract.errors import EpisodeError
from minidiffuser_ros.episodes.cache_build import build_cache
from minidiffuser_ros.episodes.demonstration import save_demonstration
from minidiffuser_ros.geometry.rotation import angle_between_deg, quat_from_yaw
from minidiffuser_ros.training.config import Augmentation
from minidiffuser_ros.training.dataset import DemonstrationSet, augment, load_split
from minidiffuser_ros.training.loop import train

EXACT = Augmentation(jitter=0.0, dropout=0.0)


def moved(seed: int, augmentation: Augmentation) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    d = demonstration(seed, steps=1)
    before = (d.points, d.colors, d.tool[0], d.targets[0])
    return before, augment(*before, SPEC, np.random.default_rng(seed), augmentation)


@pytest.mark.parametrize("seed", range(5))
def test_cloud_tool_and_target_move_as_one_rigid_body(seed: int) -> None:
    (points, _, tool, target), (new_points, _, new_tool, new_target) = moved(seed, EXACT)
    before = np.concatenate([points, [tool[:3]], [target[:3]]])
    after = np.concatenate([new_points, [new_tool[:3]], [new_target[:3]]])
    distances = [np.linalg.norm(p[:, None] - p[None], axis=-1) for p in (before, after)]
    np.testing.assert_allclose(*distances, atol=1e-6)
    np.testing.assert_allclose(before[:, 2], after[:, 2], atol=1e-6)
    between = angle_between_deg(tool[3:], target[3:7]), angle_between_deg(new_tool[3:], new_target[3:7])
    assert between[0] == pytest.approx(between[1], abs=1e-4)


def test_the_target_turns_by_the_angle_that_the_cloud_turns_by() -> None:
    (points, _, _, target), (new_points, _, _, new_target) = moved(3, EXACT)
    arms = [(p - p.mean(0))[:, :2] for p in (points, new_points)]
    angles = [np.arctan2(a[:, 1], a[:, 0]) for a in arms]
    turn = float(np.angle(np.exp(1j * (angles[1] - angles[0]))).mean())
    assert abs(turn) > 0.01
    expected = quat_from_yaw(turn)
    got = angle_between_deg(target[3:7], new_target[3:7])
    assert got == pytest.approx(abs(np.rad2deg(turn)), abs=0.05)
    assert angle_between_deg(quat_from_yaw(0.0), expected) == pytest.approx(got, abs=0.05)


def test_dropout_takes_points_with_their_colours() -> None:
    (points, colors, _, _), (new_points, new_colors, _, _) = moved(1, Augmentation(0.0, 0.0, 0.0, 0.5))
    assert 0 < len(new_points) < len(points)
    rows = [int(np.argmin(np.linalg.norm(points - p, axis=1))) for p in new_points]
    np.testing.assert_array_equal(new_colors, colors[rows])


def test_each_sample_depends_on_its_own_generator_only() -> None:
    data = DemonstrationSet([demonstration(i) for i in range(4)], 72)

    def positions(*seeds: int) -> torch.Tensor:
        return data.batch([0, 3, 5], [np.random.default_rng(seed) for seed in seeds]).positions

    assert positions(7, 8, 9).equal(positions(7, 8, 9))
    unlike = (positions(7, 8, 9) != positions(7, 1, 9)).any(-1)
    assert unlike.tolist() == [False, True, False]


def test_without_a_generator_the_stored_step_comes_back() -> None:
    d = demonstration(0)
    batch = DemonstrationSet([d], 72).batch([1])
    np.testing.assert_allclose(batch.positions[0], d.targets[1, :3], atol=1e-6)
    np.testing.assert_allclose(batch.inputs.points, d.points[d.counts[0] :], atol=0)


def test_no_episode_lies_on_both_sides_of_the_split(tmp_path: Path) -> None:
    for seed in range(24):
        save_demonstration(demonstration(seed), tmp_path / "lump" / f"{seed:06d}.npz")
    training, held_out = load_split(tmp_path, 72, validation_fraction=0.25)
    seeds = [{d.seed for d in part._demonstrations} for part in (training, held_out)]
    assert not seeds[0] & seeds[1]
    assert len(seeds[0]) == 18
    assert len(seeds[1]) == 6


@pytest.fixture
def both(tmp_path: Path) -> tuple[Path, Path]:
    """The same demonstrations as files and as a cache; they differ in length, and so do their names."""
    for seed in range(24):
        d = demonstration(seed, steps=1 + seed % 3, task="lump" if seed % 2 else "bump")
        save_demonstration(d, tmp_path / "npz" / d.task / f"{seed}.npz")
    build_cache([tmp_path / "npz"], tmp_path / "cache")
    return tmp_path / "npz", tmp_path / "cache"


def test_a_cache_is_split_as_the_files_that_it_was_built_from(both: tuple[Path, Path]) -> None:
    from_files, from_cache = (load_split(folder, 72, validation_fraction=0.25) for folder in both)
    for one, other in zip(from_files, from_cache, strict=True):
        assert one.samples == other.samples
        assert [d.seed for d in one._demonstrations] == [d.seed for d in other._demonstrations]
        assert one.episodes_per_task() == other.episodes_per_task()
        assert one.instructions() == other.instructions()


@pytest.mark.parametrize("augmented", [False, True])
def test_batches_from_a_cache_are_those_from_files_bit_for_bit(both: tuple[Path, Path], augmented: bool) -> None:
    def tensors(folder: Path) -> list[torch.Tensor]:
        data = load_split(folder, 72)[0]
        indices = list(range(0, len(data), 3))
        batch = data.batch(indices, [np.random.default_rng(i) for i in indices] if augmented else None)
        return [v for part in (batch, batch.inputs) for v in vars(part).values() if isinstance(v, torch.Tensor)]

    for one, other in zip(*map(tensors, both), strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


def test_training_on_a_cache_ends_with_the_weights_of_training_on_files(
    both: tuple[Path, Path], tmp_path: Path
) -> None:
    weights = []
    for name, folder in zip(("npz", "cache"), both, strict=True):
        trainer = small_trainer(load_split(folder, MODEL.rotation_bins)[0])
        train(trainer, tmp_path / "runs" / name)
        weights.append(trainer.average)
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_batch_from_a_cache_can_be_changed_and_the_cache_stays(both: tuple[Path, Path]) -> None:
    data, _ = load_split(both[1], 72)
    before = data.batch([0]).inputs.points.clone()
    data.batch([0]).inputs.points.zero_()
    assert torch.equal(data.batch([0]).inputs.points, before)


def test_recorded_episodes_and_damaged_caches_are_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "lab" / "20260131-142500-push").mkdir(parents=True)
    (tmp_path / "lab" / "20260131-142500-push" / "metadata.yaml").write_text("rosbag2_bagfile_information: {}")
    with pytest.raises(EpisodeError, match=r"lab holds recorded episodes.*minidiffuser episodes cache .*--out FOLDER"):
        load_split(tmp_path / "lab", 72)
    save_demonstration(demonstration(0), tmp_path / "npz" / "lump" / "000000.npz")
    build_cache([tmp_path / "npz"], tmp_path / "one")
    with pytest.raises(EpisodeError, match="one holds 1 demonstrations, at least 2 are needed"):
        load_split(tmp_path / "one", 72)
    (tmp_path / "one" / "points.npy").unlink()
    with pytest.raises(EpisodeError, match=r"cannot read .*points.npy"):
        load_split(tmp_path / "one", 72)


def test_too_few_or_unlike_demonstrations_are_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EpisodeError, match=r"holds 0 demonstrations.*minidiffuser demos"):
        load_split(tmp_path, 72)
    other = demonstration(1, spec=replace(SPEC, voxel_size=0.01))
    with pytest.raises(EpisodeError, match=r"voxel_size: 0\.008 against 0\.01"):
        DemonstrationSet([demonstration(0), other], 72)


def test_a_sample_knows_the_tool_one_keypose_earlier_moved_like_the_rest() -> None:
    d = demonstration(0, steps=3)
    rng = np.random.default_rng(0)
    tools = np.concatenate([rng.uniform(0.3, 0.6, (3, 3)), [quat_from_yaw(yaw) for yaw in (0.1, 0.5, -0.4)]], axis=1)
    d = replace(d, tool=tools, openings=np.array([1.0, 0.0, 1.0]))
    data = DemonstrationSet([d], 72)
    plain = data.batch([0, 1, 2]).inputs
    assert plain.before_mask.tolist() == [False, True, True]
    assert plain.before_position[1:].equal(plain.tool_position[:-1])
    assert plain.before_features[1:].equal(plain.tool_features[:-1])
    turned = data.batch([2], [np.random.default_rng(1)], EXACT).inputs
    gaps = [(inputs.before_position[-1] - inputs.tool_position[-1]).norm() for inputs in (plain, turned)]
    assert gaps[0] == pytest.approx(float(gaps[1]), abs=1e-5)
    assert not torch.allclose(turned.before_position[-1], plain.before_position[-1], atol=1e-3)
