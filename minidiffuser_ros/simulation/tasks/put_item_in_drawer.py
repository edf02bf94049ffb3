"""`put_item_in_drawer`: a small box lies on a cabinet; open the named drawer and put it in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.geometry.transform import apply
from minidiffuser_ros.simulation.stage import Stage
from minidiffuser_ros.simulation.tasks.base import CLOSED, COLOR_NAMES, OPEN, STILL, Task, smallest_yaw
from minidiffuser_ros.simulation.tasks.cabinet import (
    CABINET,
    CABINET_TOP,
    DRAWERS,
    FACING_TILT,
    LEVELS,
    above,
    add_cabinet,
    aim,
    face,
    inside_drawer,
    others_shut,
    over_drawer,
    place_cabinet,
    pull_open,
)
from minidiffuser_ros.simulation.tasks.objects import add_block
from minidiffuser_ros.simulation.world import SceneBuilder

ITEM, ITEM_HALF_SIZE = "item", 0.02
COLORS = COLOR_NAMES[:8]
SPREAD = (0.04, 0.05)  # m from the middle of the cabinet, along its depth and its width
MAX_YAW = np.deg2rad(35.0)  # against the cabinet
HOVER, LIFT = 0.09, 0.10  # m above where the fingers close
ABOVE = 0.33  # m above the table, over the open drawer: the hand passes the cabinet's edge
GAP = 0.018  # m the item is let fall
RELEASED_WIDTH = 2 * ITEM_HALF_SIZE + 0.006


class PutItemInDrawer(Task):
    """Success: the box lies in the named drawer, released, still, and no other drawer is open by 3 cm."""

    name = "put_item_in_drawer"
    num_variations = len(LEVELS)
    max_keyposes = 14

    @classmethod
    def build(cls, scene: SceneBuilder) -> None:
        add_cabinet(scene)
        add_block(scene, ITEM, ITEM_HALF_SIZE)

    def instructions(self) -> Sequence[str]:
        level = LEVELS[self.variation]
        return (
            f"put the item in the {level} drawer",
            f"put the box away in the {level} drawer",
            f"open the {level} drawer and place the item inside of it",
            f"open the {level} drawer, take the box from the cabinet and drop it into the drawer",
            f"leave the {level} drawer open with the box in it",
        )

    def held_out_instructions(self) -> Sequence[str]:
        level = LEVELS[self.variation]
        return (f"store the box inside the {level} drawer", f"the item belongs into the {level} drawer, put it there")

    def _lay_out(self, stage: Stage, rng: np.random.Generator) -> None:
        place_cabinet(stage, rng)
        stage.settle()
        along, across = rng.uniform(-1.0, 1.0, 2) * SPREAD
        place = apply(stage.transform(CABINET), np.array([along, across, CABINET_TOP + ITEM_HALF_SIZE]))
        stage.place(ITEM, place, stage.yaw(CABINET) + rng.uniform(-MAX_YAW, MAX_YAW))
        stage.paint(ITEM, str(rng.choice(COLORS)))

    def success(self, stage: Stage) -> bool:
        asked = DRAWERS[self.variation]
        inside = inside_drawer(stage, asked, stage.position(ITEM))
        let_go = stage.finger_opening > RELEASED_WIDTH and stage.speed(ITEM) < STILL
        return bool(inside and let_go and others_shut(stage, asked))

    def mistake(self, stage: Stage) -> str:
        return "" if others_shut(stage, DRAWERS[self.variation]) else "wrong object"

    def expert(self, stage: Stage) -> Iterator[Keypose]:
        drawer = DRAWERS[self.variation]
        inwards = stage.yaw(CABINET) + np.pi
        pulled = None
        for pulled in pull_open(stage, drawer):
            yield pulled
        assert pulled is not None
        yield Keypose(pulled.position, pulled.quat_wxyz, OPEN)
        yield face(stage)
        item = stage.position(ITEM)
        # The hand keeps its tilt from here on, so that the box comes to lie flat.
        towards = inwards + smallest_yaw(stage.yaw(ITEM) - inwards)
        yield aim(above(item, HOVER), towards, FACING_TILT, OPEN)
        yield aim(item, towards, FACING_TILT, CLOSED)
        yield aim(above(item, LIFT), towards, FACING_TILT, CLOSED)
        place = over_drawer(stage, drawer)
        yield aim((place[0], place[1], ABOVE), inwards, FACING_TILT, CLOSED)
        yield aim(above(place, ITEM_HALF_SIZE + GAP), inwards, FACING_TILT, OPEN)
