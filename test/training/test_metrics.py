"""Held-out figures: exact where the answer is known, the same each time, and of every task."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from small import MODEL, SPEC, demonstration, small_trainer
from torch import Tensor

from minidiffuser_ros.episodes.demonstration import Demonstration
from minidiffuser_ros.geometry.rotation import quat_from_yaw, quat_multiply
from minidiffuser_ros.policy.checkpoint import PolicyConfig
from minidiffuser_ros.policy.rotation_bins import bins_from_quat
from minidiffuser_ros.training.dataset import DemonstrationSet
from minidiffuser_ros.training.metrics import Validation, spread_over_tasks

POLICY = PolicyConfig(spec=SPEC, model=MODEL, num_candidates=4)


def data_of(*demonstrations: Demonstration) -> DemonstrationSet:
    return DemonstrationSet(demonstrations, MODEL.rotation_bins)


@contextmanager
def answering(validation: Validation, offset: float, yaw_deg: float) -> Iterator[None]:
    """The policy replaced by one that answers `offset` m and `yaw_deg` beside the expert, and always 'open'."""
    policy, data = validation._policy, validation._held_out

    def sample_positions(condition: object, seed: int) -> Tensor:
        return data.batch([seed]).positions.unsqueeze(1).repeat(1, 4, 1) + torch.tensor([offset, 0.0, 0.0])

    def classify(condition: object, positions: Tensor) -> tuple[Tensor, Tensor]:
        index = next(i for i in range(len(data)) if data.batch([i]).positions.equal(positions[0]))
        quat = quat_multiply(quat_from_yaw(math.radians(yaw_deg)), data.batch([index]).quats_wxyz[0].numpy())
        bins = torch.from_numpy(bins_from_quat(quat, MODEL.rotation_bins))
        return torch.nn.functional.one_hot(bins, MODEL.rotation_bins).float()[None, None], torch.ones(1, 1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy.sampler, "positions", sample_positions)
        patch.setattr(policy.network, "classify", classify)
        yield


@pytest.mark.parametrize(
    ("offset", "yaw_deg", "expected"),
    [(0.0, 0.0, (1.0, 1.0, 1.0)), (0.015, 10.0, (0.0, 1.0, 0.0)), (0.025, 180.0, (0.0, 0.0, 0.0))],
)
def test_the_shares_are_those_of_the_distance_and_of_the_geodesic_angle(
    offset: float, yaw_deg: float, expected: tuple[float, float, float]
) -> None:
    data = data_of(demonstration(0, steps=4))
    validation = Validation(POLICY, data, limit=100)
    with answering(validation, offset, yaw_deg):
        metrics = validation.measure(small_trainer(data).average).overall
    assert (metrics.within_1cm, metrics.within_2cm, metrics.rotation_within_5deg) == expected
    opened = [float(data.batch([i]).openings[0]) for i in range(4)]
    assert metrics.gripper_right == sum(opened) / 4
    assert metrics.steps == 4


def test_rotation_is_compared_with_the_experts_angle_and_not_with_its_bin() -> None:
    # The expert lies near the border of its bin; a neighbouring bin is one more step away, but within 5 degrees.
    base = demonstration(0, steps=1)
    targets = base.targets.copy()
    targets[0, 3:7] = quat_from_yaw(math.radians(12.4))
    validation = Validation(POLICY, data_of(replace(base, targets=targets)), limit=1)
    with answering(validation, 0.0, 2.0):
        metrics = validation.measure(small_trainer(validation._held_out).average).overall
    assert bins_from_quat(quat_from_yaw(math.radians(14.4)), 72)[2] != bins_from_quat(targets[0, 3:7], 72)[2]
    assert metrics.rotation_within_5deg == 1.0


def test_measuring_twice_gives_the_same_figures_and_leaves_the_random_numbers_alone() -> None:
    data = data_of(*(demonstration(i) for i in range(4)))
    average = small_trainer(data).average
    validation = Validation(POLICY, data, limit=6)
    before = torch.get_rng_state()
    assert validation.measure(average) == validation.measure(average)
    assert torch.equal(before, torch.get_rng_state())


def test_every_task_is_looked_at_and_the_overall_figure_is_the_mean_over_their_steps() -> None:
    many = [demonstration(i, task="many") for i in range(9)]
    data = data_of(*many, demonstration(9, task="few"))
    chosen = spread_over_tasks(data, limit=6)
    assert {task: len(indices) for task, indices in chosen.items()} == {"few": 2, "many": 3}
    metrics = Validation(POLICY, data, limit=6).measure(small_trainer(data).average)
    assert metrics.overall.steps == sum(part.steps for part in metrics.tasks.values()) == 5
    mean = sum(part.gripper_right * part.steps for part in metrics.tasks.values()) / 5
    assert metrics.overall.gripper_right == pytest.approx(mean)
