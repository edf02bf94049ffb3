"""What the benchmarks of samplers assume of the policy."""

from __future__ import annotations

from pathlib import Path

import torch
from inference_tabletop import Choice, densest, tabletop_subject

from minidiffuser_ros.policy.policy import _densest


def test_the_benchmarks_choose_the_candidate_that_the_policy_chooses() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        positions = 0.03 * torch.randn(16, 3, generator=generator)
        gaps = (positions[:, None] - positions[None]).norm(dim=-1).double().numpy()
        assert torch.equal(densest(positions), positions[_densest(gaps)])


def test_a_policy_of_flow_matching_is_compared_with_its_own_walk() -> None:
    folder = Path(__file__).parents[2] / "models" / "tabletop"
    subject = tabletop_subject(folder, [], "cpu", Choice(["push_button"], episodes=1, seed=200_000, calibration=1))
    assert subject.reference == "ddim-10"
    assert {"ddim-10 naive", "ddim-5", "uniform-2", "uniform-3", "bac-4-5", "random-60", "sag", "sag-fixed"} <= set(
        subject.methods
    )
    assert not any(name.startswith("ddpm") or name in ("ddim-30", "uniform-7") for name in subject.methods)
    scene = subject.scenes[0]
    whole, naive, pruned = (subject.play(name, scene) for name in ("ddim-10", "ddim-10 naive", "sag"))
    assert naive.success == whole.success
    assert whole.pruned[0] == 0.0
    assert 0.5 < pruned.pruned[0] < 0.7
