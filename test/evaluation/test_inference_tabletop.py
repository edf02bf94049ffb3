"""What the benchmarks of samplers assume of the policy."""

from __future__ import annotations

import torch
from inference_tabletop import densest

from minidiffuser_ros.policy.policy import _densest


def test_the_benchmarks_choose_the_candidate_that_the_policy_chooses() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        positions = 0.03 * torch.randn(16, 3, generator=generator)
        gaps = (positions[:, None] - positions[None]).norm(dim=-1).double().numpy()
        assert torch.equal(densest(positions), positions[_densest(gaps)])
