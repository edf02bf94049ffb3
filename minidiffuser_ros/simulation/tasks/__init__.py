"""The tasks, one file each, and the table that names them."""

from __future__ import annotations

from minidiffuser_ros.contract.errors import UnknownTaskError
from minidiffuser_ros.simulation.tasks.base import Task
from minidiffuser_ros.simulation.tasks.close_jar import CloseJar
from minidiffuser_ros.simulation.tasks.drag_with_stick import DragWithStick
from minidiffuser_ros.simulation.tasks.insert_ring_on_peg import InsertRingOnPeg
from minidiffuser_ros.simulation.tasks.meat_off_grill import MeatOffGrill
from minidiffuser_ros.simulation.tasks.open_drawer import OpenDrawer
from minidiffuser_ros.simulation.tasks.push_button import PushButton
from minidiffuser_ros.simulation.tasks.push_buttons import PushButtons
from minidiffuser_ros.simulation.tasks.put_item_in_drawer import PutItemInDrawer
from minidiffuser_ros.simulation.tasks.put_item_on_shelf import PutItemOnShelf
from minidiffuser_ros.simulation.tasks.slide_block_to_target import SlideBlockToTarget
from minidiffuser_ros.simulation.tasks.sort_shape import SortShape
from minidiffuser_ros.simulation.tasks.stack_blocks import StackBlocks
from minidiffuser_ros.simulation.tasks.stack_pair import StackPair
from minidiffuser_ros.simulation.tasks.sweep_to_dustpan import SweepToDustpan
from minidiffuser_ros.simulation.tasks.turn_tap import TurnTap

TASKS: dict[str, type[Task]] = {
    task.name: task
    for task in (
        CloseJar,
        DragWithStick,
        InsertRingOnPeg,
        MeatOffGrill,
        OpenDrawer,
        PushButton,
        PushButtons,
        PutItemInDrawer,
        PutItemOnShelf,
        SlideBlockToTarget,
        SortShape,
        StackBlocks,
        StackPair,
        SweepToDustpan,
        TurnTap,
    )
}


def make_task(name: str) -> Task:
    """A fresh task by name. Raises UnknownTaskError naming the tasks there are."""
    if name not in TASKS:
        raise UnknownTaskError(f"there is no task '{name}'; choose one of {', '.join(sorted(TASKS))}")
    return TASKS[name]()
