"""Checkpoints of `mini_diffuser_small` keep their meaning: it computes what it computed when they were made."""

from __future__ import annotations

import json
from typing import Any

import pytest
from golden_small import GOLDEN, compute


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    return json.loads(GOLDEN.read_text())


@pytest.fixture(scope="module")
def now() -> dict[str, Any]:
    return compute()


@pytest.mark.parametrize("name", ["displacement", "rotation", "gripper"])
def test_the_small_network_gives_the_outputs_written_down(golden: dict, now: dict, name: str) -> None:
    assert now[name] == pytest.approx(golden[name], rel=1e-4, abs=1e-5)


def test_the_small_network_has_the_parameters_written_down(golden: dict, now: dict) -> None:
    shapes = [{name: row[0] for name, row in result["parameters"].items()} for result in (golden, now)]
    assert list(shapes[0].items()) == list(shapes[1].items())


def test_the_small_network_has_the_gradients_written_down(golden: dict, now: dict) -> None:
    for name, (_, norm, along) in golden["parameters"].items():
        assert now["parameters"][name][1] == pytest.approx(norm, rel=1e-3, abs=1e-6), name
        assert now["parameters"][name][2] == pytest.approx(along, rel=1e-3, abs=1e-3 * norm + 1e-6), name


def test_the_golden_gradients_reach_every_parameter_but_one_that_softmax_hides(golden: dict) -> None:
    silent = [name for name, (_, norm, _) in golden["parameters"].items() if norm < 1e-6]
    assert silent == ["text_pool.bias"]
