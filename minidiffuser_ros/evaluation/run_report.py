"""Runs on the live graph as a table and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidiffuser_ros.policy.loop import DecisionRecord

STAGES = ("observe", "lift", "encode", "denoise", "move")


@dataclass(frozen=True)
class RunReport:
    """One run of the policy: what was asked, what came of it, and how long everything took."""

    task: str
    seed: int
    instruction: str
    success: bool
    message: str
    duration_s: float
    decisions: tuple[DecisionRecord, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "task": self.task,
            "seed": self.seed,
            "instruction": self.instruction,
            "success": self.success,
            "message": self.message,
            "keyposes": len(self.decisions),
            "duration_s": round(self.duration_s, 2),
            "latency_ms": median_latencies(self.decisions),
            "decisions": [_decision(record) for record in self.decisions],
        }


def median_latencies(decisions: Iterable[DecisionRecord]) -> dict[str, float | None]:
    """Median milliseconds per stage; None where there was no decision. Motions count where there was one."""
    decisions = list(decisions)
    medians: dict[str, float | None] = {}
    for stage in STAGES:
        times = [float(getattr(record, f"{stage}_ms")) for record in decisions]
        times = [t for t in times if t > 0.0] if stage == "move" else times
        medians[stage] = round(float(np.median(times)), 1) if times else None
    return medians


def summary(reports: Sequence[RunReport], required: float, checkpoint: str, duration_s: float) -> dict[str, Any]:
    """Everything about a series of runs, as plain values for JSON."""
    succeeded = sum(report.success for report in reports)
    return {
        "checkpoint": checkpoint,
        "episodes": [report.to_dict() for report in reports],
        "n": len(reports),
        "succeeded": succeeded,
        "success": succeeded / len(reports) if reports else 0.0,
        "required": required,
        "latency_ms": median_latencies(record for report in reports for record in report.decisions),
        "duration_s": round(duration_s, 1),
    }


def table(reports: Sequence[RunReport]) -> str:
    """One line per run, stages as median milliseconds, and a last line over all decisions."""
    width = max([len("instruction"), *(len(report.instruction or report.task) for report in reports)])
    head = f"{'instruction':{width}}  success  keyposes" + "".join(f"{stage:>9}" for stage in STAGES) + "   total"
    lines = [head, "-" * len(head)]
    for report in reports:
        name, verdict = report.instruction or report.task, "yes" if report.success else "no"
        lines.append(
            f"{name:{width}}  {verdict:7}  {len(report.decisions):8d}"
            + _columns(median_latencies(report.decisions))
            + f"{report.duration_s:6.1f} s"
        )
    every = [record for report in reports for record in report.decisions]
    succeeded, total_s = sum(report.success for report in reports), sum(report.duration_s for report in reports)
    lines.append("-" * len(head))
    lines.append(
        f"{'all (medians in ms)':{width}}  {f'{succeeded} of {len(reports)}':7}  {len(every):8d}"
        + _columns(median_latencies(every))
        + f"{total_s:6.1f} s"
    )
    return "\n".join(lines)


def _columns(latencies: dict[str, float | None]) -> str:
    return "".join(f"{'–' if latencies[stage] is None else f'{latencies[stage]:.0f}':>9}" for stage in STAGES)


def _decision(record: DecisionRecord) -> dict[str, Any]:
    return {
        "index": record.index,
        "position": [round(float(v), 4) for v in record.keypose.position],
        "quat_wxyz": [round(float(v), 4) for v in record.keypose.quat_wxyz],
        "opening": round(record.keypose.opening, 3),
        "holds": record.holds,
        "candidates": record.candidates,
        "spread_m": round(record.spread, 4),
        "sampler": record.sampler,
        "denoising_steps": record.steps,
        "pruned": round(record.pruned, 4),
        "fell_back": record.fell_back,
        **{f"{stage}_ms": round(float(getattr(record, f"{stage}_ms")), 1) for stage in STAGES},
    }
