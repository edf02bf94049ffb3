"""What M noised samples per observation cost: time and memory of a training step over M, and over B beside it.

    python benchmarks/two_level_cost.py
    python benchmarks/two_level_cost.py --device cuda --json out/cost.json --plot out/cost.png

Ratios to M = 1 at the same B (two-level), and to the smallest B at M = 1 (the usual minibatch). `literal` runs the
masked attention over the concatenated sequence of the paper (v2, eq. 11-12), `factored` what the package uses. Of the
networks over action sequences (`--configs action_unet_small`) `literal` encodes the observation again for every sample.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # the profiler that measures memory tells every start and stop

import torch
from action_unet_step import ActionUNetStep
from side_by_side import median_ratios
from torch import Tensor
from tqdm import tqdm

import minidiffuser_ros.model.neck as neck
from minidiffuser_ros.contract.files import replace_file
from minidiffuser_ros.model.action_config import NAMED_ACTION_CONFIGS
from minidiffuser_ros.model.attention import reference_mask
from minidiffuser_ros.model.config import MiniDiffuserConfig, named_config
from minidiffuser_ros.model.mini_diffuser import TOOL_FEATURES, Inputs, MiniDiffuser
from minidiffuser_ros.model.two_level import GroupedTokens, SampleTokens, two_level_attention

HEAD_SAMPLES = 4
TOKENS = 10


@dataclass(frozen=True)
class Case:
    """One training step."""

    config: str
    implementation: str
    batch_size: int
    num_samples: int


@dataclass(frozen=True)
class Row:
    """One line of the result."""

    device: str
    config: str
    implementation: str
    B: int
    M: int
    time_ratio: float
    memory_ratio: float
    points: int
    seconds: float
    mebibytes: float


def main() -> None:
    """Measure, print, write."""
    args = _arguments()
    torch.set_num_threads(args.threads)
    rows = []
    for config, points, size in zip(args.configs, args.points, args.batch, strict=False):
        rows += _measure(config, points, size, args)
    print(
        f"{'config':<20}{'points':>7} {'implementation':<16}{'B':>5}{'M':>5}{'time':>9}{'memory':>9}{'s':>9}{'MiB':>8}"
    )
    for r in rows:
        print(
            f"{r.config:<20}{r.points:>7} {r.implementation:<16}{r.B:>5}{r.M:>5}"
            f"{r.time_ratio:>8.2f}x{r.memory_ratio:>8.2f}x"
            f"{r.seconds:>9.3f}{r.mebibytes:>8.0f}"
        )
    if args.json:
        text = json.dumps([asdict(row) for row in rows], indent=2) + "\n"
        replace_file(args.json, lambda path: path.write_text(text))
    if args.plot:
        _plot(rows, args.plot)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--configs", nargs="+", default=["mini_diffuser_small"] * 2 + ["mini_diffuser_base"])
    parser.add_argument("--points", type=int, nargs="+", default=[512, 1024, 4000], help="a cloud's, one per config")
    parser.add_argument("--batch", type=int, nargs="+", default=[16, 16, 2], help="B, one per config")
    parser.add_argument("--samples", type=int, nargs="+", default=[1, 8, 64, 128, 256], help="values of M")
    parser.add_argument("--implementations", nargs="+", default=["factored", "literal"])
    parser.add_argument("--rounds", type=int, default=6, help="timed rounds, half of them in each order")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bf16", action="store_true", help="bf16 autocast")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    for values in (args.points, args.batch):  # the last one serves all that follow
        values += values[-1:] * (len(args.configs) - len(values))
    return args


def _measure(config: str, points: int, size: int, args: argparse.Namespace) -> list[Row]:
    samples = sorted({1, *args.samples})  # M = 1 is what the others are compared with
    cases = [Case(config, i, size, m) for i in dict.fromkeys(["factored", *args.implementations]) for m in samples]
    cases += [Case(config, "factored", size * factor, 1) for factor in (2, 4)]
    step_of = _steps_of(config, {case.batch_size for case in cases}, points, args)

    def reference(case: Case) -> Case:
        return Case(config, case.implementation, size, 1)

    steps = {case: step_of(case) for case in cases}
    memory = {case: _peak_memory(steps[case], args.device) for case in tqdm(cases, desc=f"{config}: memory")}
    times = median_ratios(steps, reference, args.rounds)
    return [
        Row(
            args.device, config, case.implementation, case.batch_size, case.num_samples, times[case][0],
            memory[case] / memory[reference(case)], points, times[case][1], memory[case] / 2**20,
        )
        for case in cases
    ]  # fmt: skip


def _steps_of(
    config: str, batch_sizes: set[int], points: int, args: argparse.Namespace
) -> Callable[[Case], Callable[[], None]]:
    """One training step of each case of a network."""
    torch.manual_seed(0)
    if config in NAMED_ACTION_CONFIGS:
        sequences = ActionUNetStep(config, args.device, args.bf16)
        return lambda case: lambda: sequences(case.implementation, case.batch_size, case.num_samples)
    network = MiniDiffuser(replace(named_config(config), dropout=0.0)).to(args.device).train()
    inputs = {b: _inputs(network.config, b, points).to(args.device) for b in batch_sizes}
    return lambda case: lambda: _step(network, inputs[case.batch_size], case, args)


def _inputs(config: MiniDiffuserConfig, batch_size: int, points: int) -> Inputs:
    """Clouds of boxes on a table, as dense as the voxel grid allows."""
    g = torch.Generator().manual_seed(batch_size)
    count = batch_size * points
    side = config.grid_size * (points / 3.0) ** 0.5  # a surface of that many cells folded over three faces
    uv, face = torch.rand(count, 2, generator=g) * side, torch.randint(3, (count,), generator=g)
    flat = torch.zeros(count, 1)
    faces = torch.stack(
        [torch.cat([uv, flat], 1), torch.cat([flat, uv], 1), torch.cat([uv[:, :1], flat, uv[:, 1:]], 1)]
    )
    return Inputs(
        faces[face, torch.arange(count)] + torch.tensor([0.4, -0.2, 0.01]),
        255 * torch.rand(count, 3, generator=g),
        torch.arange(batch_size).repeat_interleave(points),
        torch.tensor([0.5, 0.0, 0.3]).expand(batch_size, 3),
        torch.randn(batch_size, TOOL_FEATURES, generator=g),
        torch.randn(batch_size, TOKENS, config.instruction_dim, generator=g),
        torch.ones(batch_size, TOKENS, dtype=torch.bool),
    )


def _step(network: MiniDiffuser, inputs: Inputs, case: Case, args: argparse.Namespace) -> None:
    """Forward and backward of one training step; the loss's form does not matter to its cost."""
    g = torch.Generator().manual_seed(0)
    shape = (case.batch_size, case.num_samples)
    positions = (torch.rand(*shape, 3, generator=g) * 0.4 + torch.tensor([0.3, -0.2, 0.0])).to(args.device)
    steps = torch.randint(100, shape, generator=g).to(args.device)
    rotations = torch.randn(*shape, network.config.sample_size - 3, generator=g).to(args.device)
    with _implementation(case.implementation), torch.autocast(args.device, torch.bfloat16, enabled=args.bf16):
        condition = network.encode(inputs)
        if network.config.rotation == "diffused":
            moved, gripper = network.denoise_and_grip(condition, torch.cat([positions, rotations], dim=-1), steps)
            loss = moved.abs().mean() + gripper.abs().mean()
        else:
            moved = network.denoise(condition, positions, steps)
            rotation, gripper = network.classify(condition, positions[:, :1].expand(-1, HEAD_SAMPLES, -1))
            loss = moved.abs().mean() + rotation.logsumexp(-1).mean() + gripper.abs().mean()
    loss.backward()
    network.zero_grad(set_to_none=True)
    if args.device != "cpu":
        torch.cuda.synchronize()


@contextmanager
def _implementation(name: str) -> Iterator[None]:
    neck.two_level_attention = {"factored": two_level_attention, "literal": _literal_attention}[name]  # type: ignore[assignment]
    try:
        yield
    finally:
        neck.two_level_attention = two_level_attention


def _literal_attention(samples: SampleTokens, spatial: GroupedTokens, words: GroupedTokens) -> tuple[Tensor, Tensor]:
    """`two_level_attention` as the paper writes it: one masked attention over all samples and shared tokens."""
    clouds, heads, count, length, width = samples.query.shape
    own, places = count * length, spatial.key.shape[1]
    shared = places + words.key.shape[1]
    query, plain_query, key, value = (t.flatten(0, 1).flatten(1, 2) for t in vars(samples).values())
    rows, plain_rows = (torch.cat([q, spatial.key, words.key], dim=1) for q in (query, plain_query))
    placed = torch.cat([key, spatial.key], dim=1)
    logits = torch.cat([rows @ placed.transpose(1, 2), plain_rows @ words.key.transpose(1, 2)], dim=-1) * width**-0.5
    allowed = reference_mask(count, length, shared).to(rows.device)
    bias = torch.cat([spatial.bias.new_zeros(clouds * heads, 1, own), spatial.bias, words.bias], dim=-1)
    weights = torch.softmax((logits + bias).masked_fill(~allowed, float("-inf")), dim=-1)[:, :own]
    values = torch.cat([value, spatial.value[..., :width], words.value], dim=1)
    centre = weights[..., own : own + places] @ spatial.value[..., width:]
    out, centre = (t.view(clouds, heads, count, length, -1).permute(0, 2, 3, 1, 4) for t in (weights @ values, centre))
    return out, centre


def _peak_memory(step: Callable[[], None], device: str) -> float:
    """Bytes held at the worst moment of a step beyond what is held before it."""
    step()
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return float(torch.cuda.max_memory_allocated() - before)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    events = profile.profiler.kineto_results.events()  # type: ignore[union-attr]
    changes = [(event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"]
    held = peak = 0.0
    for _, change in sorted(changes, key=lambda pair: pair[0]):
        held += change
        peak = max(peak, held)
    return peak


def _plot(rows: list[Row], path: Path) -> None:
    """Time and memory over M, and over B at M = 1, both as ratios."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 5), constrained_layout=True)
    for axis, what in zip(axes, ("time_ratio", "memory_ratio"), strict=True):
        for config, points in dict.fromkeys((row.config, row.points) for row in rows):
            same = [row for row in rows if (row.config, row.points) == (config, points)]
            name, base = f"{config} {points}", min(row.B for row in same)
            for implementation in dict.fromkeys(row.implementation for row in same):
                line = [r for r in same if (r.implementation, r.B) == (implementation, base)]
                axis.plot(
                    [r.M for r in line], [getattr(r, what) for r in line], "o-", label=f"{name}, {implementation}"
                )
            more = [r for r in same if r.M == 1 and r.implementation == "factored"]
            axis.plot(
                [r.B / base for r in more], [getattr(r, what) for r in more], "x:", label=f"{name}, B instead of M"
            )
        axis.set(xscale="log", yscale="log", xlabel="M (or times B)", ylabel=what.replace("_", " "))
        for ticks in ("major", "minor"):
            getattr(axis.yaxis, f"set_{ticks}_formatter")("{x:.3g}")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
