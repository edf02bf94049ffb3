"""What pruning saves of a walk over action sequences, by the width of the transformer: whole and pruned side by side.

    python benchmarks/pruned_transformer.py --widths 64 128 256

The weights are untrained: how long a walk takes depends on how much is computed, not on what comes out. `even`: all
branches at evenly spread steps; `random`: branches of any step. Medians over the rounds, after one that is not counted;
time is that of the processor.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from tqdm import tqdm

from minidiffuser_ros.diffusion.sampler import SamplerConfig
from minidiffuser_ros.diffusion.schedule import NoiseSchedule, ScheduleConfig
from minidiffuser_ros.model.action_condition import ActionInputs
from minidiffuser_ros.model.action_config import ActionTransformerConfig
from minidiffuser_ros.model.action_transformer import ActionTransformer
from minidiffuser_ros.policy.sampling import Walk
from minidiffuser_ros.policy.sequence_sampling import SequenceSampler
from minidiffuser_ros.pruning.schedules import evenly_computed, random_schedule

STATE_DIM = 20
DDPM = SamplerConfig("ddpm", 100)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--rate", type=float, default=0.91, help="share of the branches that is reused")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"{'width':>6}{'whole, ms':>11}{'even, ms':>10}{'random, ms':>12}{'even':>7}{'random':>8}")
    for width in args.widths:
        whole, even, random = _milliseconds(width, args.rate, args.rounds)
        print(f"{width:>6}{whole:>11.1f}{even:>10.1f}{random:>12.1f}{whole / even:>7.2f}{whole / random:>8.2f}")


@torch.inference_mode()
def _milliseconds(width: int, rate: float, rounds: int) -> list[float]:
    """Of a walk: whole, evenly pruned, pruned at random."""
    torch.manual_seed(0)
    network = ActionTransformer(ActionTransformerConfig(state_dim=STATE_DIM, cameras=0, width=width)).eval()
    sampler = SequenceSampler(network, NoiseSchedule(ScheduleConfig()), 0.0, 0.5, "cpu")
    units = sampler.units(DDPM)
    masks = [None, evenly_computed(units, rate), random_schedule(units, rate, torch.Generator().manual_seed(0))]
    condition = network.encode(ActionInputs(torch.randn(1, 2, STATE_DIM)))
    seconds: list[list[float]] = [[] for _ in masks]
    for seed in tqdm(range(rounds + 1), desc=f"width {width}", leave=False):
        for mask, kept in zip(masks, seconds, strict=True):
            started = time.process_time()
            sampler.sequences(condition, 1, seed, Walk(DDPM, mask))
            kept.append(time.process_time() - started)
    return [1e3 * statistics.median(kept[1:]) for kept in seconds]


if __name__ == "__main__":
    main()
