"""A panel of curves over time, drawn with pillow: axes, ticks, lines and a legend, without a plotting stack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import ImageDraw, ImageFont

Array = NDArray[np.float64]
Color = tuple[int, int, int]

# Drawn at twice the size and reduced: pillow's lines have no soft edges.
SCALE = 2
INK, SOFT, GRID, PAPER = (40, 44, 52), (110, 116, 126), (228, 230, 234), (255, 255, 255)
TICK_COUNT = 5
DASH = 5


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """pillow's own font; `size` in pixels of the finished picture."""
    return ImageFont.load_default(size * SCALE)


@dataclass(frozen=True)
class Curve:
    """Values [N] under a name; `steps`: they stay until the next one. Gaps are NaN."""

    name: str
    values: Array
    color: Color
    steps: bool = False


class Panel:
    """One chart in the box (left, top, right, bottom), all in pixels of the finished picture."""

    def __init__(
        self, draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], seconds: float, low: float, high: float
    ) -> None:
        self.draw, self.seconds = draw, max(seconds, 1e-3)
        self.left, self.top, self.right, self.bottom = (value * SCALE for value in box)
        margin = 0.06 * (high - low) or 0.5
        self.low, self.high = low - margin, high + margin

    def x(self, seconds: float) -> float:
        """Pixel of a time."""
        return self.left + (self.right - self.left) * seconds / self.seconds

    def y(self, value: float) -> float:
        """Pixel of a value."""
        return self.bottom - (self.bottom - self.top) * (value - self.low) / (self.high - self.low)

    def axes(self, title: str, time_axis: bool) -> None:
        """Background, grid, numbers, title; times only where `time_axis` asks for them."""
        self.draw.rectangle((self.left, self.top, self.right, self.bottom), fill=PAPER)
        for value in ticks(self.low, self.high):
            self.draw.line([(self.left, self.y(value)), (self.right, self.y(value))], fill=GRID, width=SCALE)
            label = f"{value:g}"
            self.draw.text((self.left - 8 * SCALE, self.y(value)), label, SOFT, font(12), anchor="rm")
        for value in ticks(0.0, self.seconds, 12):
            self.draw.line([(self.x(value), self.top), (self.x(value), self.bottom)], fill=GRID, width=SCALE)
            if time_axis:
                self.draw.text((self.x(value), self.bottom + 6 * SCALE), f"{value:g} s", SOFT, font(12), anchor="mt")
        self.draw.text((self.left, self.top - 14 * SCALE), title, INK, font(14), anchor="ls")

    def span(self, start: float, end: float, color: Color) -> None:
        """A coloured stretch of time."""
        self.draw.rectangle((self.x(start), self.top + SCALE, self.x(end), self.bottom - SCALE), fill=color)

    def level(self, value: float, name: str) -> None:
        """A dashed line across at a value, with its name."""
        step, y = DASH * SCALE, self.y(value)
        for start in range(self.left, self.right, 2 * step):
            self.draw.line([(start, y), (min(start + step, self.right), y)], fill=SOFT, width=SCALE)
        self.draw.text((self.right - 4 * SCALE, y - 2 * SCALE), name, SOFT, font(11), anchor="rs")

    def curves(self, times: Array, curves: Sequence[Curve]) -> None:
        """Curves at `times` [N] seconds, and their names at the upper right."""
        for curve in curves:
            known = np.isfinite(curve.values)
            at, values = times[known], curve.values[known]
            if curve.steps:
                at, values = np.repeat(at, 2)[1:], np.repeat(values, 2)[:-1]
            points = [(self.x(t), self.y(v)) for t, v in zip(at.tolist(), values.tolist(), strict=True)]
            if len(points) > 1:
                self.draw.line(points, fill=curve.color, width=2 * SCALE, joint="curve")
        right = float(self.right - 20 * SCALE)
        for curve in reversed(curves):
            label = font(12)
            right -= self.draw.textlength(curve.name, font=label)
            y = self.top - 20 * SCALE
            self.draw.text((right, y), curve.name, curve.color, label, anchor="lm")
            self.draw.line([(right - 24 * SCALE, y), (right - 6 * SCALE, y)], fill=curve.color, width=3 * SCALE)
            right -= 40 * SCALE

    def frame(self) -> None:
        """The border."""
        self.draw.rectangle((self.left, self.top, self.right, self.bottom), outline=SOFT, width=SCALE)


def ticks(low: float, high: float, count: int = TICK_COUNT) -> list[float]:
    """At most about `count` round numbers between the two."""
    if not (np.isfinite([low, high]).all() and high > low):
        return []
    raw = (high - low) / count
    power = 10.0 ** np.floor(np.log10(raw))
    step = next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= raw)
    first = int(np.ceil(low / step))
    return [round(number * step, 10) for number in range(first, int(np.floor(high / step)) + 1)]
