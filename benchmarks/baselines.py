"""Is the policy worth it? The same demonstrations and the same budget for what could be used instead, then one table.

    minidiffuser demos --out data/all --all --per-task 100 --points 1024
    python benchmarks/baselines.py data/all --out out/baselines --minutes 150 --plot out/baselines.png

`minutes` are minutes of computing (CPU time of the process on a CPU, wall time elsewhere): what else runs on the
machine takes nothing from anybody. How many steps they buy is measured first, all variants side by side. A run that was
stopped goes on; what is finished is kept: OUT/<variant>/ has the policy, curve.json its held-out figures over steps and
minutes, rollouts.jsonl every episode.

    mini_diffuser      the policy: B observations, M = 64 noised positions of each
    m1                 M = 1, one noised position of each
    no_rope            without the rotary embedding of places
    diffuser_actor     3D Diffuser Actor's choices: position and rotation denoised together
    regression         the same network without diffusion: one answer, behaviour cloning
    nearest_neighbour  the keypose of the most similar demonstrated moment (benchmarks/nearest_neighbour.py)
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from nearest_neighbour import NearestNeighbour
from tqdm import tqdm

from minidiffuser_ros.contract.files import replace_file
from minidiffuser_ros.diffusion.sampler import SamplerConfig
from minidiffuser_ros.diffusion.schedule import ScheduleConfig
from minidiffuser_ros.episodes.demonstration import load_demonstration
from minidiffuser_ros.evaluation.rollout import Decides, Rollout, Scene, roll_out
from minidiffuser_ros.evaluation.statistics import wilson_interval
from minidiffuser_ros.model.config import MiniDiffuserConfig, named_config
from minidiffuser_ros.policy.checkpoint import PolicyConfig, new_policy
from minidiffuser_ros.policy.policy import Policy
from minidiffuser_ros.simulation.tabletop import shared_world
from minidiffuser_ros.training.config import TrainingConfig, with_actor_weights
from minidiffuser_ros.training.dataset import DemonstrationSet, load_split
from minidiffuser_ros.training.loop import Trainer, Watch, train
from minidiffuser_ros.training.metrics import HeldOutMetrics, Validation
from minidiffuser_ros.training.processes import Processes
from minidiffuser_ros.training.state import STATE

NEAREST = "nearest_neighbour"
BASIC = MiniDiffuserConfig()
FLOW = ScheduleConfig(beta_schedule="flow_matching")  # what the shipped policy is trained with
TIMED_STEPS = 3
TIMED_ROUNDS = 3


@dataclass(frozen=True)
class Variant:
    """What differs from the policy: its network, its schedule (None: the network's own), and M."""

    model: MiniDiffuserConfig = field(default_factory=MiniDiffuserConfig)
    schedule: ScheduleConfig | None = FLOW
    num_samples: int = 64
    regression: bool = False

    def policy(self, data: DemonstrationSet) -> PolicyConfig:
        """An untrained policy of this kind."""
        policy = new_policy(self.model, data.spec, tuple(data.instructions()), self.schedule)
        if not self.regression:
            return policy
        schedule = ScheduleConfig(num_train_timesteps=2, beta_schedule="regression")
        return replace(policy, schedule=schedule, sampler=SamplerConfig(num_inference_steps=1), num_candidates=1)

    def training(self, basic: TrainingConfig) -> TrainingConfig:
        """How it is trained: as all of them, but for M and the weights of its losses."""
        config = replace(basic, num_samples=self.num_samples)
        return with_actor_weights(config) if self.model.rotation == "diffused" else config


VARIANTS = {
    "mini_diffuser": Variant(),
    "m1": Variant(num_samples=1),
    "no_rope": Variant(model=replace(BASIC, rope=False)),
    "diffuser_actor": Variant(model=named_config("diffuser_actor"), schedule=None),
    "regression": Variant(num_samples=1, regression=True),
}


def main() -> None:
    """Time, train what is missing, play what is missing, print."""
    args = _arguments()
    torch.set_num_threads(args.threads)
    steps = _affordable(args)
    for name in args.variants:
        if name != NEAREST:
            _train(name, steps[name], args)
    rollouts = {name: _play(name, args) for name in args.variants}
    _print(rollouts, args)
    if args.json:
        rows = [asdict(rollout) | {"variant": name} for name, played in rollouts.items() for rollout in played]
        replace_file(args.json, lambda path: path.write_text(json.dumps(rows, indent=2) + "\n"))
    if args.plot:
        _plot(args)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=150.0, help="of computing, for each (default: 150)")
    parser.add_argument("--variants", nargs="+", choices=[*VARIANTS, NEAREST], default=[*VARIANTS, NEAREST])
    parser.add_argument("--batch", type=int, default=TrainingConfig.batch_size, help="B of every run")
    parser.add_argument("--learning-rates", nargs="*", default=[], metavar="VARIANT:RATE", help="as in m1:1e-3")
    parser.add_argument("--every", type=int, default=250, help="steps between two points of a curve")
    parser.add_argument("--validation-steps", type=int, default=150)
    parser.add_argument("--episodes", type=int, default=20, help="of each task (default: 20)")
    parser.add_argument("--seed", type=int, default=200_000, help="of the first scene of each task")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="where to write every episode")
    parser.add_argument("--plot", type=Path, help="where to draw the held-out figures over time")
    return parser.parse_args()


def _clock(device: str) -> Callable[[], float]:
    return time.process_time if device == "cpu" else time.perf_counter


def _trainer(name: str, steps: int, data: DemonstrationSet, args: argparse.Namespace) -> Trainer:
    rates = dict(pair.split(":") for pair in args.learning_rates)
    basic = TrainingConfig(
        steps=steps, batch_size=args.batch, threads=args.threads, validate_every=args.every,
        checkpoint_every=max(1, args.every // 5), validation_steps=args.validation_steps,
        warmup_steps=min(TrainingConfig.warmup_steps, max(1, steps // 10)),
        learning_rate=float(rates.get(name, TrainingConfig.learning_rate)),
    )  # fmt: skip
    variant = VARIANTS[name]
    return Trainer(variant.training(basic), variant.policy(data), data, Processes(args.device))


def _affordable(args: argparse.Namespace) -> dict[str, int]:
    """How many steps of each variant the budget buys; measured once, with all of them in turn, and kept."""
    path = args.out / "steps.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    missing = [name for name in args.variants if name != NEAREST and name not in known]
    if missing:
        data, _ = load_split(args.data, BASIC.rotation_bins)
        trainers = {name: _trainer(name, 1, data, args) for name in missing}
        clock, seconds = _clock(args.device), dict.fromkeys(missing, float("inf"))
        for number in range(TIMED_ROUNDS):
            for name in missing if number % 2 else reversed(missing):
                batches = [trainers[name].batch(step) for step in range(TIMED_STEPS)]
                started = clock()
                for batch in batches:
                    trainers[name].step(batch)
                # The least disturbed round.
                seconds[name] = min(seconds[name], (clock() - started) / TIMED_STEPS)
        known |= {name: round(60.0 * args.minutes / each) for name, each in seconds.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, lambda partial: partial.write_text(json.dumps(known, indent=2) + "\n"))
    return known


def _train(name: str, steps: int, args: argparse.Namespace) -> None:
    """Train one variant to its end and leave its policy and its curve."""
    folder = args.out / name
    path = folder / "curve.json"
    curve = json.loads(path.read_text()) if path.exists() else []
    if curve and curve[-1]["step"] >= steps:
        return
    data, held_out = load_split(args.data, VARIANTS[name].model.rotation_bins)
    trainer = _trainer(name, steps, data, args)
    if (folder / STATE).exists():
        trainer.resume(folder)
    curve = [row for row in curve if row["step"] <= trainer.step_number]
    clock = _clock(args.device)
    # Steps after the last point of the curve cost as much as those before it.
    began, before = clock(), curve[-1]["minutes"] / curve[-1]["step"] * trainer.step_number if curve else 0.0

    def on_validation(step: int, metrics: HeldOutMetrics) -> None:
        shares = {key: getattr(metrics.overall, key) for key in ("within_1cm", "within_2cm", "rotation_within_5deg")}
        curve.append({"step": step, "minutes": before + (clock() - began) / 60.0, **shares})
        replace_file(path, lambda partial: partial.write_text(json.dumps(curve, indent=2) + "\n"))

    with tqdm(total=steps, initial=trainer.step_number, unit="step", desc=name) as bar:
        watch = Watch(lambda step, losses, rate: bar.update() and None, on_validation)
        train(trainer, folder, Validation(trainer.policy, held_out, args.validation_steps, args.device), watch)


def _play(name: str, args: argparse.Namespace) -> list[Rollout]:
    """The same scenes for all; those that were played before are read."""
    folder = args.out / name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "rollouts.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    played = {(r.task, r.seed): r for r in (Rollout(**json.loads(line)) for line in lines if line.endswith("\n"))}
    path.write_text("".join(line for line in lines if line.endswith("\n")))  # less one that was cut off
    scenes = [Scene(task, args.seed + i) for task in _tasks(args.data) for i in range(args.episodes)]
    policy: Decides | None = None
    for scene in tqdm(scenes, unit="episode", desc=name):
        if (scene.task, scene.seed) in played:
            continue
        if policy is None:
            policy = _nearest(args.data) if name == NEAREST else Policy.load(folder, args.device)
        rollout = played[scene.task, scene.seed] = roll_out(shared_world(policy.spec), policy, scene)
        with path.open("a") as file:
            file.write(json.dumps(asdict(rollout)) + "\n")
    return [played[scene.task, scene.seed] for scene in scenes]


def _nearest(data: Path) -> NearestNeighbour:
    return NearestNeighbour([load_demonstration(path) for path in sorted(data.rglob("*.npz"))])


def _tasks(data: Path) -> list[str]:
    return sorted(folder.name for folder in data.iterdir() if folder.is_dir() and any(folder.glob("*.npz")))


def _print(rollouts: dict[str, list[Rollout]], args: argparse.Namespace) -> None:
    """Success over all tasks and task by task, with what the training took."""
    print(f"{'variant':<20}{'steps':>7}{'minutes':>9}{'< 1 cm':>8}{'success':>9}{'95 % interval':>18}")
    for name, played in rollouts.items():
        path = args.out / name / "curve.json"
        last = json.loads(path.read_text())[-1] if path.exists() else {"step": 0, "minutes": 0.0, "within_1cm": 0.0}
        successes = sum(r.success for r in played)
        low, high = wilson_interval(successes, len(played))
        print(
            f"{name:<20}{last['step']:>7}{last['minutes']:>9.1f}{last['within_1cm']:>8.1%}"
            f"{successes / len(played):>9.1%}{f'{low:.1%} - {high:.1%}':>18}"
        )
    print("\n" + f"{'task':<24}" + "".join(f"{name:>19}" for name in rollouts))
    for task in _tasks(args.data):
        shares = [[r.success for r in played if r.task == task] for played in rollouts.values()]
        print(f"{task:<24}" + "".join(f"{sum(share) / len(share):>19.0%}" for share in shares))


def _plot(args: argparse.Namespace) -> None:
    """Held-out figures over the minutes of computing."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4), constrained_layout=True)
    shares = {"within_1cm": "held-out positions within 1 cm", "rotation_within_5deg": "held-out rotations within 5°"}
    for name in args.variants:
        path = args.out / name / "curve.json"
        if not path.exists():
            continue
        curve = json.loads(path.read_text())
        for axis, (key, label) in zip(axes, shares.items(), strict=True):
            axis.plot([row["minutes"] for row in curve], [row[key] for row in curve], label=name)
            axis.set(xlabel="minutes of computing", ylabel=label, ylim=(0, 1))
    axes[0].legend()
    args.plot.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.plot, dpi=120)


if __name__ == "__main__":
    main()
