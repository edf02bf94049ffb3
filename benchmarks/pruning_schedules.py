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
from typing import Any

import torch
from torch import Tensor

from minidiffuser_ros.diffusion.sampler import SamplerConfig, inference_timesteps, sample
from minidiffuser_ros.model.neck import BlockExecutor, run_block
from minidiffuser_ros.policy.pruned import PrunablePolicy, load_any_policy
from minidiffuser_ros.pruning.losses import fidelity_loss
from minidiffuser_ros.pruning.reuse import pruned_steps, recorded_steps
from minidiffuser_ros.pruning.schedules import block_adaptive_schedule, late_computed, similarity_of
from minidiffuser_ros.training.any_demonstrations import split_data_of
from minidiffuser_ros.training.pruning import LATENESS


class Walks:
    """Whole and pruned walks of a policy over the same observations, from the same noise."""

    def __init__(self, policy: PrunablePolicy, batch: Any, steps: int) -> None:
        self.sampler, self.count = policy.sampler, len(batch.actions if hasattr(batch, "actions") else batch.positions)
        self.config = SamplerConfig("ddpm", steps, policy.config.sampler.clip_sample)
        self.units = policy.sampler.units(self.config)
        self._condition = policy.network.encode(batch.inputs)
        timesteps = inference_timesteps(policy.config.schedule.num_train_timesteps, steps)
        self._contexts = policy.network.contexts_of_steps(self._condition, timesteps)

    def end(self, executors: Iterable[BlockExecutor], seed: int = 0) -> Tensor:
        """Where the walks end [B, 1, S]."""
        generator, steps = torch.Generator().manual_seed(seed), iter(zip(self._contexts, executors, strict=False))

        def denoiser(noisy: Tensor, timesteps: Tensor) -> Tensor:
            return self.sampler.predict(self._condition, noisy, *next(steps))

        start = self.sampler.start(self.count, 1, generator)
        return sample(denoiser, self.sampler.schedule, self.config, start, generator)


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
    walks, expert = Walks(policy, batch, args.steps), policy.sampler.expert(batch)
    whole, other = walks.end(repeat(run_block)), walks.end(repeat(run_block), seed=1)
    outputs: list[dict[str, Tensor]] = []
    walks.end(recorded_steps(outputs, args.steps))
    schedules = {
        f"rate {rate:g}, lateness {lateness:g}": late_computed(walks.units, rate, lateness)
        for rate in args.rates
        for lateness in LATENESS
    }
    schedules["BAC, 10 updates, 5 MLPs refreshed"] = block_adaptive_schedule(
        walks.units, similarity_of(walks.units, outputs)
    )
    print(f"{'walk':<36}{'reused':>8}{'from the whole':>16}{'from the expert':>17}")
    rows = {"whole": (0.0, whole), "whole, another noise": (0.0, other)}
    rows |= {
        name: (float(mask.float().mean()), walks.end(pruned_steps(walks.units, mask, not args.own_buffers)))
        for name, mask in schedules.items()
    }
    for name, (reused, end) in rows.items():
        distances = float(fidelity_loss(end, whole.squeeze(1))), float(fidelity_loss(end, expert))
        print(f"{name:<36}{reused:>8.1%}{distances[0]:>16.4f}{distances[1]:>17.4f}", flush=True)


if __name__ == "__main__":
    main()
