"""The next batch is made ahead, and nothing else changes."""

from __future__ import annotations

import threading

import pytest

from minidiffuser_ros.training.prefetch import Prefetch


def test_batches_come_in_the_order_asked_for_whatever_the_first_step() -> None:
    with Prefetch(lambda step: step * step, last=9) as batches:
        assert [batches(step) for step in (3, 4, 5)] == [9, 16, 25]
        assert batches(1) == 1


def test_the_next_batch_is_being_made_before_it_is_asked_for_and_none_after_the_last() -> None:
    made = {step: threading.Event() for step in range(3)}

    def make(step: int) -> int:
        made[step].set()
        return step

    with Prefetch(make, last=1) as batches:
        batches(0)
        assert made[1].wait(10.0)
        batches(1)
    assert not made[2].is_set()


def test_an_error_in_the_making_is_raised_where_the_batch_is_asked_for() -> None:
    def make(step: int) -> int:
        if step == 1:
            raise ValueError("no such step")
        return step

    with Prefetch(make, last=5) as batches:
        assert batches(0) == 0
        with pytest.raises(ValueError, match="no such step"):
            batches(1)
