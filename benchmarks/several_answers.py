"""How many steps a walk needs where several answers are right: three buttons, and a sentence that names none.

python benchmarks/several_answers.py data/tabletop_small --out out/several_answers

The demonstrations of `push_button` are told with one sentence, so that each of the three buttons is as right as the
others; a policy is trained on them, and its candidates are counted: how many lie at some button, how many of the three
buttons some candidate lies at, and how often the chosen one is at one. A stopped run goes on where it was.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from minidiffuser_ros.cli.main import main as minidiffuser
from minidiffuser_ros.contract.files import replace_file
from minidiffuser_ros.diffusion.sampler import SamplerConfig
from minidiffuser_ros.episodes.demonstration import load_demonstration, save_demonstration
from minidiffuser_ros.evaluation.statistics import wilson_interval
from minidiffuser_ros.policy.policy import Decision, Policy
from minidiffuser_ros.policy.sampling import Walk
from minidiffuser_ros.simulation.tabletop import Tabletop, shared_world
from minidiffuser_ros.simulation.tasks.base import FINGERTIP_BELOW_TOOL
from minidiffuser_ros.simulation.tasks.objects import BUTTON_CAP_TOP
from minidiffuser_ros.simulation.tasks.push_button import BUTTONS, HOVER

TASK, SENTENCE = "push_button", "push a button"
NEAR = 0.02  # m
WALKS = [SamplerConfig("ddim", steps) for steps in (1, 2, 3, 4, 5, 7, 10, 20)] + [SamplerConfig("ddpm", 100)]


@dataclasses.dataclass(frozen=True)
class Row:
    """One walk: how often the choice is right, buttons covered of three, candidates at a button; with milliseconds."""

    sampler: str
    steps: int
    scenes: int
    right: float
    low: float
    high: float
    covered: float
    all_covered: float
    candidates_right: float
    denoise_ms_p50: float


def main() -> None:
    """Train where there is no policy yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help=f"demonstrations with the task {TASK}")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the relabelled demonstrations and the policy"
    )
    parser.add_argument("--train-steps", type=int, default=1000)
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=200_000, help="first test seed")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = measure(_trained(args), args.seed, args.scenes)
    print(f"{'walk':<10}{'chosen right':>22}{'buttons of 3':>14}{'all three':>11}{'candidates right':>18}{'ms':>7}")
    for row in rows:
        right = f"{row.right:.1%} {row.low:.0%}-{row.high:.0%}"
        print(
            f"{f'{row.sampler}-{row.steps}':<10}{right:>22}{row.covered:>14.2f}{row.all_covered:>11.0%}"
            f"{row.candidates_right:>18.1%}{row.denoise_ms_p50:>7.1f}"
        )
    if args.json:
        text = json.dumps([dataclasses.asdict(row) for row in rows], indent=2) + "\n"
        replace_file(args.json, lambda path: path.write_text(text))


def measure(policy: Policy, seed: int, scenes: int) -> list[Row]:
    """Every walk from the same first views with the same seeds."""
    world, decisions = shared_world(policy.spec), {walk: [] for walk in WALKS}  # type: ignore[var-annotated]
    for number in tqdm(range(seed, seed + scenes), unit="scene"):
        world.reset(TASK, number)
        observation, goals = world.observe(), _goals(world)
        for walk in WALKS:
            policy.plan = lambda condition, walk=walk: Walk(walk)  # type: ignore[misc]
            decision = policy.decide(observation, SENTENCE, number)
            decisions[walk].append((decision, _near(decision, goals)))
    return [_row(walk, found) for walk, found in decisions.items()]


def _goals(world: Tabletop) -> NDArray[np.float64]:
    """Above which points the hand may go first [3, 3] m."""
    top = np.array([0.0, 0.0, BUTTON_CAP_TOP + FINGERTIP_BELOW_TOOL + HOVER])
    return np.stack([np.array([*world.stage.position(name)[:2], 0.0]) + top for name in BUTTONS])


def _near(decision: Decision, goals: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which candidate is at which button [N, 3]."""
    gaps = np.linalg.norm(decision.candidates[:, None] - goals[None], axis=-1)
    return np.asarray(gaps < NEAR)


def _row(walk: SamplerConfig, found: list[tuple[Decision, NDArray[np.bool_]]]) -> Row:
    chosen = sum(bool(near[decision.chosen].any()) for decision, near in found)
    covered = [int(near.any(0).sum()) for _, near in found]
    return Row(
        walk.kind, walk.num_inference_steps, len(found), chosen / len(found), *wilson_interval(chosen, len(found)),
        statistics.fmean(covered), statistics.fmean(count == len(BUTTONS) for count in covered),
        statistics.fmean(float(near.any(1).mean()) for _, near in found),
        statistics.median(decision.denoise_ms for decision, _ in found),
    )  # fmt: skip


def _trained(args: argparse.Namespace) -> Policy:
    """The policy of the one sentence, trained as far as it is not."""
    data, out = args.out / "data", args.out / "policy"
    for path in sorted((args.data / TASK).glob("*.npz")):
        target = data / TASK / path.name
        if not target.exists():
            save_demonstration(dataclasses.replace(load_demonstration(path), instructions=(SENTENCE,)), target)
    summary = out / "training.json"
    if not summary.exists() or json.loads(summary.read_text())["steps"] < args.train_steps:
        sizes = ("--batch-size", "8", "--num-samples", "64", "--threads", str(args.threads))
        rarely = ("--validate-every", str(args.train_steps), "--validation-steps", "32")
        minidiffuser(["train", str(data), "--out", str(out), "--steps", str(args.train_steps), *sizes, *rarely])
    return Policy.load(out)


if __name__ == "__main__":
    main()
