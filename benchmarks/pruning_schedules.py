"""Where on a pruned walk to compute: how far schedules that do not look at the observation end from the whole walk.

python benchmarks/pruning_schedules.py models/push_t --data data/push_t --own-buffers

Over held-out observations, all from the same noise, in the units of diffusion: the mean distance of each walk's end
from that of the whole one, and from what the expert did. `another noise` says what a distance means: the whole walk,
twice. `lateness`: of the computed steps (`pruning.schedules.late_computed`), 1 for even ones. A pruner's training
begins from the closest of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from itertools import repeat
from pathlib import Path

import torch
from torch import Tensor

from minidiffuser_ros.diffusion.sampler import SamplerConfig
from minidiffuser_ros.model.neck import BlockExecutor, run_block
from minidiffuser_ros.policy.pruned import load_any_policy
from minidiffuser_ros.policy.sampling import walk_together
from minidiffuser_ros.pruning.losses import fidelity_loss
from minidiffuser_ros.pruning.reuse import pruned_steps, recorded_steps
from minidiffuser_ros.pruning.schedules import block_adaptive_schedule, late_computed, similarity_of
from minidiffuser_ros.training.any_demonstrations import split_data_of
from minidiffuser_ros.training.pruning import LATENESS


@torch.inference_mode()
def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policy", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="demonstrations that it was trained on")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.91, 0.88, 0.85, 0.8])
    parser.add_argument("--steps", type=int, default=100, help="of the walk (default: 100)")
    parser.add_argument("--observations", type=int, default=128)
    parser.add_argument("--own-buffers", action="store_true", help="a buffer for each branch instead of each kind")
    args = parser.parse_args()
    torch.set_num_threads(1)
    policy = load_any_policy(args.policy)
    _, held_out = split_data_of(policy, args.data)
    chosen = torch.randperm(len(held_out), generator=torch.Generator().manual_seed(0))[: args.observations]
    batch = held_out.batch(chosen.tolist())
    config = SamplerConfig("ddpm", args.steps, policy.config.sampler.clip_sample)
    condition, units = policy.network.encode(batch.inputs), policy.sampler.units(config)

    def end(executors: Iterable[BlockExecutor], seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return walk_together(policy.sampler, config, condition, executors, len(chosen), generator)

    expert, whole, other = policy.sampler.expert(batch), end(repeat(run_block)), end(repeat(run_block), seed=1)
    outputs: list[dict[str, Tensor]] = []
    end(recorded_steps(outputs, args.steps))
    schedules = {
        f"rate {rate:g}, lateness {lateness:g}": late_computed(units, rate, lateness)
        for rate in args.rates
        for lateness in LATENESS
    }
    schedules["BAC, 10 updates, 5 MLPs refreshed"] = block_adaptive_schedule(units, similarity_of(units, outputs))
    print(f"{'walk':<36}{'reused':>8}{'from the whole':>16}{'from the expert':>17}")
    rows = {"whole": (0.0, whole), "whole, another noise": (0.0, other)}
    rows |= {
        name: (float(mask.float().mean()), end(pruned_steps(units, mask, not args.own_buffers)))
        for name, mask in schedules.items()
    }
    for name, (reused, ended) in rows.items():
        distances = float(fidelity_loss(ended, whole.squeeze(1))), float(fidelity_loss(ended, expert))
        print(f"{name:<36}{reused:>8.1%}{distances[0]:>16.4f}{distances[1]:>17.4f}", flush=True)


if __name__ == "__main__":
    main()
