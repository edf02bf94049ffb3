"""What M brings to a network over action sequences: the made-up task of `around_obstacle`, learned side by side.

    python benchmarks/action_unet_curves.py
    python benchmarks/action_unet_curves.py --image-size 24 --json out/curves.json --plot out/curves.png

A run is M:STEPS, optionally M:STEPS:PREDICTION; all see the same 512 demonstrations in batches of B, with the same
learning rate. `success`: the share of sampled sequences, in scenes that were not learned from, that reach the goal
without touching the obstacle; `both`: the share of scenes in which the samples pass on both sides. With --image-size
the goal is shown in an image only. Seconds are of training alone, and of the processor: what runs beside does not
count.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from around_obstacle import Scenes, Verdict, draw_scenes, expert_paths, judge
from tqdm import tqdm

from minidiffuser_ros.contract.files import replace_file
from minidiffuser_ros.diffusion.sampler import SamplerConfig
from minidiffuser_ros.diffusion.schedule import PredictionType, ScheduleConfig
from minidiffuser_ros.model.action_condition import ActionInputs
from minidiffuser_ros.model.action_config import ActionUNetConfig
from minidiffuser_ros.model.action_unet import ActionUNet
from minidiffuser_ros.policy.action_sequence import (
    ActionObservation,
    ActionPolicyConfig,
    ActionSequencePolicy,
    ValueRange,
)
from minidiffuser_ros.training.action_sequences import action_sequence_loss

HORIZON = 8
WARMUP = 0.1  # of the steps; then the learning rate falls along a cosine


@dataclass(frozen=True)
class Run:
    """One training. image_size 0: everything is told by the state."""

    num_samples: int
    steps: int
    prediction_type: PredictionType = "sample"
    batch_size: int = 16
    learning_rate: float = 2e-3
    image_size: int = 0
    demonstrations: int = 512
    inference_steps: int = SamplerConfig.num_inference_steps
    seed: int = 0


class Learner:
    """A policy that learns the task; `step` is one optimiser step."""

    def __init__(self, run: Run) -> None:
        self.run = run
        rng = np.random.default_rng(run.seed)
        torch.manual_seed(run.seed)
        scenes = draw_scenes(rng, run.demonstrations)
        paths = expert_paths(scenes, HORIZON, rng)
        states = scenes.states(with_goal=not run.image_size)
        size = run.image_size or 24  # of no matter without a camera
        model = ActionUNetConfig(
            horizon=HORIZON, obs_steps=1, state_dim=states.shape[1], cameras=int(run.image_size > 0),
            image_size=(size, size), image_channels=(16, 32), image_blocks=1, image_stride=2 if size >= 48 else 1,
            keypoints=16, camera_features=32, channels=(32, 64), step_width=64,
        )  # fmt: skip
        config = ActionPolicyConfig(
            model, ValueRange.of(paths), ValueRange.of(states), ScheduleConfig(prediction_type=run.prediction_type),
            SamplerConfig(num_inference_steps=run.inference_steps, clip_sample=1.0),
        )  # fmt: skip
        self.policy = ActionSequencePolicy(config, ActionUNet(model))
        self.states = config.states.normalise(torch.from_numpy(states)).float().unsqueeze(1)
        self.images = torch.from_numpy(scenes.images(run.image_size))[:, None, None] if run.image_size else None
        self.actions = config.actions.normalise(torch.from_numpy(paths)).float()
        self.optimizer = torch.optim.AdamW(self.policy.network.parameters(), run.learning_rate, weight_decay=1e-4)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, run.learning_rate, total_steps=run.steps, pct_start=WARMUP
        )
        self.generator = torch.Generator().manual_seed(run.seed)

    def step(self) -> float:
        """The loss before the step."""
        network = self.policy.network.train()
        rows = torch.randint(len(self.actions), (self.run.batch_size,), generator=self.generator)
        inputs = ActionInputs(self.states[rows], None if self.images is None else self.images[rows])
        loss = action_sequence_loss(
            network, self.policy.schedule, inputs, self.actions[rows], self.run.num_samples, self.generator
        )
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        return loss.item()


def sampled_paths(policy: ActionSequencePolicy, scenes: Scenes, count: int, image_size: int = 0) -> np.ndarray:
    """Paths [n, count, T, 2] that a policy draws in every scene."""
    states = scenes.states(with_goal=not image_size)[:, None]
    images = scenes.images(image_size)[:, None, None] if image_size else [None] * len(states)
    observations = [ActionObservation(state, image) for state, image in zip(states, images, strict=True)]
    return np.stack([policy.sample(observation, count, seed) for seed, observation in enumerate(observations)])


def both_sides(verdict: Verdict) -> float:
    """The share of scenes in which some paths pass left and some right."""
    return float((verdict.left.any(1) & ~verdict.left.all(1)).mean())


def main() -> None:
    """Learn, print, write."""
    args = _arguments()
    torch.set_num_threads(args.threads)
    curves = {name: _curve(_run(name, args), args) for name in args.runs}
    print(f"{'run':<16}{'steps':>7}{'seconds':>9}{'success':>9}{'touches':>9}{'both':>7}")
    for name, curve in curves.items():
        for row in curve:
            print(
                f"{name:<16}{row['step']:>7.0f}{row['seconds']:>9.1f}{row['success']:>9.1%}{row['touches']:>9.1%}"
                f"{row['both']:>7.0%}"
            )
    if args.json:
        text = json.dumps([{"run": asdict(_run(n, args)), "curve": c} for n, c in curves.items()], indent=2) + "\n"
        replace_file(args.json, lambda path: path.write_text(text))
    if args.plot:
        _plot(curves, args.plot)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", nargs="+", default=["1:300", "64:300", "1:2400"], metavar="M:STEPS[:PREDICTION]")
    parser.add_argument("--batch", type=int, default=16, help="B")
    parser.add_argument("--image-size", type=int, default=0, help="pixels; 0: no image")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--points", type=int, default=6, help="of each curve")
    parser.add_argument("--scenes", type=int, default=50, help="held out")
    parser.add_argument("--samples", type=int, default=8, help="sequences drawn in each")
    parser.add_argument("--inference-steps", type=int, default=SamplerConfig.num_inference_steps)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    return parser.parse_args()


def _run(name: str, args: argparse.Namespace) -> Run:
    samples, steps, prediction = (*name.split(":"), "sample")[:3]
    return Run(
        int(samples), int(steps), prediction, args.batch, args.learning_rate, args.image_size,  # type: ignore[arg-type]
        inference_steps=args.inference_steps, seed=args.seed,
    )  # fmt: skip


def _curve(run: Run, args: argparse.Namespace) -> list[dict[str, float]]:
    """Rows of step, seconds, success, touches, both."""
    learner, seconds, rows = Learner(run), 0.0, []
    held_out = draw_scenes(np.random.default_rng(10**6 + run.seed), args.scenes)
    every = max(1, run.steps // args.points)
    for step in tqdm(range(1, run.steps + 1), desc=f"M={run.num_samples}", leave=False):
        started = time.process_time()
        learner.step()
        seconds += time.process_time() - started
        if step % every == 0:
            verdict = judge(held_out, sampled_paths(learner.policy, held_out, args.samples, run.image_size))
            shares = {"success": float(verdict.success.mean()), "touches": float(verdict.touches.mean())}
            rows.append({"step": step, "seconds": seconds, **shares, "both": both_sides(verdict)})
    return rows


def _plot(curves: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Success over steps and over seconds."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), sharey=True, constrained_layout=True)
    for axis, key in zip(axes, ("step", "seconds"), strict=True):
        for name, curve in curves.items():
            axis.plot([row[key] for row in curve], [row["success"] for row in curve], "o-", label=f"M:steps {name}")
        axis.set(xscale="log", xlabel=key, ylabel="success", ylim=(0, 1))
    axes[0].legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
