"""`minidiffuser prune`: a pruner for a trained policy (Sparse ActionGen)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minidiffuser_ros.policy.policy import Policy
    from minidiffuser_ros.training.dataset import DemonstrationSet
    from minidiffuser_ros.training.pruning import PrunerTrainer

HELP = """Train a pruner for a policy: from an observation it says which parts of the denoiser to compute at which step,
and which to reuse. The policy stays as it is; beside it are written the pruner and what is usual of its answers, so
that unusual ones are doubted. A stopped run goes on where it was."""
EPILOG = """examples:
  minidiffuser prune runs/tabletop_small --data data/tabletop_small
  minidiffuser prune runs/tabletop_small --data data/tabletop_small --rate 0.8 --sampler ddim --sampler-steps 10
  minidiffuser prune runs/tabletop_small --data data/tabletop_small --calibrate-only
  minidiffuser prune runs/push_t --data data/push_t --own-buffers"""
SAVE_EVERY = 25


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the subcommand."""
    parser.add_argument("checkpoint", type=Path, help="folder of the trained policy")
    parser.add_argument(
        "--data", type=Path, required=True, help="demonstrations or cache that the policy was trained on"
    )
    parser.add_argument("--rate", type=float, default=0.91, help="share of the units to be reused (default: 0.91)")
    parser.add_argument("--sampler", default="ddpm", help="walk that is pruned, ddpm or ddim (default: ddpm)")
    parser.add_argument("--sampler-steps", type=int, default=100, help="its steps (default: 100)")
    parser.add_argument("--steps", type=int, default=300, help="steps of the training (default: 300)")
    parser.add_argument("--batch-size", type=int, default=32, help="observations a step (default: 32)")
    parser.add_argument("--learning-rate", type=float, default=3e-4, help="peak of the cosine (default: 3e-4)")
    parser.add_argument("--fraction", type=float, default=0.05, help="of the data that is looked at (default: 0.05)")
    parser.add_argument("--own-buffers", action="store_true", help="a buffer for each branch instead of each kind")
    parser.add_argument("--rate-per-branch", action="store_true", help="the rate holds for each branch by itself")
    parser.add_argument(
        "--calibrate-only", action="store_true",
        help="train nothing, only measure what is usual of the answers of the pruner that is there, or of the policy",
    )  # fmt: skip
    parser.add_argument(
        "--teacher", default="expert",
        help="whose actions are right: expert, or policy for its own whole walk from the same noise (default: expert)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="seed of samples and noise (default: 0)")
    parser.add_argument("--threads", type=int, default=1, help="threads, more where the machine is idle (default: 1)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")


def run(args: argparse.Namespace) -> int:
    """Train or go on training; returns 0."""
    from dataclasses import replace

    import torch

    from minidiffuser_ros.contract.errors import ConfigurationError
    from minidiffuser_ros.diffusion.sampler import SamplerConfig
    from minidiffuser_ros.policy.policy import Policy
    from minidiffuser_ros.policy.pruned import PRUNER, fingerprint, load_any_policy
    from minidiffuser_ros.training.any_demonstrations import split_data_of
    from minidiffuser_ros.training.dataset import DemonstrationSet
    from minidiffuser_ros.training.pruning import PrunerTrainer, PruningConfig
    from minidiffuser_ros.training.state import STATE

    torch.set_num_threads(args.threads)
    config = PruningConfig(
        rate=args.rate, steps=args.steps, batch_size=args.batch_size, learning_rate=args.learning_rate,
        fraction=args.fraction, shared=not args.own_buffers, per_branch=args.rate_per_branch,
        teacher=args.teacher, seed=args.seed,
        sampler=SamplerConfig(args.sampler, args.sampler_steps),
    )  # fmt: skip
    policy = load_any_policy(args.checkpoint, args.device)
    config = replace(config, sampler=replace(config.sampler, clip_sample=policy.config.sampler.clip_sample))
    if args.calibrate_only and not isinstance(policy, Policy):
        raise ConfigurationError(
            f"{args.checkpoint} is a policy over action sequences, and --calibrate-only is for one over keyposes: "
            "leave it out"
        )
    training, held_out = split_data_of(policy, args.data)
    if not args.calibrate_only:
        folder = args.checkpoint / PRUNER
        trainer = PrunerTrainer(config, policy, training, folder if (folder / STATE).exists() else None)
        _train(trainer, folder)
        trainer.trained(fingerprint(args.checkpoint)).save(args.checkpoint)
        trainer.write_record(folder)
        print(f"wrote {folder}, trained on {len(trainer.indices)} observations")
    if isinstance(policy, Policy) and isinstance(training, DemonstrationSet) and isinstance(held_out, DemonstrationSet):
        _calibrate(args, policy, training, held_out)
    return 0


def _train(trainer: PrunerTrainer, folder: Path) -> None:
    """To the last step; saved now and then, at the end, and when interrupted."""
    from tqdm import tqdm

    folder.mkdir(parents=True, exist_ok=True)
    total = trainer.config.steps
    try:
        with tqdm(total=total, initial=trainer.step_number, unit="step") as bar:
            while trainer.step_number < total:
                bar.set_postfix({name: f"{value:.3f}" for name, value in trainer.step().items()})
                bar.update()
                if trainer.step_number % SAVE_EVERY == 0:
                    trainer.save_state(folder)
    finally:
        trainer.save_state(folder)


def _calibrate(
    args: argparse.Namespace, policy: Policy, training: DemonstrationSet, held_out: DemonstrationSet
) -> None:
    """Beside the policy, what is usual of its pruned answers; of its own ones where there is no pruner."""
    from tqdm import tqdm

    from minidiffuser_ros.diffusion.sampler import SamplerConfig
    from minidiffuser_ros.policy.pruned import PRUNER, PrunedWalks, fingerprint
    from minidiffuser_ros.policy.trust import TRUST
    from minidiffuser_ros.training.trust import CalibrationConfig, calibrate

    if (args.checkpoint / PRUNER).exists():
        policy.plan = PrunedWalks.load(args.checkpoint, policy).walk
    config, fallback = CalibrationConfig(seed=args.seed), SamplerConfig("ddim", 10)
    trust = calibrate(config, policy, training, held_out, fingerprint(args.checkpoint), fallback, tqdm)
    trust.save(args.checkpoint)
    c = trust.config
    print(
        f"wrote {args.checkpoint / TRUST}: doubted beyond a correction of {1e3 * c.correction:.2g} mm, "
        f"a scatter of {1e3 * c.scatter:.2g} mm, a novelty of {c.novelty:.2g}"
    )
