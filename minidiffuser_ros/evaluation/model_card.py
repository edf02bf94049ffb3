"""The card of a checkpoint: how it was trained and what it was measured to do, written from the files themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from minidiffuser_ros.contract.errors import CheckpointError
from minidiffuser_ros.contract.files import replace_file
from minidiffuser_ros.evaluation.card_commands import evaluation_command, pruning_command, training_command
from minidiffuser_ros.policy.checkpoint import PolicyConfig, load_checkpoint
from minidiffuser_ros.policy.pruned import PRUNER, PrunedConfig, pruner_config
from minidiffuser_ros.simulation.shifts import SPLITS

CARD = "README.md"
Report = Mapping[str, Any]
"""What `minidiffuser evaluate --json` writes."""


def write_model_card(folder: Path, reports: Sequence[Report], recipe: str = "") -> Path:
    """Write `README.md` beside the weights and return its path.

    reports: the first one is the policy's success as such; the others, under shifts or through the graph, stand below
    it. recipe: the command that makes everything again. Raises CheckpointError where the folder does not say how it
    was trained.
    """
    config, _ = load_checkpoint(folder)
    pruner = pruner_config(folder) if (folder / PRUNER).exists() else None
    try:
        training = json.loads((folder / "training.json").read_text())
        sections = [
            *_head(folder.name, training, reports[0]),
            *_success(reports[0]),
            *_elsewhere(reports[1:]),
            *_training(config, training),
            *_interface(config),
            *_pruner(pruner),
            *_commands(config, training, [_pruned(folder, pruner)] if pruner else [], reports, recipe),
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder}/training.json does not say how the policy was trained: {error!r}") from None
    replace_file(folder / CARD, lambda path: path.write_text("\n".join([*sections, ""])))
    return folder / CARD


def reports_in(folder: Path, newest: Report) -> list[Report]:
    """The newest report and those that lie in a checkpoint as `eval*.json`, one of a kind, the plain one first.

    Raises CheckpointError for a file that is no report.
    """
    found = {_kind(newest): newest}
    for path in sorted(folder.glob("eval*.json")):
        try:
            report = json.loads(path.read_text())
            found.setdefault(_kind(report), report)
            evaluation_command(report), _success(report)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
            raise CheckpointError(f"{path} is not what `minidiffuser evaluate` writes ({error!r}): delete it") from None
    return [found[kind] for kind in sorted(found, key=lambda kind: (kind != ("none", False), kind))]


def _kind(report: Report) -> tuple[str, bool]:
    return report["shift"], report["live"]


def _head(name: str, training: Mapping[str, Any], report: Report) -> list[str]:
    count = len(report["tasks"])
    return [
        f"# {name}",
        "",
        f"A Mini-Diffuser of {training['parameters'] / 1e6:.1f} M parameters, measured on {count} "
        f"{'task' if count == 1 else 'tasks'} of the simulated table. It knows the tables and cameras of its "
        "demonstrations only: for others, make demonstrations there and train on them.",
        "",
    ]


def _success(report: Report) -> list[str]:
    unseen = "" if report["first_seed"] in SPLITS["training"] else ", none of them used in training"
    where = "Through the graph" if report["live"] else "Directly stepped simulation"
    shifted = "" if report["shift"] == "none" else f", with the shift '{report['shift']}'"
    rows = [
        f"| {task} | {rate['success']:.0%} | {rate['low']:.0%} - {rate['high']:.0%} | {rate['n']} | "
        f"{report['expert'][task]['success']:.0%} |"
        for task, rate in report["tasks"].items()
    ]
    if len(rows) > 1:
        rows.append(f"| mean | {_mean(report['tasks']):.1%} | | | {_mean(report['expert']):.1%} |")
    return [
        "## Success",
        "",
        f"{where}, seeds from {report['first_seed']}{unseen}{shifted}; Wilson 95 % intervals.",
        "",
        "| task | success | 95 % interval | episodes | scripted expert |",
        "|---|---|---|---|---|",
        *rows,
        "",
    ]


def _elsewhere(reports: Sequence[Report]) -> list[str]:
    """The other evaluations side by side, a column each."""
    if not reports:
        return []
    tasks = dict.fromkeys(task for report in reports for task in report["tasks"])
    rows = {
        task: [f"{r['tasks'][task]['success']:.0%}" if task in r["tasks"] else "" for r in reports] for task in tasks
    }
    rows["mean"] = [f"{_mean(report['tasks']):.1%}" for report in reports]
    rows["scripted expert"] = [f"{_mean(report['expert']):.1%}" for report in reports]
    rows["episodes a task"] = [str(max(rate["n"] for rate in report["tasks"].values())) for report in reports]
    names = ["through the graph" if report["live"] else report["shift"] for report in reports]
    return [
        "Through the whole graph (franky and rclpy, the arm in real time), and in scenes that differ from those of the "
        "demonstrations (docs/simulation.md); the intervals are in `eval*.json`.",
        "",
        "| task | " + " | ".join(names) + " |",
        "|" + "---|" * (1 + len(reports)),
        *(f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows.items()),
        "",
    ]


def _training(config: PolicyConfig, training: Mapping[str, Any]) -> list[str]:
    used, held_out = training["config"], training.get("held_out", {})
    start = f" from the weights of {Path(used['start']).name}" if used.get("start") else ""
    if before := training.get("before"):
        start += f", trained for {before['steps']} steps and {before['minutes']:.0f} minutes before,"
    demonstrations = ", ".join(f"{count} of {task}" for task, count in training["demonstrations"].items())
    lines = [
        "## Training",
        "",
        f"{training['steps']} steps{start} of B = {used['batch_size']} observations times M = {used['num_samples']} "
        f"noised {_diffused(config)}, AdamW at {used['learning_rate']:g} with warm-up and cosine, averaged weights; "
        f"{training['minutes']:.0f} minutes on {training['device']} with {_workers(training)}. "
        f"Demonstrations learned from: {demonstrations}; "
        f"{training['keypose_steps']} keyposes in all.",
        "",
    ]
    return [*lines, _held_out(held_out), ""] if held_out else lines


def _workers(training: Mapping[str, Any]) -> str:
    """As in "1 thread", or "2 processes of 1 thread"."""
    count, processes = training["config"]["threads"], training.get("processes", 1)
    threads = f"{count} thread{'s' * (count != 1)}"
    return threads if processes == 1 else f"{processes} processes of {threads}"


def _interface(config: PolicyConfig) -> list[str]:
    return [
        "## What it takes and gives",
        "",
        f"A cloud of at most {config.spec.max_points} coloured points in `{config.spec.policy_frame}` from the cameras "
        f"{', '.join(config.spec.cameras)}, the tool's pose and opening, and an English sentence. It answers with the "
        f"next keypose: {config.num_candidates} {_diffused(config)} are denoised in "
        f"{config.sampler.num_inference_steps} {_walk(config)}, the densest is chosen. Sentences "
        f"unlike the {len(config.instructions)} of its demonstrations (`config.json`) are refused.",
        "",
    ]


def _pruner(pruner: PrunedConfig | None) -> list[str]:
    if pruner is None:
        return []
    walk = f"{pruner.sampler.num_inference_steps} {pruner.sampler.kind.upper()} steps"
    return [
        f"A pruner lies beside it: with `sampler` set to `sag` {pruner.rate:.0%} of the denoiser's branches are "
        f"reused instead of computed, in a walk of {walk} "
        "(docs/pruning.md).",
        "",
    ]


def _pruned(folder: Path, pruner: PrunedConfig) -> str:
    """The command of a policy's pruner; one whose folder keeps no record was trained with settings unknown."""
    record = folder / PRUNER / "training.json"
    return pruning_command(pruner, json.loads(record.read_text())["config"] if record.exists() else {})


def _commands(
    config: PolicyConfig,
    training: Mapping[str, Any],
    pruned: Sequence[str],
    reports: Sequence[Report],
    recipe: str,
) -> list[str]:
    commands = [
        training_command(config, training["config"]),
        *pruned,
        *map(evaluation_command, reports),
    ]
    whole = [f"    {recipe}", "", "or by themselves:", ""] if recipe else []
    return ["## The same again", "", *whole, *(f"    {command}" for command in commands)]


def _diffused(config: PolicyConfig) -> str:
    return "positions" if config.model.rotation == "bins" else "keyposes"


def _walk(config: PolicyConfig) -> str:
    flow = config.schedule.beta_schedule == "flow_matching"
    return "Euler steps of flow matching" if flow else f"{config.sampler.kind.upper()} steps"


def _mean(rates: Mapping[str, Mapping[str, float]]) -> float:
    return sum(rate["success"] for rate in rates.values()) / len(rates)


def _held_out(metrics: Mapping[str, Any]) -> str:
    """What `training.metrics.HeldOutMetrics.to_dict` says, as a sentence."""
    return (
        f"On {metrics['steps']} held-out keyposes {metrics['within_1cm']:.1%} of the sampled positions lie within 1 cm "
        f"of the expert's, {metrics['within_2cm']:.1%} within 2 cm; the rotation is within 5° of the "
        f"expert's in {metrics['rotation_within_5deg']:.1%}, the gripper is right in {metrics['gripper_right']:.1%}."
    )
