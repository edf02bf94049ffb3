"""Success and latency of every way to draw candidates, side by side: whole and pruned walks, few steps, schedules.

python benchmarks/inference.py models/tabletop_small
python benchmarks/inference.py runs/mine --episodes 50 --json out/inference.json --plot out/inference.png

Every method plays the same scenes with the same seeds; its latency is that of its own decisions, all in one run, the
order of methods turned around from scene to scene. `speedup` is against the whole DDPM walk with the condition encoded
once; `naive` encodes it at every step, as where samples and points share one sequence.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from minidiffuser_ros.contract.errors import CheckpointError
from minidiffuser_ros.contract.files import replace_file
from minidiffuser_ros.diffusion.sampler import SamplerConfig
from minidiffuser_ros.evaluation.rollout import Scene, roll_out
from minidiffuser_ros.evaluation.statistics import wilson_interval
from minidiffuser_ros.model.mini_diffuser import Condition
from minidiffuser_ros.policy.policy import Decision, Policy
from minidiffuser_ros.policy.pruned import PrunedWalks
from minidiffuser_ros.policy.sampling import Walk
from minidiffuser_ros.pruning.pruner import REUSE, observation_embedding
from minidiffuser_ros.pruning.reuse import recorded_steps
from minidiffuser_ros.pruning.schedules import (
    block_adaptive_schedule,
    fixed_schedule,
    random_schedule,
    similarity_of,
    uniform_schedule,
)
from minidiffuser_ros.simulation.tabletop import Tabletop, shared_world

DDPM = SamplerConfig("ddpm", 100)
REFERENCE = "ddpm-100"
Plan = Callable[[Condition], Walk]


@dataclass
class Tally:
    """What one method did. Milliseconds of denoising, and of the whole decision, each decision one number."""

    successes: int = 0
    episodes: int = 0
    denoise_ms: list[float] = field(default_factory=list)
    total_ms: list[float] = field(default_factory=list)
    pruned: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Row:
    """A line of the table and of the JSON file."""

    policy: str
    method: str
    device: str
    episodes: int
    success: float
    low: float
    high: float
    denoise_ms_p50: float
    denoise_ms_p95: float
    total_ms_p50: float
    total_ms_p95: float
    speedup: float
    pruned: float


def main() -> None:
    """Print the table."""
    args = _arguments()
    torch.set_num_threads(args.threads)
    policy = Policy.load(args.policy, args.device)
    world = shared_world(policy.spec)
    tasks = args.tasks or sorted(json.loads((args.policy / "training.json").read_text())["demonstrations"])
    plans = _plans(policy, tasks, args)
    scenes = [Scene(task, args.seed + i) for task in tasks for i in range(args.episodes)]
    tallies = {name: Tally() for name in plans}
    for number, scene in enumerate(tqdm(scenes, unit="scene")):
        for name in plans if number % 2 else reversed(plans):
            policy.plan = plans[name]
            _play(world, policy, scene, tallies[name])
    rows = _rows(args.policy.name, args.device, tallies)
    rows.append(_naive(policy, world, scenes[0], rows[0]))
    print(_table(rows))
    if args.json:
        text = json.dumps([asdict(row) for row in rows], indent=2) + "\n"
        replace_file(args.json, lambda path: path.write_text(text))
    if args.plot:
        _plot(rows, args.plot)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policy", type=Path, help="folder of a trained policy")
    parser.add_argument("--tasks", nargs="+", help="default: those of its demonstrations")
    parser.add_argument("--episodes", type=int, default=50, help="scenes a task (default: 50)")
    parser.add_argument("--seed", type=int, default=200_000, help="first test seed")
    parser.add_argument("--methods", nargs="+", help="only these")
    parser.add_argument("--calibration", type=int, default=16, help="scenes that fixed schedules are made from")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    return parser.parse_args()


def _plans(policy: Policy, tasks: Sequence[str], args: argparse.Namespace) -> dict[str, Plan]:
    """The methods by name; schedules that are made from data see other scenes than the test."""

    def steady(walk: Walk) -> Plan:
        return lambda condition: walk

    units = policy.sampler.units(DDPM)
    conditions = _calibration(policy, tasks, args.calibration)
    similarity = torch.stack([_similarity(policy, condition, seed) for seed, condition in enumerate(conditions)])
    plans = {REFERENCE: steady(Walk(DDPM))}
    plans |= {f"ddim-{steps}": steady(Walk(SamplerConfig("ddim", steps))) for steps in (50, 30, 10, 5, 3, 2, 1)}
    plans |= {
        "uniform-7": steady(Walk(DDPM, uniform_schedule(units, 7), shared=False)),
        "uniform-11": steady(Walk(DDPM, uniform_schedule(units, 11), shared=False)),
        "bac-10-5": steady(Walk(DDPM, block_adaptive_schedule(units, similarity.mean(0)), shared=False)),
        "random-91": steady(Walk(DDPM, random_schedule(units, 0.91, torch.Generator().manual_seed(0)))),
    }
    try:
        walks = PrunedWalks.load(args.policy, policy)
    except CheckpointError as error:
        print(f"without the pruner: {error}")
    else:
        embeddings = torch.cat([observation_embedding(c) for c in conditions])
        with torch.inference_mode():
            mean = torch.softmax(walks.pruner(embeddings), dim=-1)[..., REUSE].mean(0)
        rate = float(walks.pruner.masks(embeddings).float().mean())
        plans["sag"] = walks.walk
        plans["sag-fixed"] = steady(Walk(walks.config.sampler, fixed_schedule(mean, rate), walks.config.shared))
    return {name: plan for name, plan in plans.items() if not args.methods or name in (*args.methods, REFERENCE)}


@torch.inference_mode()
def _calibration(policy: Policy, tasks: Sequence[str], count: int) -> list[Condition]:
    """Conditions of first views, of seeds that are in nobody's test."""
    conditions, world = [], shared_world(policy.spec)
    for index in range(count):
        instruction = Scene(tasks[index % len(tasks)], 150_000 + index).lay_out(world)
        conditions.append(policy.network.encode(policy.inputs(world.observe(), instruction)))
    return conditions


@torch.inference_mode()
def _similarity(policy: Policy, condition: Condition, seed: int) -> Tensor:
    outputs: list[dict[str, Tensor]] = []
    executors = list(recorded_steps(outputs, DDPM.num_inference_steps))
    policy.sampler.keyposes(condition, seed, Walk(DDPM, executors=executors))
    return similarity_of(policy.sampler.units(DDPM), outputs)


def _play(world: Tabletop, policy: Policy, scene: Scene, tally: Tally) -> None:
    def watch(decision: Decision) -> None:
        tally.denoise_ms.append(decision.denoise_ms)
        tally.total_ms.append(decision.encode_ms + decision.denoise_ms)
        tally.pruned.append(decision.pruned)

    tally.successes += roll_out(world, policy, scene, watch).success
    tally.episodes += 1


def _rows(policy: str, device: str, tallies: dict[str, Tally]) -> list[Row]:
    reference = statistics.median(tallies[REFERENCE].denoise_ms)
    return [
        Row(
            policy, name, device, t.episodes, t.successes / t.episodes, *wilson_interval(t.successes, t.episodes),
            statistics.median(t.denoise_ms), _p95(t.denoise_ms), statistics.median(t.total_ms), _p95(t.total_ms),
            reference / statistics.median(t.denoise_ms), statistics.fmean(t.pruned),
        )
        for name, t in tallies.items()
    ]  # fmt: skip


@torch.inference_mode()
def _naive(policy: Policy, world: Tabletop, scene: Scene, reference: Row) -> Row:
    """DDPM-100 that encodes the observation at each of its steps: the answers are the same, the time is not."""
    policy.plan = lambda condition: Walk(DDPM)
    instruction = scene.lay_out(world)
    observation, times = world.observe(), []
    inputs = policy.inputs(observation, instruction)
    for seed in range(3):
        started = time.perf_counter()
        policy.decide(observation, instruction, seed)
        for _ in range(DDPM.num_inference_steps - 1):
            policy.network.encode(inputs)
        times.append(1e3 * (time.perf_counter() - started))
    naive_ms = statistics.median(times)
    values = {**asdict(reference), "method": "naive ddpm-100", "denoise_ms_p50": naive_ms, "denoise_ms_p95": max(times)}
    values |= {"total_ms_p50": naive_ms, "total_ms_p95": max(times), "speedup": reference.denoise_ms_p50 / naive_ms}
    return Row(**values)


def _p95(values: list[float]) -> float:
    return sorted(values)[int(0.95 * (len(values) - 1))]


def _table(rows: list[Row]) -> str:
    head = f"{'method':<16}{'success':>16}{'denoise ms p50/p95':>22}{'total ms p50/p95':>22}{'speedup':>9}{'pruned':>8}"
    lines = [
        f"{row.method:<16}{f'{row.success:.1%} {row.low:.0%}-{row.high:.0%}':>16}"
        f"{f'{row.denoise_ms_p50:.1f} / {row.denoise_ms_p95:.1f}':>22}"
        f"{f'{row.total_ms_p50:.1f} / {row.total_ms_p95:.1f}':>22}{row.speedup:>9.2f}{row.pruned:>8.1%}"
        for row in rows
    ]
    return "\n".join([head, *lines])


def _plot(rows: list[Row], out: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    for row in rows:
        errors = [[max(0.0, row.success - row.low)], [max(0.0, row.high - row.success)]]
        axes.errorbar(row.denoise_ms_p50, row.success, yerr=errors, fmt="o", capsize=3)
        place = {"xytext": (2, 6), "textcoords": "offset points", "rotation": 55, "size": 8}
        axes.annotate(row.method, (row.denoise_ms_p50, row.success), **place)
    axes.set(xscale="log", xlabel="denoising, ms a decision (median)", ylabel="success", ylim=(-0.03, 1.19))
    axes.grid(alpha=0.3)
    replace_file(out, lambda path: figure.savefig(path, format="png", dpi=110))


if __name__ == "__main__":
    main()
