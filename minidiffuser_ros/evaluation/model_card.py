"""The card of a checkpoint: how it was trained and what it was measured to do, written from the files themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minidiffuser_ros.contract.errors import CheckpointError
from minidiffuser_ros.contract.files import replace_file
from minidiffuser_ros.policy.checkpoint import PolicyConfig, load_checkpoint
from minidiffuser_ros.simulation.shifts import SPLITS

CARD = "README.md"


def write_model_card(folder: Path, report: Mapping[str, Any], first_seed: int) -> Path:
    """Write `README.md` beside the weights and return its path; `report` is what `minidiffuser evaluate` writes.

    Raises CheckpointError where the folder does not say how it was trained.
    """
    config, _ = load_checkpoint(folder)
    try:
        training = json.loads((folder / "training.json").read_text())
        text = _card(folder.name, config, training, report, first_seed)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder}/training.json does not say how the policy was trained: {error!r}") from None
    replace_file(folder / CARD, lambda path: path.write_text(text))
    return folder / CARD


def _card(
    name: str, config: PolicyConfig, training: Mapping[str, Any], report: Mapping[str, Any], first_seed: int
) -> str:
    used, held_out = training["config"], training.get("held_out", {})
    diffused = "positions" if config.model.rotation == "bins" else "keyposes"
    demonstrations = ", ".join(f"{count} of {task}" for task, count in training["demonstrations"].items())
    unseen = ", none of them used in training" if first_seed not in SPLITS["training"] else ""
    rows = [
        f"| {task} | {rate['success']:.0%} | {rate['low']:.0%} - {rate['high']:.0%} | {rate['n']} | "
        f"{report['expert'][task]['success']:.0%} |"
        for task, rate in report["tasks"].items()
    ]
    lines = [
        f"# {name}",
        "",
        f"A Mini-Diffuser of {training['parameters'] / 1e6:.1f} M parameters, measured on {len(rows)} "
        f"{'task' if len(rows) == 1 else 'tasks'} of the simulated table. It knows the tables and cameras of its "
        "demonstrations only: for others, make demonstrations there and train on them.",
        "",
        "## Success",
        "",
        f"Directly stepped simulation, seeds from {first_seed}{unseen}{_shifted(report)}; Wilson 95 % intervals.",
        "",
        "| task | success | 95 % interval | episodes | scripted expert |",
        "|---|---|---|---|---|",
        *rows,
        "",
        "## Training",
        "",
        f"{training['steps']} steps of B = {used['batch_size']} observations times M = {used['num_samples']} noised "
        f"{diffused}, AdamW at {used['learning_rate']:g} with warm-up and cosine, averaged weights; "
        f"{training['minutes']:.0f} minutes on {training['device']} with {used['threads']} "
        f"{'thread' if used['threads'] == 1 else 'threads'}. Demonstrations learned from: {demonstrations}; "
        f"{training['keypose_steps']} keyposes in all.",
        "",
    ]
    if held_out:
        lines += [_held_out(held_out), ""]
    lines += [
        "## What it takes and gives",
        "",
        f"A cloud of at most {config.spec.max_points} coloured points in `{config.spec.policy_frame}` from the cameras "
        f"{', '.join(config.spec.cameras)}, the tool's pose and opening, and an English sentence. It answers with the "
        f"next keypose: {config.num_candidates} {diffused} are denoised in {config.sampler.num_inference_steps} "
        f"{config.sampler.kind.upper()} steps, the densest is chosen. Sentences unlike the "
        f"{len(config.instructions)} of its demonstrations (`config.json`) are refused.",
        "",
    ]
    return "\n".join(lines)


def _shifted(report: Mapping[str, Any]) -> str:
    shift = report.get("shift", "none")
    return "" if shift == "none" else f", with the shift '{shift}'"


def _held_out(metrics: Mapping[str, Any]) -> str:
    """What `training.metrics.HeldOutMetrics.to_dict` says, as a sentence."""
    return (
        f"On {metrics['steps']} held-out keyposes {metrics['within_1cm']:.1%} of the sampled positions lie within 1 cm "
        f"of the expert's, {metrics['within_2cm']:.1%} within 2 cm; the rotation is within 5° of the "
        f"expert's in {metrics['rotation_within_5deg']:.1%}, the gripper is right in {metrics['gripper_right']:.1%}."
    )
