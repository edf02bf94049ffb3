"""`minidiffuser train`: a policy from demonstrations."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "Train a policy. Ctrl-C saves and stops; the same command goes on from there."
EPILOG = """examples:
  minidiffuser train data/tabletop_small --out models/tabletop_small
  minidiffuser train data/tabletop_small --out runs/quick --steps 300 --device cuda"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the subcommand."""
    parser.add_argument("data", type=Path, help="folder made by `minidiffuser demos`")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint folder")
    parser.add_argument("--steps", type=int, default=2000, help="optimiser steps (default: 2000)")
    parser.add_argument("--batch-size", type=int, default=32, help="B, observations a step (default: 32)")
    parser.add_argument("--num-samples", type=int, default=64, help="M, noised targets an observation (default: 64)")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="peak of the cosine (default: 2e-3)")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, batches and noise (default: 0)")
    parser.add_argument("--threads", type=int, default=2, help="torch threads (default: 2)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")


def run(args: argparse.Namespace) -> int:
    """Train or go on training; returns 0."""
    from dataclasses import asdict

    import torch
    from tqdm import tqdm

    from minidiffuser_ros.contract.errors import ConfigurationError
    from minidiffuser_ros.policy.checkpoint import PolicyConfig
    from minidiffuser_ros.training.dataset import load_split
    from minidiffuser_ros.training.loop import Trainer, TrainingConfig, train

    if args.device.split(":")[0] not in ("cpu", "cuda") or (args.device != "cpu" and not torch.cuda.is_available()):
        raise ConfigurationError(f"--device '{args.device}' is not available here: use cpu, or cuda where there is one")
    torch.set_num_threads(args.threads)
    config = TrainingConfig(
        steps=args.steps, batch_size=args.batch_size, num_samples=args.num_samples, seed=args.seed,
        learning_rate=args.learning_rate, threads=args.threads,
    )  # fmt: skip
    training, held_out = load_split(args.data, PolicyConfig().model.rotation_bins)
    trainer = Trainer(
        config, PolicyConfig(spec=training.spec, instructions=tuple(training.instructions())), training, args.device
    )
    if (args.out / "resume.pt").exists():
        trainer.resume(args.out)
    with tqdm(total=config.steps, initial=trainer.step_number, unit="step") as bar:

        def on_step(step: int, losses: dict[str, float]) -> None:
            bar.update()
            bar.set_postfix({name: f"{value:.3f}" for name, value in losses.items()})
            if step % 100 == 0:
                tqdm.write(f"step {step}: " + ", ".join(f"{name} {value:.4f}" for name, value in losses.items()))

        train(trainer, args.out, on_step)
    from minidiffuser_ros.training.metrics import keypose_errors

    errors = keypose_errors(args.out, held_out)
    trainer.write_record(args.out, held_out=asdict(errors))
    print(errors)
    return 0
