"""What an evaluation found, as JSON and as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from minidiffuser_ros.evaluation.rollout import Rollout
from minidiffuser_ros.evaluation.rollout_log import Pair
from minidiffuser_ros.evaluation.statistics import wilson_interval


def report_of(pairs: Sequence[Pair], shift: str, live: bool = False) -> dict[str, Any]:
    """Success of policy and expert per task with Wilson intervals, and why the others failed.

    live: the policy's scenes went through the graph; the expert's never do.
    """
    policy, expert = [p for p, _ in pairs], [e for _, e in pairs]
    tasks = rates_of(policy)
    failures = sorted((r for r in policy if not r.success), key=lambda r: (r.task, r.seed))
    return {
        "shift": shift,
        "live": live,
        "first_seed": min(r.seed for r in policy),
        "tasks": tasks,
        "mean": sum(rate["success"] for rate in tasks.values()) / len(tasks),
        "expert": rates_of(expert),
        "failures": [
            {key: getattr(r, key) for key in ("task", "seed", "instruction", "failure", "reason")} for r in failures
        ],
    }


def rates_of(rollouts: Sequence[Rollout]) -> dict[str, dict[str, float]]:
    """Share of successes, its 95 % interval and the number of episodes, task by task."""
    rates = {}
    for task in dict.fromkeys(rollout.task for rollout in rollouts):
        results = [r.success for r in rollouts if r.task == task]
        low, high = wilson_interval(sum(results), len(results))
        rates[task] = {"success": sum(results) / len(results), "low": low, "high": high, "n": len(results)}
    return rates


def table_of(report: Mapping[str, Any]) -> str:
    """One line a task."""
    width = max(len(task) for task in [*report["tasks"], "task"]) + 2
    lines = [f"{'task':<{width}}{'success':>9}{'95 % interval':>18}{'n':>5}{'expert':>9}  failures"]
    for task, rate in report["tasks"].items():
        interval = f"{rate['low']:.1%} - {rate['high']:.1%}"
        causes = Counter(f["failure"] for f in report["failures"] if f["task"] == task)
        lines.append(
            f"{task:<{width}}{rate['success']:>9.1%}{interval:>18}{rate['n']:>5}"
            f"{report['expert'][task]['success']:>9.1%}  "
            + ", ".join(f"{cause} {count}" for cause, count in causes.most_common())
        )
    return "\n".join([*lines, f"{'mean':<{width}}{report['mean']:>9.1%}"])
