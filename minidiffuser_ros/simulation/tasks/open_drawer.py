"""`open_drawer`: a cabinet with three drawers; pull the named one open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.simulation.stage import Stage
from minidiffuser_ros.simulation.tasks.base import Task
from minidiffuser_ros.simulation.tasks.cabinet import (
    DRAWERS,
    LEVELS,
    OPENED_AT,
    add_cabinet,
    others_shut,
    place_cabinet,
    pull_open,
)
from minidiffuser_ros.simulation.world import SceneBuilder


class OpenDrawer(Task):
    """Success: the named drawer is open by 80 % of its travel, 12 cm, and no other one by 3 cm."""

    name = "open_drawer"
    num_variations = len(LEVELS)
    max_keyposes = 6

    @classmethod
    def build(cls, scene: SceneBuilder) -> None:
        add_cabinet(scene)

    def instructions(self) -> Sequence[str]:
        level = LEVELS[self.variation]
        return (
            f"open the {level} drawer",
            f"pull the {level} drawer open",
            f"grip the {level} handle and pull the {level} drawer open",
            f"slide the {level} drawer open",
            f"pull on the {level} handle",
        )

    def held_out_instructions(self) -> Sequence[str]:
        level = LEVELS[self.variation]
        return (f"draw out the {level} drawer of the cabinet", f"the {level} drawer, open it")

    def _lay_out(self, stage: Stage, rng: np.random.Generator) -> None:
        place_cabinet(stage, rng)

    def success(self, stage: Stage) -> bool:
        asked = DRAWERS[self.variation]
        return stage.joint(asked) > OPENED_AT and others_shut(stage, asked)

    def mistake(self, stage: Stage) -> str:
        return "" if others_shut(stage, DRAWERS[self.variation]) else "wrong object"

    def expert(self, stage: Stage) -> Iterator[Keypose]:
        yield from pull_open(stage, DRAWERS[self.variation])
