"""The command lines that a model card quotes, from what the files of its checkpoint say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minidiffuser_ros.policy.checkpoint import PolicyConfig
from minidiffuser_ros.policy.pruned import PrunedConfig

TRAINING_FLAGS = {
    "start": "from", "steps": "steps", "batch_size": "batch-size", "num_samples": "num-samples",
    "learning_rate": "learning-rate", "loss": "loss", "seed": "seed", "threads": "threads",
}  # fmt: skip

PRUNING_FLAGS = {
    "steps": "steps", "batch_size": "batch-size", "learning_rate": "learning-rate", "fraction": "fraction",
    "teacher": "teacher", "seed": "seed",
}  # fmt: skip


def training_command(policy: PolicyConfig, used: Mapping[str, Any]) -> str:
    """`minidiffuser train` with every setting that it can be given; used: the training's own settings."""
    schedule = f"--schedule {policy.schedule.beta_schedule}"
    return " ".join(["minidiffuser train DATA --out POLICY", *_said(used, TRAINING_FLAGS), schedule])


def _said(used: Mapping[str, Any], flags: Mapping[str, str]) -> list[str]:
    """The options that give these settings; flags: of each setting its option."""
    return [f"--{flag} {used[name]}" for name, flag in flags.items() if used.get(name) is not None]


def pruning_command(pruner: PrunedConfig, used: Mapping[str, Any]) -> str:
    """`minidiffuser prune` that a pruner came from; used: the settings of its training, where they were kept."""
    words = [f"--rate {pruner.rate:g} --sampler {pruner.sampler.kind}"]
    words.append(f"--sampler-steps {pruner.sampler.num_inference_steps}")
    if not pruner.shared:
        words.append("--own-buffers")
    if used.get("per_branch"):
        words.append("--rate-per-branch")
    return " ".join(["minidiffuser prune POLICY --data DATA", *words, *_said(used, PRUNING_FLAGS)])


def evaluation_command(report: Mapping[str, Any]) -> str:
    """`minidiffuser evaluate` that a report came from."""
    counts = [int(rate["n"]) for rate in report["tasks"].values()]
    words = ["--tasks", *report["tasks"], f"--episodes {max(counts)} --seed {report['first_seed']}"]
    if report["shift"] != "none":
        words.append(f"--shift {report['shift']}")
    if report["live"]:
        words.append("--live")
    return " ".join(["minidiffuser evaluate POLICY", *words])
