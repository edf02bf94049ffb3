"""What M and each part of the network bring: held-out precision over steps and over time, trained side by side.

    minidiffuser demos --out data/tabletop_small --per-task 800
    python benchmarks/learning_curves.py data/tabletop_small --out out/curves --plot out/curves.png

Every run trains the same way but for what its name says: `M=1` ... `M=128`, and the switches at M = 64. `M=64, tenth`
ends, with its learning rate, after a tenth of the steps. A run that was stopped goes on; finished ones are kept.
Rows of OUT/<run>/curve.json: step, minutes, within_1cm, rotation_within_5deg.
The learning rate is the same for all unless --learning-rates names one for a run: with M = 1 try several.
--everywhere sets switches of every run; give each such choice an OUT of its own.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from minidiffuser_ros.contract.files import replace_file
from minidiffuser_ros.model.config import MiniDiffuserConfig
from minidiffuser_ros.policy.checkpoint import PolicyConfig
from minidiffuser_ros.training.config import TrainingConfig
from minidiffuser_ros.training.dataset import load_split
from minidiffuser_ros.training.loop import Trainer, Watch, train
from minidiffuser_ros.training.metrics import HeldOutMetrics, Validation
from minidiffuser_ros.training.processes import Processes
from minidiffuser_ros.training.state import STATE

# Without RoPE the attended geometry would still tell where points lie: "no_position" takes both.
SWITCHES = {
    "no_rope": {"rope": False},
    "no_geometry": {"attended_geometry": False},
    "no_position": {"rope": False, "attended_geometry": False},
    "local_query": {"local_query": True},
}
TENTH = "tenth"
METRICS = ("within_1cm", "rotation_within_5deg")


@dataclass(frozen=True)
class Run:
    """One training: what it is called, and how it differs."""

    name: str
    num_samples: int
    switch: str
    seed: int

    @property
    def folder(self) -> str:
        """Unique below --out."""
        return f"{self.name}-seed{self.seed}"


def main() -> None:
    """Train what is missing, print, plot."""
    args = _arguments()
    torch.set_num_threads(args.threads)
    runs = [Run(f"M={m}", m, "", seed) for seed in args.seeds for m in args.samples]
    runs += [Run(f"M=64, {TENTH}", 64, TENTH, seed) for seed in args.seeds if args.tenth]
    runs += [Run(switch, 64, switch, seed) for seed in args.seeds[: args.switch_seeds] for switch in args.switches]
    for run in runs:
        _train(run, args)
    curves = {run: json.loads((args.out / run.folder / "curve.json").read_text()) for run in runs}
    _print(curves)
    if args.plot:
        _plot(curves, args.plot)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--samples", type=int, nargs="*", default=[1, 8, 64, 128], help="values of M")
    parser.add_argument("--switches", nargs="*", choices=SWITCHES, default=list(SWITCHES))
    parser.add_argument("--everywhere", nargs="*", choices=SWITCHES, default=[], help="switches of every run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--switch-seeds", type=int, default=1, help="of these seeds, how many for the switches")
    parser.add_argument("--tenth", action="store_true", help="M = 64 with a tenth of the steps, too")
    parser.add_argument("--batch", type=int, default=8, help="B of every run")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--every", type=int, default=100, help="steps between two points of a curve")
    parser.add_argument("--validation-steps", type=int, default=64)
    parser.add_argument("--learning-rates", nargs="*", default=[], metavar="RUN:RATE", help="as in M=1:5e-4")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--plot", type=Path)
    return parser.parse_args()


def _train(run: Run, args: argparse.Namespace) -> None:
    """Train one run to its end and leave its curve."""
    folder = args.out / run.folder
    path = folder / "curve.json"
    curve = json.loads(path.read_text()) if path.exists() else []
    steps = args.steps // 10 if run.switch == TENTH else args.steps
    if curve and curve[-1]["step"] >= steps:
        return
    rates = dict(pair.split(":") for pair in args.learning_rates)
    config = TrainingConfig(
        steps=steps, batch_size=args.batch, num_samples=run.num_samples, seed=run.seed, threads=args.threads,
        warmup_steps=min(TrainingConfig.warmup_steps, steps // 10),
        validate_every=args.every, checkpoint_every=args.every, validation_steps=args.validation_steps,
        learning_rate=float(rates.get(run.name, TrainingConfig.learning_rate)),
    )  # fmt: skip
    training, held_out = load_split(args.data, MiniDiffuserConfig().rotation_bins)
    model = MiniDiffuserConfig()
    for switch in (*args.everywhere, run.switch):
        model = replace(model, **SWITCHES.get(switch, {}))
    trainer = Trainer(config, PolicyConfig(spec=training.spec, model=model), training, Processes(args.device))
    if (folder / STATE).exists():
        trainer.resume(folder)
    curve = [row for row in curve if row["step"] <= trainer.step_number]

    def on_validation(step: int, metrics: HeldOutMetrics) -> None:
        shares = {metric: getattr(metrics.overall, metric) for metric in METRICS}
        curve.append({"step": step, "minutes": trainer.seconds / 60.0, **shares})
        replace_file(path, lambda partial: partial.write_text(json.dumps(curve, indent=2) + "\n"))

    with tqdm(total=steps, initial=trainer.step_number, unit="step", desc=run.folder) as bar:
        watch = Watch(lambda step, losses, rate: bar.update() and None, on_validation)
        train(trainer, folder, Validation(trainer.policy, held_out, args.validation_steps, args.device), watch)


def _print(curves: dict[Run, list[dict[str, float]]]) -> None:
    """The last point of every run, and how early M = 64 is where M = 1 is at its best."""
    print(f"{'run':<24}{'steps':>7}{'minutes':>9}{'< 1 cm':>9}{'< 5 deg':>9}")
    for run, curve in curves.items():
        last = curve[-1]
        print(
            f"{run.folder:<24}{last['step']:>7}{last['minutes']:>9.1f}"
            f"{last['within_1cm']:>9.1%}{last['rotation_within_5deg']:>9.1%}"
        )
    for seed in sorted({run.seed for run in curves}):
        of = {run.num_samples: curve for run, curve in curves.items() if run.seed == seed and not run.switch}
        if {1, 64} <= of.keys():
            best = max(of[1], key=lambda row: row["within_1cm"])
            reached = next((row for row in of[64] if row["within_1cm"] >= best["within_1cm"]), None)
            when = f"after {reached['step']} steps" if reached else "never"
            print(f"seed {seed}: M=1 is at best {best['within_1cm']:.1%} after {best['step']} steps, M=64 {when}")


def _plot(curves: dict[Run, list[dict[str, float]]], path: Path) -> None:
    """Each metric over steps and over minutes; lines are means over seeds, bands their range."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(11, 7), sharey="row", constrained_layout=True)
    for name in dict.fromkeys(run.name for run in curves):
        same = [curve for run, curve in curves.items() if run.name == name]
        count = min(len(curve) for curve in same)
        for row, metric in zip(axes, METRICS, strict=True):
            values = np.array([[point[metric] for point in curve[:count]] for curve in same])
            for axis, key in zip(row, ("step", "minutes"), strict=True):
                x = np.mean([[point[key] for point in curve[:count]] for curve in same], axis=0)
                (line,) = axis.plot(x, values.mean(0), label=name)
                axis.fill_between(x, values.min(0), values.max(0), color=line.get_color(), alpha=0.2, lw=0)
                axis.set(xlabel=key, ylabel=metric, ylim=(0, 1))
    axes[0, 0].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
