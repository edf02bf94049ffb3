"""How long training waits for its demonstrations and how much memory they take: .npz files against a cache.

    minidiffuser demos --out data/tabletop_small
    python benchmarks/cache_loading.py data/tabletop_small
    python benchmarks/cache_loading.py data/tabletop_small --points 4096

Every round loads both in a fresh process each, one after the other and in the next round in the other order, with warm
disk caches. Times are of loading with all checks and of 200 batches after it; memory is the process's own (anonymous)
and what it shares with the disk cache (file), both above what it had before. Only ratios within a round mean anything.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from minidiffuser_ros.episodes.cache import load_cache
from minidiffuser_ros.episodes.cache_build import build_cache
from minidiffuser_ros.episodes.catalog import npz_files
from minidiffuser_ros.episodes.demonstration import Demonstration, load_demonstration, save_demonstration

BATCHES, BATCH_SIZE = 200, 32
FIGURES = ("load s", "anonymous MB", "file MB", "batches s", "anonymous MB after", "file MB after")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of demonstrations")
    parser.add_argument("--demonstrations", type=int, default=800)
    parser.add_argument("--points", type=int, default=0, help="copy points until each observation has so many")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--measure", choices=("npz", "cache"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(_measured(args.data, args.measure)))
        return
    with tempfile.TemporaryDirectory() as name:
        folders = {"npz": Path(name) / "npz", "cache": Path(name) / "cache"}
        _copy(args.data, folders["npz"], args.demonstrations, args.points)
        build_cache([folders["npz"]], folders["cache"], os.cpu_count() or 1)
        sizes = {kind: sum(f.stat().st_size for f in folder.rglob("*.*")) for kind, folder in folders.items()}
        rounds = []
        for number in tqdm(range(args.rounds + 1), unit="round"):
            order = list(folders) if number % 2 else list(reversed(folders))
            rounds.append({kind: _in_new_process(folders[kind], kind) for kind in order})
    del rounds[0]  # it warms the disk cache
    megabytes = {kind: f"{size / 1e6:.1f} MB" for kind, size in sizes.items()}
    print(f"{args.demonstrations} demonstrations, {megabytes['npz']} of files, a cache of {megabytes['cache']}")
    print(f"{'':<20}{'npz':>10}{'cache':>10}{'npz / cache':>14}")
    for figure in FIGURES:
        npz, cache = (statistics.median(r[kind][figure] for r in rounds) for kind in folders)
        ratio = statistics.median(r["npz"][figure] / max(r["cache"][figure], 1e-3) for r in rounds)
        print(f"{figure:<20}{npz:>10.2f}{cache:>10.2f}{ratio:>14.1f}")


def _copy(data: Path, out: Path, count: int, points: int) -> None:
    """Some of the demonstrations, each seed once, with denser clouds where asked for."""
    files = list(npz_files(data).values())
    for number in tqdm(range(count), "copying", unit="demo"):
        demonstration = load_demonstration(files[number % len(files)])
        rng = np.random.default_rng(number)
        if points or number >= len(files):
            demonstration = _dense(demonstration, points, rng)
        save_demonstration(demonstration, out / demonstration.task / f"{number:06d}.npz")


def _dense(d: Demonstration, points: int, rng: np.random.Generator) -> Demonstration:
    starts = np.cumsum(d.counts) - d.counts
    rows = [s + rng.integers(0, n, points or n) for s, n in zip(starts, d.counts, strict=True)]
    index = np.concatenate(rows)
    moved = d.points[index] + rng.normal(0.0, 0.002, (len(index), 3)).astype(np.float32)
    return replace(d, counts=np.array([len(r) for r in rows]), points=moved.astype(np.float32), colors=d.colors[index])


def _in_new_process(folder: Path, kind: str) -> dict[str, float]:
    command = [sys.executable, __file__, str(folder), "--measure", kind]
    figures: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return figures


def _measured(folder: Path, kind: str) -> dict[str, float]:
    """Load, then touch random steps as batches do."""
    before = _memory()
    start = time.perf_counter()
    data = load_cache(folder) if kind == "cache" else [load_demonstration(p) for p in npz_files(folder).values()]
    figures = {"load s": time.perf_counter() - start, **_above(before, "")}
    start, rng = time.perf_counter(), np.random.default_rng(0)
    for _ in range(BATCHES):
        clouds = []
        for d in (data[int(i)] for i in rng.integers(0, len(data), BATCH_SIZE)):
            step = int(rng.integers(0, len(d.counts)))
            first = int(d.counts[:step].sum())
            clouds.append(d.points[first : first + d.counts[step]])
        np.concatenate(clouds)
    return figures | {"batches s": time.perf_counter() - start, **_above(before, " after")}


def _memory() -> dict[str, float]:
    """Resident memory in MB, own and shared with the disk cache."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    names = {"anonymous MB": "RssAnon", "file MB": "RssFile"}
    return {name: int(status[key].split()[0]) / 1024.0 for name, key in names.items()}


def _above(before: dict[str, float], suffix: str) -> dict[str, float]:
    return {f"{name}{suffix}": value - before[name] for name, value in _memory().items()}


if __name__ == "__main__":
    main()
