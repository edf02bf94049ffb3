"""The page of all tasks, docs/tasks.md, with a strip of pictures for each: before every keypose and at the end.

python scripts/draw_tasks.py [TASK ...]
"""

from __future__ import annotations

import argparse
import inspect
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from minidiffuser_ros.contract.files import replace_file
from minidiffuser_ros.simulation.tabletop import Tabletop
from minidiffuser_ros.simulation.tasks import TASKS

DOCS = Path(__file__).parents[1] / "docs"
SEED = 200_003
TILE = (212, 120)
HEAD = """# The tasks

Written by `python scripts/draw_tasks.py`. Each strip shows what the front camera (above) and the one at the wrist
(below) see before every keypose of the scripted expert, and when it is done (test seed {seed}).

{count} tasks, {variations} variations. Fewer are drawn in training where combinations are held back
(docs/simulation.md).
"""


def main() -> None:
    """Draw the strips named, or all, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(TASKS)} (default: all)")
    wanted = parser.parse_args().tasks or list(TASKS)
    world = Tabletop()
    entries = []
    for name in TASKS:
        if name in wanted:
            strip = _strip(world, name)
            replace_file(
                DOCS / "tasks" / f"{name}.jpg",
                lambda path, strip=strip: strip.save(path, format="JPEG", quality=82),  # type: ignore[misc]
            )
        entries.append(_entry(world, name))
    world.close()
    head = HEAD.format(seed=SEED, count=len(TASKS), variations=sum(t.num_variations for t in TASKS.values()))
    page = "\n".join([head, *entries])
    replace_file(DOCS / "tasks.md", lambda path: path.write_text(page))


def _strip(world: Tabletop, task: str) -> Image.Image:
    """One column before each keypose and one at the end."""
    world.reset(task, SEED)
    columns = []
    for keypose in world.expert():
        columns.append(_column(world))
        world.execute(keypose)
    columns.append(_column(world))
    if not world.success():
        raise SystemExit(f"the expert of {task} failed: no picture of it is shown")
    return Image.fromarray(np.concatenate(columns, axis=1))


def _column(world: Tabletop) -> NDArray[np.uint8]:
    tiles = [Image.fromarray(world.picture(camera)).resize(TILE) for camera in ("front", "wrist")]
    return np.concatenate([np.pad(np.array(tile), ((1, 1), (1, 1), (0, 0)), constant_values=255) for tile in tiles])


def _entry(world: Tabletop, name: str) -> str:
    sentence = world.reset(name, SEED)
    held_out = len(TASKS[name].held_out)
    kept = f", {held_out} held back" if held_out else ""
    others = "; ".join(f"“{said}”" for said in world.task.instructions()[1:3])
    return (
        f"## `{name}`\n\n{inspect.getdoc(TASKS[name])}\n\n"
        f"{TASKS[name].num_variations} variations{kept}; at most {TASKS[name].max_keyposes} keyposes. "
        f"“{sentence}”, or: {others}.\n\n![{sentence}](tasks/{name}.jpg)\n"
    )


if __name__ == "__main__":
    main()
