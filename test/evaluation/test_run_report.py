"""Laws of the table and the JSON of a series of runs."""

from __future__ import annotations

import json

import numpy as np
import pytest

from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.evaluation.run_report import STAGES, RunReport, median_latencies, summary, table
from minidiffuser_ros.policy.loop import DecisionRecord


def record(index: int, move_ms: float) -> DecisionRecord:
    return DecisionRecord(
        index=index,
        keypose=Keypose(np.array([0.5, 0.0, 0.1]), np.array([0.0, 1.0, 0.0, 0.0]), 1.0),
        stamp_ns=index,
        candidates=32,
        spread=0.01,
        steps=10,
        observe_ms=100.0 + index,
        lift_ms=20.0,
        encode_ms=30.0,
        denoise_ms=40.0,
        move_ms=move_ms,
    )


def report(success: bool, *moves: float) -> RunReport:
    decisions = tuple(record(index, move) for index, move in enumerate(moves))
    return RunReport("push_button", 3, "push the red button", success, "a sentence", 4.0, decisions)


def test_latencies_are_medians_over_decisions_and_motions_count_only_where_there_was_one() -> None:
    medians = median_latencies(report(True, 1000.0, 3000.0, 0.0).decisions)
    assert medians == {"observe": 101.0, "lift": 20.0, "encode": 30.0, "denoise": 40.0, "move": 2000.0}


def test_a_run_without_decisions_has_no_latencies_rather_than_zeros() -> None:
    assert set(median_latencies([]).values()) == {None}
    assert "–" in table([report(False)])


def test_the_summary_is_plain_json_and_counts_what_succeeded() -> None:
    result = summary([report(True, 10.0), report(False), report(True, 20.0)], 0.66, "models/small", 12.0)
    again = json.loads(json.dumps(result))
    assert (again["n"], again["succeeded"]) == (3, 2)
    assert again["success"] == pytest.approx(2 / 3)
    assert [episode["keyposes"] for episode in again["episodes"]] == [1, 0, 1]
    assert set(again["latency_ms"]) == set(STAGES)


def test_the_table_has_a_line_per_run_with_equal_columns() -> None:
    lines = table([report(True, 10.0), report(False)]).splitlines()
    assert len(lines) == 6
    assert len({len(line) for line in lines if line[0] != "-"}) == 1
    assert "1 of 2" in lines[-1]
