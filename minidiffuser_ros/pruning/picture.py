"""What a walk computed and what it reused, as a picture: steps across, branches down, as in SAG's figure 6.

Drawn with pillow alone, and without torch: the graph shows it, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

BACKGROUND, INK, SOFT = (250, 250, 248), (30, 30, 30), (120, 120, 120)
REUSED, DOUBTED = (222, 224, 230), (205, 30, 30)
# Computed; one colour a kind of branch, others take the last.
COMPUTED = {"attention": (30, 90, 180), "mlp": (230, 120, 30), "local": (40, 150, 80)}
OTHER = (110, 70, 170)
TALL, MARGIN, LABEL, TITLE, AXIS = 13, 8, 96, 24, 20
WIDTH = 800  # of all steps together, about
FONT, SMALL = ImageFont.load_default(14), ImageFont.load_default(11)


@dataclass(frozen=True)
class MaskRow:
    """One decision: a title, its mask [K, U], True = reused, and the names of its U branches.

    doubted: why its answer was not believed, and the whole walk taken; empty where it was.
    """

    title: str
    mask: NDArray[np.bool_]
    branches: Sequence[str]
    doubted: str = ""


def draw_masks(rows: Sequence[MaskRow]) -> Image.Image:
    """One block a decision; the first, noisiest step is on the left."""
    heights = [TITLE + TALL * row.mask.shape[1] + AXIS + MARGIN for row in rows]
    cells = [max(1, WIDTH // row.mask.shape[0]) for row in rows]
    width = max((cell * row.mask.shape[0] for cell, row in zip(cells, rows, strict=True)), default=WIDTH)
    picture = Image.new("RGB", (LABEL + max(width, WIDTH) + 2 * MARGIN, MARGIN + sum(heights)), BACKGROUND)
    draw, top = ImageDraw.Draw(picture), MARGIN
    for row, cell, height in zip(rows, cells, heights, strict=True):
        _draw_row(draw, row, cell, top)
        top += height
    return picture


def _draw_row(draw: ImageDraw.ImageDraw, row: MaskRow, cell: int, top: int) -> None:
    steps, left = len(row.mask), MARGIN + LABEL
    share = f"{row.mask.mean():.0%} of {row.mask.size} reused, {int((~row.mask).sum())} computed"
    draw.text((MARGIN, top), f"{row.title}: {share}" if row.title else share, INK, FONT)
    if row.doubted:
        draw.text((left + cell * steps, top), f"doubted: {row.doubted}", DOUBTED, FONT, anchor="ra")
    top += TITLE
    for index, (name, column) in enumerate(zip(row.branches, row.mask.T, strict=True)):
        y, color = top + index * TALL, COMPUTED.get(name.rpartition(".")[2], OTHER)
        draw.text((left - 6, y + TALL // 2), name, INK, SMALL, anchor="rm")
        for step, reused in enumerate(column):
            box = (left + step * cell, y, left + (step + 1) * cell - 1 - (cell > 3), y + TALL - 2)
            draw.rectangle(box, fill=REUSED if reused else color)
    bottom = top + TALL * len(row.branches) + 2
    for step in sorted({0, *range(9, steps, 10), steps - 1}) if steps <= 200 else (0, steps - 1):
        draw.text((left + step * cell + cell // 2, bottom), f"{step + 1}", SOFT, SMALL, anchor="ma")
    draw.text((left - 6, bottom), "step", SOFT, SMALL, anchor="ra")
