"""A report says how often each task succeeded, how sure that is, and why the others failed."""

from __future__ import annotations

import pytest

from minidiffuser_ros.evaluation.report import report_of, table_of
from minidiffuser_ros.evaluation.rollout import Rollout
from minidiffuser_ros.evaluation.statistics import wilson_interval


def rollout(task: str, seed: int, failure: str = "") -> Rollout:
    return Rollout(task, seed, f"do {task}", not failure, 3, failure, f"because of {failure}" if failure else "")


def some_report() -> dict[str, object]:
    policy = [rollout("push", 1), rollout("push", 2, "timeout"), rollout("push", 0, "wrong object"), rollout("turn", 0)]
    return report_of([(p, rollout(p.task, p.seed)) for p in policy], "camera")


def test_rates_and_intervals_are_those_of_each_task_and_the_mean_weighs_tasks_alike() -> None:
    report = some_report()
    low, high = wilson_interval(1, 3)
    assert report["tasks"]["push"] == {"success": pytest.approx(1 / 3), "low": low, "high": high, "n": 3}  # type: ignore[index]
    assert report["mean"] == pytest.approx((1 / 3 + 1.0) / 2)
    assert report["expert"]["push"]["success"] == 1.0  # type: ignore[index]
    assert report["shift"] == "camera"


def test_failures_are_listed_by_task_and_seed_with_their_cause() -> None:
    failures = some_report()["failures"]
    assert [(f["task"], f["seed"], f["failure"]) for f in failures] == [  # type: ignore[attr-defined]
        ("push", 0, "wrong object"),
        ("push", 2, "timeout"),
    ]


def test_the_table_has_a_line_for_each_task_with_its_causes() -> None:
    lines = table_of(some_report()).splitlines()
    assert [line.split()[0] for line in lines] == ["task", "push", "turn", "mean"]
    assert "33.3%" in lines[1]
    assert "wrong object 1" in lines[1]
    assert "timeout 1" in lines[1]
