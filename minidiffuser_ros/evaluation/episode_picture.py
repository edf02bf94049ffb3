"""One picture of an episode: pictures at its keyposes, and arm and gripper over time, to see what would be learned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from minidiffuser_ros.contract.episode import FAILURE, SUCCESS, EpisodeInfo
from minidiffuser_ros.contract.errors import EpisodeError, MessageError
from minidiffuser_ros.episodes.bag import EpisodeReader
from minidiffuser_ros.episodes.keyposes import (
    DEFAULT_SETTINGS,
    EpisodeKeypose,
    KeyposeSettings,
    episode_keyposes,
    joint_speeds,
)
from minidiffuser_ros.episodes.samples import views_before
from minidiffuser_ros.episodes.traces import SECOND_NS, Traces
from minidiffuser_ros.evaluation.plot_panel import INK, PAPER, SCALE, SOFT, Color, Curve, Panel, font
from minidiffuser_ros.perception.decoding import color_from_image, stamp_to_ns

WIDTH, LEFT, RIGHT, MARGIN = 1320, 76, 24, 16
HEADER, PANEL_HEIGHT, PANEL_GAP, FOOTER = 92, 168, 54, 62
COLUMNS, MAX_TILES, TILE_GAP = 6, 30, 8
BACKGROUND: Color = (246, 247, 249)
FOUND, MARKED, VIEW = (36, 98, 196), (190, 40, 120), (221, 240, 226)
HEIGHT_COLOR, REACH_COLOR = (214, 106, 28), (30, 134, 148)
ASKED_COLOR, MEASURED_COLOR, SPEED_COLOR = (120, 72, 190), (44, 150, 80), (70, 80, 96)
OUTCOME_COLORS = {SUCCESS: (28, 140, 72), FAILURE: (200, 48, 48)}
# As far from a keypose may its picture be.
NEAR_NS = SECOND_NS // 2
BADGE = 9


def draw_episode(folder: Path | str, settings: KeyposeSettings = DEFAULT_SETTINGS) -> Image.Image:
    """The picture of a recorded episode; where it has no keyposes, why. Raises EpisodeError if it cannot be read."""
    reader = EpisodeReader(folder)
    traces, problem = reader.traces(), ""
    keyposes: list[EpisodeKeypose] = []
    try:
        keyposes = episode_keyposes(traces, reader.marks(), settings)
    except EpisodeError as error:
        problem = str(error)
    tiles = [_picture_at(reader, int(traces.times_ns[keypose.index])) for keypose in keyposes[:MAX_TILES]]
    tile_width = (WIDTH - LEFT - RIGHT - (COLUMNS - 1) * TILE_GAP) // COLUMNS
    tile_height = max((min(tile_width, round(tile_width * t.height / t.width)) for t in tiles if t), default=0)
    rows = -(-len(tiles) // COLUMNS) if tile_height else 0
    top = HEADER + rows * (tile_height + TILE_GAP) + (PANEL_GAP if rows else 32)
    size = (WIDTH, top + 3 * PANEL_HEIGHT + 2 * PANEL_GAP + FOOTER)
    sheet = Image.new("RGB", (size[0] * SCALE, size[1] * SCALE), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    _draw_header(draw, Path(folder).name, reader.info, traces, keyposes, problem)
    for number, (tile, keypose) in enumerate(zip(tiles, keyposes, strict=False)):
        x = LEFT + (number % COLUMNS) * (tile_width + TILE_GAP)
        y = HEADER + (number // COLUMNS) * (tile_height + TILE_GAP)
        _draw_tile(sheet, tile, (x, y, tile_width, tile_height), number + 1, keypose)
    _draw_panels(draw, top, traces, keyposes, settings)
    return sheet.resize(size, Image.Resampling.LANCZOS)


def save_episode_picture(folder: Path | str, path: Path | str, settings: KeyposeSettings = DEFAULT_SETTINGS) -> None:
    """Write `draw_episode` as a PNG; a file that exists is complete."""
    path = Path(path)
    partial = path.with_name(f"{path.name}.partial")
    try:
        draw_episode(folder, settings).save(partial, "PNG", optimize=True)
        partial.rename(path)
    except OSError as error:
        raise EpisodeError(f"cannot write the picture {path} ({error.strerror}): name another file") from None
    finally:
        partial.unlink(missing_ok=True)


def _draw_header(
    draw: ImageDraw.ImageDraw,
    name: str,
    info: EpisodeInfo,
    traces: Traces,
    keyposes: Sequence[EpisodeKeypose],
    problem: str,
) -> None:
    left = LEFT * SCALE
    draw.text((left, 16 * SCALE), f"{info.instruction:.110}", INK, font(22), anchor="lt")
    kind = "marked" if keyposes and keyposes[0].marked else "discovered"
    facts = [f"{info.task:.40}", f"{name:.60}", f"{traces.seconds[-1]:.1f} s", f"{len(keyposes)} keyposes, {kind}"]
    draw.text((left, 50 * SCALE), "   ·   ".join(facts[:3] if problem else facts), SOFT, font(14), anchor="lt")
    if problem:
        draw.text((left, 72 * SCALE), f"no keyposes: {problem:.140}", OUTCOME_COLORS[FAILURE], font(14), anchor="lt")
    label = font(14)
    width = draw.textlength(info.outcome, font=label)
    right = (WIDTH - RIGHT) * SCALE
    box = (right - width - 24 * SCALE, 14 * SCALE, right, 40 * SCALE)
    draw.rounded_rectangle(box, 13 * SCALE, fill=OUTCOME_COLORS.get(info.outcome, SOFT))
    draw.text(((box[0] + box[2]) / 2, 27 * SCALE), info.outcome, PAPER, label, anchor="mm")


def _draw_tile(
    sheet: Image.Image,
    tile: Image.Image | None,
    box: tuple[int, int, int, int],
    number: int,
    keypose: EpisodeKeypose,
) -> None:
    x, y, width, height = (value * SCALE for value in box)
    if tile is None:
        ImageDraw.Draw(sheet).rectangle((x, y, x + width, y + height), fill=(226, 228, 232))
    else:
        sheet.paste(tile.resize((width, height), Image.Resampling.BICUBIC), (x, y))
    draw = ImageDraw.Draw(sheet)
    _draw_badge(draw, (x + 16 * SCALE, y + 16 * SCALE), number, keypose.marked)
    text = "open" if keypose.keypose.is_open else "closed"
    draw.rectangle((x, y + height - 20 * SCALE, x + 58 * SCALE, y + height), fill=BACKGROUND)
    draw.text((x + 7 * SCALE, y + height - 10 * SCALE), text, INK, font(13), anchor="lm")


def _draw_panels(
    draw: ImageDraw.ImageDraw,
    top: int,
    traces: Traces,
    keyposes: Sequence[EpisodeKeypose],
    settings: KeyposeSettings,
) -> None:
    reach = np.linalg.norm(traces.tool[:, :2], axis=1)
    speed = joint_speeds(traces, settings.smoothing_s)
    charts = (
        (
            "tool, m",
            [Curve("height", traces.tool[:, 2], HEIGHT_COLOR), Curve("distance from the base", reach, REACH_COLOR)],
            0.0,
        ),
        (
            "gripper opening",
            [
                Curve("asked", traces.gripper_target, ASKED_COLOR, True),
                Curve("measured", traces.opening, MEASURED_COLOR),
            ],
            1.0,
        ),
        ("fastest joint, rad/s", [Curve("speed", speed, SPEED_COLOR)], 2.0 * settings.stop_speed),
    )
    seconds = traces.seconds
    views = views_before([keypose.index for keypose in keyposes], traces, settings) if keyposes else []
    for number, (title, curves, at_least) in enumerate(charts):
        y = top + number * (PANEL_HEIGHT + PANEL_GAP)
        values = np.concatenate([curve.values[np.isfinite(curve.values)] for curve in curves])
        panel = Panel(
            draw, (LEFT, y, WIDTH - RIGHT, y + PANEL_HEIGHT), float(seconds[-1]),
            min(0.0, float(values.min())), max(at_least, float(values.max())),
        )  # fmt: skip
        panel.axes(title, time_axis=number == len(charts) - 1)
        for view in views:
            start, end = ((stamp - int(traces.times_ns[0])) / SECOND_NS for stamp in vars(view).values())
            panel.span(start, end, VIEW)
        if number == len(charts) - 1:
            panel.level(settings.stop_speed, "stands below")
        panel.curves(seconds, curves)
        panel.frame()
        for count, keypose in enumerate(keyposes, 1):
            x, color = panel.x(float(seconds[keypose.index])), MARKED if keypose.marked else FOUND
            draw.line([(x, panel.top), (x, panel.bottom)], fill=color, width=2 * SCALE)
            _draw_badge(draw, (x, panel.top), count, keypose.marked)
    _draw_legend(draw, top + 3 * PANEL_HEIGHT + 2 * PANEL_GAP + 40)


def _draw_legend(draw: ImageDraw.ImageDraw, y: int) -> None:
    x: float = LEFT * SCALE
    for marked, text in ((False, "keypose, discovered"), (True, "keypose, marked by the operator")):
        _draw_badge(draw, (x + 10 * SCALE, y * SCALE), 1, marked)
        draw.text((x + 26 * SCALE, y * SCALE), text, SOFT, font(12), anchor="lm")
        x += draw.textlength(text, font=font(12)) + 56 * SCALE
    draw.rectangle((x, (y - 8) * SCALE, x + 24 * SCALE, (y + 8) * SCALE), fill=VIEW)
    text = "the arm stands: the newest pictures here are what is learned from"
    draw.text((x + 32 * SCALE, y * SCALE), text, SOFT, font(12), anchor="lm")


def _draw_badge(draw: ImageDraw.ImageDraw, center: tuple[float, float], number: int, marked: bool) -> None:
    """A number: in a circle where the keypose was discovered, in a diamond where it was marked."""
    x, y = center
    radius = (BADGE + (3 if marked else 0)) * SCALE
    if marked:
        corners = [(x, y - radius), (x + radius, y), (x, y + radius), (x - radius, y)]
        draw.polygon(corners, fill=MARKED, outline=PAPER)
    else:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=FOUND, outline=PAPER, width=SCALE)
    draw.text((x, y), str(number), PAPER, font(11), anchor="mm")


def _picture_at(reader: EpisodeReader, stamp_ns: int) -> Image.Image | None:
    """What the first camera saw nearest to a moment; None where it saw nothing near it that can be shown."""
    topic = reader.info.topics.cameras[reader.info.spec.cameras[0]].color
    nearest: Any = None
    distance_ns = NEAR_NS
    for _, _, message in reader.messages([topic], max(stamp_ns - NEAR_NS, 0), stamp_ns + 2 * NEAR_NS):
        away_ns = abs(stamp_to_ns(message.header.stamp) - stamp_ns)
        if away_ns <= distance_ns:
            nearest, distance_ns = message, away_ns
    if nearest is None:
        return None
    try:
        pixels: NDArray[np.uint8] = color_from_image(nearest)
    except MessageError:
        return None
    return Image.fromarray(pixels)
