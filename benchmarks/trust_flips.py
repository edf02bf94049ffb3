"""What one wrong decision of a pruner does to the keypose at the end of the walk."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from inference_report import DPI, percentile
from inference_tabletop import condition_of, densest
from torch import Tensor
from tqdm import tqdm

from minidiffuser_ros.contract.files import replace_file
from minidiffuser_ros.evaluation.rollout import Scene
from minidiffuser_ros.model.mini_diffuser import Condition
from minidiffuser_ros.policy.policy import Policy
from minidiffuser_ros.policy.pruned import PrunedWalks
from minidiffuser_ros.policy.sampling import Walk
from minidiffuser_ros.simulation.tabletop import Tabletop

FIRST_SEED = 160_000  # of scenes that are in nobody's test
ALL = "pruned against whole"
TO_REUSED, TO_COMPUTED = "computed, now reused", "reused, now computed"


@dataclass(frozen=True)
class Flip:
    """One decision turned over: the chosen keypose moved by `moved_mm`, the candidates by `candidates_mm` on average.

    change: TO_REUSED, TO_COMPUTED, or ALL for the whole mask against none, which has no step and no kind.
    """

    observation: int
    change: str
    step: int
    branch: str
    moved_mm: float
    candidates_mm: float


@torch.inference_mode()
def flips_of(
    policy: Policy, walks: PrunedWalks, world: Tabletop, tasks: Sequence[str], observations: int, flips: int
) -> list[Flip]:
    """Of every observation so many decisions, half of them computed ones where there are as many."""
    found: list[Flip] = []
    for number in tqdm(range(observations), unit="observation"):
        condition = condition_of(policy, world, Scene(tasks[number % len(tasks)], FIRST_SEED + number))
        found += _of_observation(policy, walks, condition, number, flips)
    return found


def _of_observation(
    policy: Policy, walks: PrunedWalks, condition: Condition, number: int, flips: int
) -> Iterator[Flip]:
    config, mask = walks.config, walks.mask(condition)
    names = policy.sampler.units(config.sampler).names

    def positions(mask: Tensor | None) -> Tensor:
        return policy.sampler.positions(condition, number, Walk(config.sampler, mask, config.shared))[0]

    before = positions(mask)
    yield _flip(number, ALL, -1, "", before, positions(None))
    for step, branch in _drawn(mask, flips, number):
        turned = mask.clone()
        turned[step, branch] = ~turned[step, branch]
        change = TO_REUSED if turned[step, branch] else TO_COMPUTED
        yield _flip(number, change, step, names[branch], before, positions(turned))


def _drawn(mask: Tensor, count: int, seed: int) -> Iterator[tuple[int, int]]:
    """Which decisions are turned over."""
    generator = torch.Generator().manual_seed(seed)
    computed, reused = (~mask).nonzero(), mask.nonzero()
    few = min(count // 2, len(computed))
    for units, share in ((computed, few), (reused, count - few)):
        for index in torch.randperm(len(units), generator=generator)[:share].tolist():
            yield int(units[index, 0]), int(units[index, 1])


def _flip(observation: int, change: str, step: int, branch: str, before: Tensor, after: Tensor) -> Flip:
    moved = float((densest(after) - densest(before)).norm())
    return Flip(observation, change, step, branch, 1e3 * moved, 1e3 * float((after - before).norm(dim=-1).mean()))


def summaries(flips: Sequence[Flip]) -> Iterator[str]:
    """Lines for a terminal: how far the chosen keypose moved, by the change, the kind of branch and the step."""
    steps = max(flip.step for flip in flips) + 1
    for change in (ALL, TO_REUSED, TO_COMPUTED):
        of_change = [flip for flip in flips if flip.change == change]
        yield _summary(change, of_change)
        for kind in sorted({flip.branch.rpartition(".")[2] for flip in of_change} - {""}):
            yield _summary(f"  {kind}", [flip for flip in of_change if flip.branch.endswith(f".{kind}")])
        if change != ALL:
            last = [flip for flip in of_change if flip.step == steps - 1]
            yield _summary("  last step", last)
            yield _summary("  earlier", [flip for flip in of_change if flip.step < steps - 1])


def _summary(name: str, flips: Sequence[Flip]) -> str:
    moved = [flip.moved_mm for flip in flips]
    if not moved:
        return f"{name:<24}    0 drawn"
    return (
        f"{name:<24}{len(moved):>5}: keypose moved by {statistics.median(moved):.2f} mm (median), "
        f"{percentile(moved, 95):.2f} (95 %), {max(moved):.2f} (most)"
    )


def plot(flips: Sequence[Flip], out: Path) -> None:
    """How far the chosen keypose moved, over the step of the wrong decision; a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(10, 4), dpi=DPI, sharey=True, layout="constrained")
    for axes, change in zip(panels, (TO_REUSED, TO_COMPUTED), strict=True):
        of_change = [flip for flip in flips if flip.change == change]
        for kind in sorted({flip.branch.rpartition(".")[2] for flip in of_change}):
            points = [(f.step + 1, max(f.moved_mm, 1e-3)) for f in of_change if f.branch.endswith(f".{kind}")]
            axes.plot(*zip(*points, strict=True), "o", markersize=3, alpha=0.6, label=kind)
        axes.set(
            yscale="log", xlim=(0, 1.02 * max(flip.step + 1 for flip in flips)), xlabel="step of the walk", title=change
        )
        axes.legend()
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("chosen keypose moved, mm (0.001: less)")
    replace_file(out, lambda path: figure.savefig(path, format="png", dpi=DPI))
