"""How many floating-point operations a pruner and the walk of its policy take."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from inference_tabletop import condition_of
from torch.utils.flop_counter import FlopCounterMode

from minidiffuser_ros.evaluation.rollout import Scene
from minidiffuser_ros.policy.policy import Policy
from minidiffuser_ros.policy.pruned import PrunedWalks
from minidiffuser_ros.policy.sampling import Walk
from minidiffuser_ros.simulation.tabletop import Tabletop

SEED = 160_000


@torch.no_grad()
def operations_of(policy: Policy, walks: PrunedWalks, world: Tabletop, tasks: Sequence[str]) -> dict[str, float]:
    """Of one decision: products and sums in matrix products and attention, as `torch.utils.flop_counter` sees them.

    pruner: for one observation, with what does not depend on it kept; pruner_anew: with that, too. share: of the
    pruner in the whole walk that it prunes.
    """
    condition = condition_of(policy, world, Scene(tasks[0], SEED))
    sampler, mask = walks.config.sampler, walks.mask(condition)
    counted = {
        "encode": _counted(lambda: condition_of(policy, world, Scene(tasks[0], SEED))),
        "whole_walk": _counted(lambda: policy.sampler.positions(condition, 0, Walk(sampler))),
        "pruned_walk": _counted(lambda: policy.sampler.positions(condition, 0, Walk(sampler, mask))),
        "pruner": _counted(lambda: walks.mask(condition)),
    }
    counted["pruner_anew"] = counted["pruner"] + _counted(walks.pruner.unit_part)
    return {**counted, "share": counted["pruner"] / counted["whole_walk"]}


def _counted(function: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        function()
    return float(counter.get_total_flops())
