"""The safety envelope leaves every task's expert room: nothing a demonstration needs is near a limit of the posture."""

from __future__ import annotations

import pytest

from minidiffuser_ros.arm.envelope import SafetyEnvelope
from minidiffuser_ros.arm.goal import KeyposeGoal
from minidiffuser_ros.arm.limits import SafetyLimits
from minidiffuser_ros.simulation.tabletop import Tabletop, shared_world
from minidiffuser_ros.simulation.tasks import TASKS

# Twice the margin from singular postures, half of what the elbow may swing.
STRICT = SafetyEnvelope(
    SafetyLimits(
        min_singular_value=2.0 * SafetyLimits.min_singular_value,
        max_elbow_turn_rad=0.5 * SafetyLimits.max_elbow_turn_rad,
    )
)


@pytest.fixture(scope="module")
def world() -> Tabletop:
    return shared_world()


@pytest.mark.parametrize("task", TASKS)
def test_every_motion_of_an_expert_keeps_far_from_singular_postures_and_its_elbow_up(
    world: Tabletop, task: str
) -> None:
    world.reset(task, seed=3)
    count = 0
    for keypose in world.expert():
        assert STRICT.check(KeyposeGoal(keypose), world.arm.state, world.stamp_ns()) == []
        world.execute(keypose)
        count += 1
    assert count > 0
    assert world.success()
