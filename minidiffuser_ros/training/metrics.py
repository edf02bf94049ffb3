"""How far predicted keyposes lie from the held-out experts', per task and over all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from minidiffuser_ros.geometry.rotation import angle_between_deg
from minidiffuser_ros.model.mini_diffuser import MiniDiffuser
from minidiffuser_ros.policy.checkpoint import PolicyConfig
from minidiffuser_ros.policy.policy import Policy
from minidiffuser_ros.training.dataset import DemonstrationSet

ROTATION_LIMIT_DEG = 5.0


@dataclass(frozen=True)
class KeyposeMetrics:
    """Shares of `steps` held-out keyposes.

    Positions are counted over all sampled candidates, and so are rotation and gripper where rotation is diffused with
    the position. Where they are classified they are those predicted at the expert's position, so that each figure
    stands for its own part of the network. The angle is the geodesic one.
    """

    within_1cm: float
    within_2cm: float
    rotation_within_5deg: float
    gripper_right: float
    steps: int

    def __str__(self) -> str:
        return (
            f"position < 1 cm {self.within_1cm:.1%}, < 2 cm {self.within_2cm:.1%}; rotation < 5° "
            f"{self.rotation_within_5deg:.1%}; gripper {self.gripper_right:.1%} ({self.steps} steps)"
        )


@dataclass(frozen=True)
class HeldOutMetrics:
    """All held-out keyposes that were looked at, and those of each task."""

    overall: KeyposeMetrics
    tasks: Mapping[str, KeyposeMetrics]

    def to_dict(self) -> dict[str, Any]:
        """Plain values: the overall figures, and one table a task under `tasks`."""
        return {**asdict(self.overall), "tasks": {task: asdict(metrics) for task, metrics in self.tasks.items()}}

    def __str__(self) -> str:
        lines = [f"held out: {self.overall}"]
        if len(self.tasks) > 1:
            lines += [f"  {task}: {metrics}" for task, metrics in self.tasks.items()]
        return "\n".join(lines)


@dataclass(frozen=True)
class _Comparison:
    distances: Tensor  # [N] m, one a candidate
    angles_deg: NDArray[np.float64]  # one a candidate, or the one at the expert's position
    gripper_right: NDArray[np.bool_]  # likewise


class Validation:
    """Measures weights on the same held-out keyposes with the same noise each time."""

    def __init__(self, policy: PolicyConfig, held_out: DemonstrationSet, limit: int, device: str = "cpu") -> None:
        # The keyposes bring their sentences encoded: there is nothing to check them against.
        self._policy = Policy(replace(policy, instructions=()), MiniDiffuser(policy.model), device)
        self._held_out = held_out
        self._indices = spread_over_tasks(held_out, limit)

    @torch.inference_mode()
    def measure(self, weights: Mapping[str, Tensor]) -> HeldOutMetrics:
        """Sample candidates and compare with the experts. The weights are rounded as a checkpoint rounds them."""
        self._policy.network.load_state_dict({name: value.half() for name, value in weights.items()})
        found = {task: [self._compare(i) for i in indices] for task, indices in self._indices.items()}
        everything = [comparison for comparisons in found.values() for comparison in comparisons]
        return HeldOutMetrics(_shares(everything), {task: _shares(part) for task, part in found.items()})

    def _compare(self, index: int) -> _Comparison:
        batch = self._held_out.batch([index])
        condition = self._policy.network.encode(batch.inputs.to(self._policy.device))
        expert = batch.positions.to(self._policy.device)
        if self._policy.config.model.rotation == "diffused":
            sampled = self._policy.sampler.keyposes(condition, seed=index)
            positions, quats, openings = sampled.positions, sampled.quats_wxyz, sampled.openings
        else:
            positions = self._policy.sampler.positions(condition, seed=index)[0]
            quats, openings = self._policy.sampler.classified(condition, expert.unsqueeze(1))
        return _Comparison(
            (positions - expert).norm(dim=-1).cpu(),
            angle_between_deg(quats, batch.quats_wxyz[0].double().numpy()),
            (openings > 0.5) == bool(batch.openings[0] > 0.5),
        )


def spread_over_tasks(data: DemonstrationSet, limit: int) -> dict[str, list[int]]:
    """At most `limit` sample indices, evenly over the tasks and over each task's episodes, at least one a task."""
    of_task: dict[str, list[int]] = {}
    for index in range(len(data)):
        of_task.setdefault(data.task_of(index), []).append(index)
    share = max(1, limit // len(of_task))
    return {
        task: [indices[i] for i in np.linspace(0, len(indices) - 1, min(share, len(indices))).astype(int)]
        for task, indices in sorted(of_task.items())
    }


def _shares(comparisons: Sequence[_Comparison]) -> KeyposeMetrics:
    distances = torch.cat([c.distances for c in comparisons])
    return KeyposeMetrics(
        float((distances < 0.01).float().mean()),
        float((distances < 0.02).float().mean()),
        float(np.mean(np.concatenate([c.angles_deg for c in comparisons]) < ROTATION_LIMIT_DEG)),
        float(np.mean(np.concatenate([c.gripper_right for c in comparisons]))),
        len(comparisons),
    )
