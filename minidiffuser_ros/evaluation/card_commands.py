"""The command lines that a model card quotes, from what the files of its checkpoint say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minidiffuser_ros.policy.checkpoint import PolicyConfig

TRAINING_FLAGS = {
    "start": "from", "steps": "steps", "batch_size": "batch-size", "num_samples": "num-samples",
    "learning_rate": "learning-rate", "loss": "loss", "seed": "seed", "threads": "threads",
}  # fmt: skip


def training_command(policy: PolicyConfig, used: Mapping[str, Any]) -> str:
    """`minidiffuser train` with every setting that it can be given; used: the training's own settings."""
    said = {flag: used[name] for name, flag in TRAINING_FLAGS.items() if used.get(name) is not None}
    words = [f"--{flag} {value}" for flag, value in {**said, "schedule": policy.schedule.beta_schedule}.items()]
    return " ".join(["minidiffuser train DATA --out POLICY", *words])


def evaluation_command(report: Mapping[str, Any]) -> str:
    """`minidiffuser evaluate` that a report came from."""
    counts = [int(rate["n"]) for rate in report["tasks"].values()]
    words = ["--tasks", *report["tasks"], f"--episodes {max(counts)} --seed {report['first_seed']}"]
    if report["shift"] != "none":
        words.append(f"--shift {report['shift']}")
    if report["live"]:
        words.append("--live")
    return " ".join(["minidiffuser evaluate POLICY", *words])
