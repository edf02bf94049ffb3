"""Demonstrations out of nothing, each another one, and folders of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.contract.observation import Observation, ObservationSpec
from minidiffuser_ros.episodes.cache import Cache, load_cache, open_cache
from minidiffuser_ros.episodes.cache_build import build_cache
from minidiffuser_ros.episodes.demonstration import ARRAYS, Demonstration, demonstration_of, save_demonstration

SPEC = ObservationSpec(voxel_size=0.01, cameras=("front",))


def made(seed: int, task: str = "push", spec: ObservationSpec = SPEC) -> Demonstration:
    """Two to four steps of 20 to 40 points."""
    rng = np.random.default_rng(seed)
    steps = []
    for _ in range(int(rng.integers(2, 5))):
        count = int(rng.integers(20, 41))
        observation = Observation(
            rng.uniform(0.0, 0.5, (count, 3)).astype(np.float32),
            rng.integers(0, 256, (count, 3), dtype=np.uint8),
            rng.normal(size=3),
            np.array([0.0, 1.0, 0.0, 0.0]),
            rng.normal(size=7),
            float(rng.uniform()),
            0,
            spec,
        )
        steps.append((observation, Keypose(rng.uniform(0.3, 0.6, 3), np.array([0.0, 0.6, 0.8, 0.0]), seed % 2)))
    return demonstration_of(task, seed % 3, seed, (f"{task} it — now", f"please {task}"), steps)


def files(folder: Path, seeds: range, task: str = "push", **changes: Any) -> Path:
    """A folder of demonstrations as `minidiffuser demos` makes it."""
    for seed in seeds:
        save_demonstration(made(seed, task, **changes), folder / task / f"{seed:06d}.npz")
    return folder


def cache(folder: Path, seeds: range, task: str = "push", **changes: Any) -> Path:
    """A cache of such demonstrations."""
    build_cache([files(folder / "npz", seeds, task, **changes)], folder / "cache")
    return folder / "cache"


def same(first: Demonstration, second: Demonstration) -> bool:
    """Equal in every field, numbers bit for bit and in type."""
    plain = ("task", "variation", "seed", "instructions", "spec")
    mine, theirs = ([getattr(d, name) for name in ARRAYS] for d in (first, second))
    arrays = all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True))
    return arrays and all(getattr(first, name) == getattr(second, name) for name in plain)


def opened(folder: Path) -> tuple[Cache, list[Demonstration]]:
    """A cache and its demonstrations, hashes compared."""
    return open_cache(folder), load_cache(folder, verify=True)
