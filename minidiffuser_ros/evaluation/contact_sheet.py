"""A contact sheet: what the policy saw and chose, one row per run, drawn into the pictures of one camera.

Candidates are dots, green where the gripper would be open and orange where closed; the chosen keypose is a ring
with the line of its approach; the last picture carries a tick or a cross.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.geometry.camera import PinholeCamera
from minidiffuser_ros.geometry.rotation import matrix_from_quat
from minidiffuser_ros.geometry.transform import apply, invert

Array = NDArray[np.float64]

TILE_WIDTH, MARGIN, TITLE_HEIGHT = 400, 6, 26
APPROACH_LENGTH = 0.08
DOT_RADIUS, RING_RADIUS, MARK_SIZE = 3, 10, 44
FONT = ImageFont.load_default(15)
BACKGROUND, INK = (250, 250, 248), (30, 30, 30)
OPEN_COLOR, CLOSED_COLOR, CHOSEN_COLOR = (40, 190, 70), (255, 140, 20), (235, 20, 140)
TICK_COLOR, CROSS_COLOR = (20, 150, 60), (205, 30, 30)


@dataclass(frozen=True)
class Shot:
    """One decision: the picture [H, W, 3] before it, where its candidates [N, 3] lie in metres in the policy frame,
    whether each [N] leaves the gripper open, and the keypose that was chosen."""

    picture: NDArray[np.uint8]
    candidates: Array
    open: NDArray[np.bool_]
    chosen: Keypose


@dataclass
class Strip:
    """One run, from the first decision to the last picture."""

    title: str
    success: bool
    shots: list[Shot] = field(default_factory=list)
    final: NDArray[np.uint8] | None = None


def draw_contact_sheet(strips: Sequence[Strip], camera: PinholeCamera, T_policy_camera: Array) -> Image.Image:
    """The sheet of all strips. `camera` and `T_policy_camera` [4, 4] belong to the pictures of the shots."""
    height = round(TILE_WIDTH * camera.height / camera.width)
    view = camera.scaled(TILE_WIDTH, height)
    columns = max((len(strip.shots) + 1 for strip in strips), default=1)
    row_height = TITLE_HEIGHT + height + MARGIN
    size = (MARGIN + columns * (TILE_WIDTH + MARGIN), MARGIN + max(len(strips), 1) * row_height)
    sheet = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for row, strip in enumerate(strips):
        top = MARGIN + row * row_height
        draw.text((MARGIN, top + 3), strip.title, INK, FONT)
        for column, shot in enumerate(strip.shots):
            tile = _tile(shot.picture, height)
            _draw_decision(ImageDraw.Draw(tile), shot, view, invert(T_policy_camera), f"{column + 1}")
            sheet.paste(tile, (MARGIN + column * (TILE_WIDTH + MARGIN), top + TITLE_HEIGHT))
        if strip.final is not None:
            tile = _tile(strip.final, height)
            _draw_verdict(ImageDraw.Draw(tile), strip.success)
            sheet.paste(tile, (MARGIN + len(strip.shots) * (TILE_WIDTH + MARGIN), top + TITLE_HEIGHT))
    return sheet


def _tile(picture: NDArray[np.uint8], height: int) -> Image.Image:
    return Image.fromarray(picture).resize((TILE_WIDTH, height), Image.Resampling.BILINEAR)


def _draw_decision(
    draw: ImageDraw.ImageDraw, shot: Shot, view: PinholeCamera, T_camera_policy: Array, label: str
) -> None:
    def pixel(point: Array) -> tuple[float, float] | None:
        u, v = view.project(apply(T_camera_policy, np.asarray(point, dtype=np.float64)))
        inside = np.isfinite([u, v]).all() and -view.width < u < 2 * view.width and -view.height < v < 2 * view.height
        return (float(u), float(v)) if inside else None

    tip = pixel(shot.chosen.position)
    if tip is not None:
        # The tool's z axis points out of the hand: it comes from the other side.
        start = pixel(shot.chosen.position - APPROACH_LENGTH * matrix_from_quat(shot.chosen.quat_wxyz)[:, 2])
        if start is not None:
            draw.line([start, tip], fill=CHOSEN_COLOR, width=2)
        draw.ellipse(_around(tip, RING_RADIUS), outline=CHOSEN_COLOR, width=3)
    # On top of the choice: where they all agree, they lie inside its ring.
    for candidate, is_open in zip(shot.candidates, shot.open, strict=True):
        if (center := pixel(candidate)) is not None:
            color = OPEN_COLOR if is_open else CLOSED_COLOR
            draw.ellipse(_around(center, DOT_RADIUS), fill=color, outline=INK)
    draw.rectangle((0, 0, 18, 20), fill=BACKGROUND)
    draw.text((5, 1), label, INK, FONT)


def _draw_verdict(draw: ImageDraw.ImageDraw, success: bool) -> None:
    """A tick or a cross in the upper left corner, drawn as lines: fonts differ in the characters they have."""
    low, high = 10, 10 + MARK_SIZE
    draw.rectangle((low - 6, low - 6, high + 6, high + 6), fill=BACKGROUND)
    if success:
        middle = (low + MARK_SIZE * 0.38, high)
        draw.line([(low, low + MARK_SIZE * 0.6), middle, (high, low)], fill=TICK_COLOR, width=7, joint="curve")
    else:
        draw.line([(low, low), (high, high)], fill=CROSS_COLOR, width=7)
        draw.line([(low, high), (high, low)], fill=CROSS_COLOR, width=7)


def _around(center: tuple[float, float], radius: float) -> tuple[float, float, float, float]:
    return center[0] - radius, center[1] - radius, center[0] + radius, center[1] + radius
