"""Why an episode did not succeed, in a word."""

from __future__ import annotations

from minidiffuser_ros.simulation.tabletop import Tabletop

UNREACHABLE, MISSED_GRASP, WRONG_OBJECT = "unreachable", "missed grasp", "wrong object"
TIMEOUT, HELD_STILL, NOTHING_SEEN = "timeout", "held still", "nothing seen"
EMPTY_OPENING = 0.02  # of the full width: closed farther than any object is thick


def failure_of(world: Tabletop, otherwise: str) -> str:
    """What went wrong, read from the world as it is at the end; `otherwise` is how the episode ended."""
    if world.mistake():
        return WRONG_OBJECT
    if world.task.grasps and world.arm.asked_opening == 0.0 and world.arm.opening < EMPTY_OPENING:
        return MISSED_GRASP
    return otherwise
