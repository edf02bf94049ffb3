"""`minidiffuser train`: a policy from demonstrations."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minidiffuser_ros.training.dataset import DemonstrationSet
    from minidiffuser_ros.training.loop import Trainer
    from minidiffuser_ros.training.processes import Processes

HELP = """Train a policy. Whatever ends it, the same command goes on: after Ctrl-C where it stopped, after a kill
from the last state saved; on the CPU bit for bit as if nothing had happened."""
EPILOG = """A finished run goes on with a larger --steps; the rate then follows the cosine of the longer run, from where
it stands. --learning-rate may change as well; with another batch size, M, seed, loss, schedule, network or start the
run is refused. Held-out figures are those of the averaged weights; curves for TensorBoard are under OUT/log.

examples:
  minidiffuser train data/tabletop_small --out runs/tabletop_small
  minidiffuser train data/tabletop_small --out runs/quick --steps 300 --device cuda
  minidiffuser train data/tabletop_small --out runs/flow --schedule flow_matching
  minidiffuser train data/mine --out runs/mine --from models/tabletop_small --steps 300
  torchrun --nproc-per-node 2 -m minidiffuser_ros.cli.main train data/tabletop_small --out runs/two"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the subcommand."""
    parser.add_argument("data", type=Path, help="folder made by `minidiffuser demos`, or a cache")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint folder")
    parser.add_argument("--steps", type=int, default=2000, help="optimiser steps (default: 2000)")
    parser.add_argument("--batch-size", type=int, default=32, help="B, observations a step (default: 32)")
    parser.add_argument("--num-samples", type=int, default=64, help="M, noised targets an observation (default: 64)")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="peak of the cosine (default: 2e-3)")
    parser.add_argument(
        "--network", default="mini_diffuser_small",
        help="mini_diffuser_small, which two cores train; mini_diffuser_base, the published size for a GPU; or "
        "diffuser_actor, which diffuses position and rotation together",
    )  # fmt: skip
    parser.add_argument(
        "--schedule",
        help="of the noise: squaredcos_cap_v2, scaled_linear, or flow_matching, whose path is straight; the network "
        "predicts the original with each (default: the network's own)",
    )
    parser.add_argument(
        "--from", dest="start", metavar="POLICY",
        help="begin with the weights of this checkpoint, such as a shipped one, instead of random ones",
    )  # fmt: skip
    parser.add_argument("--history", action="store_true", help="show the network the tool one keypose earlier")
    parser.add_argument("--experts", type=int, default=0, help="MLPs between which the noise level chooses (0: one)")
    parser.add_argument("--loss", default="l1", help="l1 or l2, of what is diffused (default: l1)")
    parser.add_argument("--validate-every", type=int, default=500, help="steps between held-out figures (default: 500)")
    parser.add_argument("--validation-steps", type=int, default=128, help="keyposes they look at (default: 128)")
    parser.add_argument("--checkpoint-every", type=int, default=200, help="steps between saved states (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, batches and noise (default: 0)")
    parser.add_argument(
        "--threads",
        type=int,
        default=1,
        help="torch threads of each process, more where the machine is idle (default: 1)",
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")


def run(args: argparse.Namespace) -> int:
    """Train or go on training; returns 0."""
    import torch

    from minidiffuser_ros.contract.errors import ConfigurationError
    from minidiffuser_ros.training.processes import join_processes

    if args.device.split(":")[0] not in ("cpu", "cuda") or (args.device != "cpu" and not torch.cuda.is_available()):
        raise ConfigurationError(f"--device '{args.device}' is not available here: use cpu, or cuda where there is one")
    processes = join_processes(args.device)
    _train(args, processes)
    processes.close()
    return 0


def _train(args: argparse.Namespace, processes: Processes) -> None:
    """The run of one process."""
    from dataclasses import replace

    import torch

    from minidiffuser_ros.contract.errors import ConfigurationError
    from minidiffuser_ros.contract.files import make_folder
    from minidiffuser_ros.diffusion.schedule import ScheduleConfig
    from minidiffuser_ros.model.config import named_config
    from minidiffuser_ros.policy.checkpoint import WEIGHTS, new_policy
    from minidiffuser_ros.training.config import TrainingConfig, with_actor_weights
    from minidiffuser_ros.training.dataset import load_split
    from minidiffuser_ros.training.loop import Trainer, train
    from minidiffuser_ros.training.state import STATE

    config = TrainingConfig(
        steps=args.steps, batch_size=args.batch_size, num_samples=args.num_samples, seed=args.seed,
        learning_rate=args.learning_rate, threads=args.threads, loss=args.loss, validate_every=args.validate_every,
        validation_steps=args.validation_steps, checkpoint_every=args.checkpoint_every, start=args.start,
    )  # fmt: skip
    make_folder(args.out)
    torch.set_num_threads(config.threads)
    model = replace(named_config(args.network), num_experts=args.experts, history=args.history)
    if model.rotation == "diffused":
        config = with_actor_weights(config)
    training, held_out = load_split(args.data, model.rotation_bins)
    schedule = ScheduleConfig(beta_schedule=args.schedule) if args.schedule else None
    policy = new_policy(model, training.spec, tuple(training.instructions()), schedule)
    trainer = Trainer(config, policy, training, processes)
    if (args.out / STATE).exists():
        trainer.resume(args.out)
    elif (args.out / WEIGHTS).exists():
        raise ConfigurationError(f"{args.out} holds a policy and nothing to go on from: name another folder with --out")
    if processes.writes:
        _train_and_show(trainer, held_out, args.out)
    else:
        train(trainer, args.out)


def _train_and_show(trainer: Trainer, held_out: DemonstrationSet, out: Path) -> None:
    """Bar, lines and curves of the first process."""
    from tqdm import tqdm

    from minidiffuser_ros.training.loop import Watch, train
    from minidiffuser_ros.training.metrics import HeldOutMetrics, Validation
    from minidiffuser_ros.training.scalars import HINT, Scalars

    scalars = Scalars(out, trainer.step_number + 1)
    if not scalars.available:
        print(HINT)
    validation = Validation(trainer.policy, held_out, trainer.config.validation_steps, str(trainer.device))
    with tqdm(total=trainer.config.steps, initial=trainer.step_number, unit="step") as bar:

        def on_step(step: int, losses: dict[str, float], learning_rate: float) -> None:
            bar.update()
            bar.set_postfix({name: f"{value:.3f}" for name, value in losses.items()})
            scalars.losses(step, losses, learning_rate)
            if step % 100 == 0:
                tqdm.write(f"step {step}: " + ", ".join(f"{name} {value:.4f}" for name, value in losses.items()))

        def on_validation(step: int, metrics: HeldOutMetrics) -> None:
            scalars.held_out(step, metrics)
            tqdm.write(f"step {step}: {metrics}")

        try:
            train(trainer, out, validation, Watch(on_step, on_validation))
        finally:
            scalars.close()
