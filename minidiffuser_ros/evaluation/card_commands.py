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


def training_command(policy: PolicyConfig, used: Mapping[str, Any]) -> str:
    """`minidiffuser train` with every setting that it can be given; used: the training's own settings."""
    said = {flag: used[name] for name, flag in TRAINING_FLAGS.items() if used.get(name) is not None}
    words = [f"--{flag} {value}" for flag, value in {**said, "schedule": policy.schedule.beta_schedule}.items()]
    return " ".join(["minidiffuser train DATA --out POLICY", *words])


def pruning_command(pruner: PrunedConfig) -> str:
    """`minidiffuser prune` that a pruner came from; how long it was trained is not kept beside it."""
    words = [f"--rate {pruner.rate:g} --sampler {pruner.sampler.kind}"]
    words.append(f"--sampler-steps {pruner.sampler.num_inference_steps}")
    if not pruner.shared:
        words.append("--own-buffers")
    return " ".join(["minidiffuser prune POLICY --data DATA", *words])


def evaluation_command(report: Mapping[str, Any]) -> str:
    """`minidiffuser evaluate` that a report came from."""
    counts = [int(rate["n"]) for rate in report["tasks"].values()]
    words = ["--tasks", *report["tasks"], f"--episodes {max(counts)} --seed {report['first_seed']}"]
    if report["shift"] != "none":
        words.append(f"--shift {report['shift']}")
    if report["live"]:
        words.append("--live")
    return " ".join(["minidiffuser evaluate POLICY", *words])
