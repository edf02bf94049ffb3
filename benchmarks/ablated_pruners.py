"""Pruners with and without what SAG's table 4 takes away: trained once each, and kept in a folder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from minidiffuser_ros.contract.files import make_folder
from minidiffuser_ros.policy.policy import Policy
from minidiffuser_ros.policy.pruned import PrunedWalks, fingerprint
from minidiffuser_ros.training.dataset import DemonstrationSet
from minidiffuser_ros.training.pruning import PrunerTrainer, PruningConfig
from minidiffuser_ros.training.state import STATE

SAVE_EVERY = 5  # steps of the optimiser
BATCH_SIZE = 16


@dataclass(frozen=True)
class Ablation:
    """What a pruner is trained with. shared: one buffer for all branches of a kind; per_branch: the rate of each."""

    name: str
    shared: bool = True
    per_branch: bool = False

    def config(self, rate: float, steps: int) -> PruningConfig:
        """Of its training."""
        config = PruningConfig(rate=rate, steps=steps, batch_size=BATCH_SIZE)
        return replace(config, shared=self.shared, per_branch=self.per_branch)


ABLATIONS = (Ablation("sag"), Ablation("own-buffers", shared=False), Ablation("rate-per-branch", per_branch=True))


def trained_pruner(
    ablation: Ablation, rate: float, steps: int, checkpoint: Path, data: DemonstrationSet, out: Path
) -> PrunedWalks:
    """The pruner of this ablation, rate and number of steps in a folder below `out`; what is missing is trained."""
    policy = Policy.load(checkpoint)
    trainer = PrunerTrainer(ablation.config(rate, steps), policy, data)
    folder = out / f"{ablation.name}-{rate:g}-{steps}"
    make_folder(folder)
    if (folder / STATE).exists():
        trainer.resume(folder)
    with tqdm(total=steps, initial=trainer.step_number, unit="step", desc=folder.name) as bar:
        while trainer.step_number < steps:
            bar.set_postfix({name: f"{value:.4f}" for name, value in trainer.step().items()})
            bar.update()
            if trainer.step_number % SAVE_EVERY == 0 or trainer.step_number == steps:
                trainer.save_state(folder)
    return trainer.trained(fingerprint(checkpoint))
