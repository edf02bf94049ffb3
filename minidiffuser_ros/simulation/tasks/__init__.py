"""The tasks, one file each, and the table that names them."""

from __future__ import annotations

from minidiffuser_ros.contract.errors import UnknownTaskError
from minidiffuser_ros.simulation.tasks.base import Task
from minidiffuser_ros.simulation.tasks.close_jar import CloseJar
from minidiffuser_ros.simulation.tasks.insert_ring_on_peg import InsertRingOnPeg
from minidiffuser_ros.simulation.tasks.push_button import PushButton
from minidiffuser_ros.simulation.tasks.push_buttons import PushButtons
from minidiffuser_ros.simulation.tasks.sort_shape import SortShape
from minidiffuser_ros.simulation.tasks.stack_blocks import StackBlocks
from minidiffuser_ros.simulation.tasks.stack_pair import StackPair
from minidiffuser_ros.simulation.tasks.turn_tap import TurnTap

TASKS: dict[str, type[Task]] = {
    task.name: task
    for task in (
        CloseJar,
        InsertRingOnPeg,
        PushButton,
        PushButtons,
        SortShape,
        StackBlocks,
        StackPair,
        TurnTap,
    )
}


def make_task(name: str) -> Task:
    """A fresh task by name. Raises UnknownTaskError naming the tasks there are."""
    if name not in TASKS:
        raise UnknownTaskError(f"there is no task '{name}'; choose one of {', '.join(sorted(TASKS))}")
    return TASKS[name]()
