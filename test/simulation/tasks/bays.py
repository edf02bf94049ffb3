"""Tasks that end with a thing in a bay."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minidiffuser_ros.geometry.transform import apply
from minidiffuser_ros.simulation.tabletop import Tabletop
from minidiffuser_ros.simulation.tasks import drag_with_stick, slide_block_to_target


@dataclass(frozen=True)
class BayTask:
    """A task: the thing that is moved and its height in the bay, the bays (the right one first), how near counts."""

    task: str
    thing: str
    height: float
    bays: tuple[str, ...]
    at_target: float

    def put(self, world: Tabletop, bay: str, short_of: float = 0.0) -> None:
        """Put the thing in a bay, or so many metres before the middle."""
        place = apply(world.stage.transform(bay), np.array([[-short_of, 0.0, self.height]]))[0]
        world.stage.place(self.thing, place, world.stage.yaw(bay))
        world.stage.settle()


DRAGGED = BayTask(
    "drag_with_stick",
    drag_with_stick.CUBE,
    drag_with_stick.CUBE_HALF_SIZE,
    drag_with_stick.BAYS,
    drag_with_stick.AT_TARGET,
)
SLID = BayTask(
    "slide_block_to_target",
    slide_block_to_target.BLOCK,
    slide_block_to_target.HALF_HEIGHT,
    slide_block_to_target.BAYS,
    slide_block_to_target.AT_TARGET,
)
