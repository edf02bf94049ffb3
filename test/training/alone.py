"""Trains a small network while every installed package that torch, numpy, scipy and safetensors do not need is hidden.

`python alone.py FOLDER` trains and validates; prints how many packages were hidden and the loss of each step.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from types import ModuleType

ALLOWED = ("torch", "numpy", "scipy", "safetensors")
OWN = "minidiffuser_ros"


def needed(names: Sequence[str]) -> set[str]:
    """These distributions and what they require, extras left out; normalised names."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            wanted = requires(name) or []
        except PackageNotFoundError:
            continue  # required on another platform
        found.add(name)
        waiting += [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in wanted if "extra ==" not in line]
    return found


class Hiding:
    """A finder that does not find some modules, as if they were not installed."""

    def __init__(self, finder: MetaPathFinder, modules: set[str]) -> None:
        self.finder, self.modules = finder, modules

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """None for a hidden module."""
        return None if name.split(".")[0] in self.modules else self.finder.find_spec(name, path, target)


def hide_the_rest() -> int:
    """Hide every installed module that none of ALLOWED needs; returns how many."""
    keep = needed(ALLOWED)
    hidden = {
        module
        for module, owners in packages_distributions().items()
        if module != OWN and not any(re.sub(r"[-_.]+", "-", owner).lower() in keep for owner in owners)
    }
    sys.meta_path[:] = [Hiding(finder, hidden) for finder in sys.meta_path]
    return len(hidden)


def main(folder: Path) -> None:
    """Train three steps and write the policy."""
    print(hide_the_rest())
    import torch
    from small import CONFIG, small_data, small_trainer

    from minidiffuser_ros.training.loop import Watch, train
    from minidiffuser_ros.training.metrics import Validation

    torch.set_num_threads(1)

    def embed(sentence: str) -> torch.Tensor:
        generator = torch.Generator().manual_seed(len(sentence))
        return torch.randn(len(sentence.split()), 768, generator=generator)

    assert importlib.util.find_spec("tokenizers") is None
    trainer = small_trainer(small_data(encode=embed), replace(CONFIG, steps=3))
    validation = Validation(trainer.policy, trainer.data, 2)
    train(trainer, folder, validation, watch=Watch(on_step=lambda step, losses, rate: print(losses["position"])))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
