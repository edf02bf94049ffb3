"""`minidiffuser train-actions`: a policy over action sequences from episodes of states and actions."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minidiffuser_ros.training.action_loop import ActionTrainer
    from minidiffuser_ros.training.sequence_data import SequenceSet

HELP = """Train a policy over action sequences (Diffusion Policy). Whatever ends it, the same command goes on: after
Ctrl-C where it stopped, after a kill from the last state saved."""
EPILOG = """DATA holds files episode_NNNNN.npz with arrays `states` [N, S] and `actions` [N, A]. The held-out loss is
that of the averaged weights on every tenth episode, which is not learned from. A finished run goes on with a larger
--steps, and any run with more episodes: what was measured of the first ones stays the scale of states and actions.

examples:
  minidiffuser train-actions data/push_t --features push_t --out runs/push_t --width 64 --horizon 10 \\
    --state-mlp 256 256 256 --prediction sample --learning-rate 1.5e-3 --steps 23000
  minidiffuser train-actions data/mine --network action_unet_small --out runs/mine"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the subcommand."""
    parser.add_argument("data", type=Path, help="folder of episodes")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint folder")
    parser.add_argument(
        "--features", default="none",
        help="what the policy sees of a state and the frame of its actions: none (both as recorded) or push_t "
        "(default: none)",
    )  # fmt: skip
    parser.add_argument(
        "--network", default="action_transformer_small",
        help="action_transformer_small, which a core trains; action_transformer, the published size; or "
        "action_unet_small, action_unet (default: action_transformer_small)",
    )  # fmt: skip
    parser.add_argument("--width", type=int, help="of a transformer, instead of that of --network")
    parser.add_argument("--horizon", type=int, help="actions of a sequence, instead of that of --network")
    parser.add_argument("--state-mlp", type=int, nargs="+", help="widths of layers that see the states (default: none)")
    parser.add_argument("--prediction", default="epsilon", help="epsilon, sample or v_prediction (default: epsilon)")
    parser.add_argument("--steps", type=int, default=10_000, help="optimiser steps (default: 10000)")
    parser.add_argument("--batch-size", type=int, default=64, help="B, observations a step (default: 64)")
    parser.add_argument("--num-samples", type=int, default=1, help="M, noised sequences an observation (default: 1)")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="peak of the cosine (default: 1e-3)")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, batches and noise (default: 0)")
    parser.add_argument("--threads", type=int, default=1, help="threads, more where the machine is idle (default: 1)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")


def run(args: argparse.Namespace) -> int:
    """Train or go on training; returns 0."""
    import torch

    from minidiffuser_ros.contract.errors import ConfigurationError
    from minidiffuser_ros.contract.files import make_folder
    from minidiffuser_ros.policy.action_sequence import ActionSequencePolicy
    from minidiffuser_ros.policy.checkpoint import WEIGHTS
    from minidiffuser_ros.training.action_loop import ActionTrainer, ActionTrainingConfig
    from minidiffuser_ros.training.sequence_data import SequenceSet, load_sequences, split_sequences
    from minidiffuser_ros.training.sequence_policy import new_sequence_policy, with_ranges_of
    from minidiffuser_ros.training.state import STATE

    torch.set_num_threads(args.threads)
    config = ActionTrainingConfig(
        steps=args.steps, batch_size=args.batch_size, num_samples=args.num_samples,
        learning_rate=args.learning_rate, seed=args.seed,
    )  # fmt: skip
    training, held_out = split_sequences(load_sequences(args.data))
    policy = new_sequence_policy(
        training, args.network, args.prediction, args.features, width=args.width, horizon=args.horizon,
        state_mlp=args.state_mlp and tuple(args.state_mlp),
    )  # fmt: skip
    make_folder(args.out)
    if goes_on := (args.out / STATE).exists():
        policy = with_ranges_of(policy, ActionSequencePolicy.load(args.out).config)
    trainer = ActionTrainer(config, policy, SequenceSet(training, policy), args.device)
    if goes_on:
        trainer.resume(args.out)
    elif (args.out / WEIGHTS).exists():
        raise ConfigurationError(f"{args.out} holds a policy and nothing to go on from: name another folder with --out")
    _train_and_show(trainer, SequenceSet(held_out, policy), args.out)
    return 0


def _train_and_show(trainer: ActionTrainer, held_out: SequenceSet, out: Path) -> None:
    from tqdm import tqdm

    from minidiffuser_ros.training.action_loop import train_actions

    with tqdm(total=trainer.config.steps, initial=trainer.step_number, unit="step", mininterval=1.0) as bar:

        def on_step(loss: float) -> None:
            bar.update()
            bar.set_postfix({"loss": f"{loss:.4f}"}, refresh=False)

        def on_held_out(loss: float) -> None:
            tqdm.write(f"step {trainer.step_number}: held-out loss {loss:.4f}")

        train_actions(trainer, out, held_out, on_step, on_held_out)
