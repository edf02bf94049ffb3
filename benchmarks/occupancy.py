"""How many of the 27 cells around a voxel and around a noised sample are occupied, level by level.

    minidiffuser demos --out data/tabletop_small --per-task 800
    python benchmarks/occupancy.py data/tabletop_small
    python benchmarks/occupancy.py data/tabletop_small --batch 256

The cells are those of mini_diffuser_small, the clouds and samples those of one training step of B observations with M
noised positions each: augmented, every timestep equally likely. `voxel`: mean number of cells, its own included;
`sample`: mean share of the 27. With few observations the share at the finest level differs much between seeds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from minidiffuser_ros.model.config import MiniDiffuserConfig, named_config
from minidiffuser_ros.model.sparse_conv import CellPairs
from minidiffuser_ros.model.voxels import build_levels
from minidiffuser_ros.policy.checkpoint import PolicyConfig
from minidiffuser_ros.policy.inputs import PositionScale
from minidiffuser_ros.training.config import TrainingConfig
from minidiffuser_ros.training.dataset import load_split
from minidiffuser_ros.training.two_level import TwoLevelBatch, TwoLevelSampler

NETWORK = "mini_diffuser_small"
CELLS = 27


def main() -> None:
    """Draw a batch, count, print."""
    args = _arguments()
    config = named_config(NETWORK)
    data, _ = load_split(args.data, config.rotation_bins)
    policy = PolicyConfig(spec=data.spec, model=config)
    training = TrainingConfig(batch_size=args.batch, num_samples=args.samples, seed=args.seed)
    scale = PositionScale(policy.spec)
    batch = TwoLevelSampler(data, policy.noise_schedule(), scale, training).batch(0)
    print(f"{'cell':>8}{'voxels':>8}{'voxel':>8}{'sample':>9}")
    for size, voxels, around_voxel, around_sample in _occupancy(config, batch, scale):
        print(f"{100 * size:>5.1f} cm{voxels:>8}{around_voxel:>8.1f}{around_sample / CELLS:>9.2%}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--batch", type=int, default=16, help="B")
    parser.add_argument("--samples", type=int, default=64, help="M")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def _occupancy(
    config: MiniDiffuserConfig, batch: TwoLevelBatch, scale: PositionScale
) -> list[tuple[float, int, float, float]]:
    """Of each level its cell's edge in metres, its voxels, and the mean number of cells around these and a sample."""
    inputs = batch.observed.inputs
    positions = scale.metric(batch.noised.noisy)
    clouds, samples = positions.shape[:2]
    orders = config.serialized_orders[:1] * len(config.encoder_channels)  # which cells are occupied is the same in any
    levels = build_levels(config.grid_size, orders, inputs.batch, inputs.points, clouds)
    cloud = torch.arange(clouds).repeat_interleave(samples)
    return [
        (
            level.size, len(level.keys), _mean_count(level.neighbours),
            _mean_count(level.around(cloud, positions.flatten(0, 1))),
        )
        for level in levels
    ]  # fmt: skip


def _mean_count(pairs: CellPairs) -> float:
    """Occupied cells around a place."""
    return sum(pairs.counts) / pairs.num_places


if __name__ == "__main__":
    main()
