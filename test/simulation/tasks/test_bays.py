"""What slides or is dragged counts in the bay of the named colour only."""

from __future__ import annotations

import pytest
from bays import DRAGGED, SLID, BayTask

from minidiffuser_ros.simulation.tabletop import Tabletop

TASKS = (DRAGGED, SLID)


@pytest.mark.parametrize("case", TASKS, ids=lambda case: case.task)
@pytest.mark.parametrize(("nearer_than_allowed", "done"), [(None, True), (0.001, True), (-0.001, False)])
def test_the_thing_counts_where_it_lies_in_the_bay(
    world: Tabletop, case: BayTask, nearer_than_allowed: float | None, done: bool
) -> None:
    world.reset(case.task, 5)
    case.put(world, case.bays[0], 0.0 if nearer_than_allowed is None else case.at_target - nearer_than_allowed)
    assert world.success() == done


@pytest.mark.parametrize(("case", "bay"), [(case, bay) for case in TASKS for bay in case.bays[1:]])
def test_a_bay_of_another_colour_is_a_wrong_object(world: Tabletop, case: BayTask, bay: str) -> None:
    world.reset(case.task, 5)
    case.put(world, bay)
    assert not world.success()
    assert world.mistake() == "wrong object"
