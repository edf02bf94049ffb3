"""Table, JSON and plot of what `inference_harness.compare` has played."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from inference_harness import Subject, Tally
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from minidiffuser_ros.contract.files import replace_file
from minidiffuser_ros.evaluation.statistics import mean_interval, paired_difference_interval, wilson_interval

DPI = 110


@dataclass(frozen=True)
class Row:
    """A line of the table and of the JSON file.

    low, high: Wilson's 95 % interval of success. lost, won: scenes in which only the reference succeeded, or only this
    method; difference_low, difference_high: 95 % interval of the difference of success over the same scenes. speedup:
    denoising time of the reference over this one's, medians over the scenes that this one played. decisions: timed.
    score: mean share of the task that was done, which is the success where a task knows no halves, and 95 % interval of
    its difference to the reference's over the same scenes.
    """

    policy: str
    method: str
    device: str
    episodes: int
    decisions: int
    success: float
    low: float
    high: float
    lost: int
    won: int
    difference_low: float
    difference_high: float
    denoise_ms_p50: float
    denoise_ms_p95: float
    total_ms_p50: float
    total_ms_p95: float
    speedup: float
    pruned: float
    score: float
    score_difference_low: float
    score_difference_high: float


def rows_of(subject: Subject, tallies: Mapping[str, Tally]) -> list[Row]:
    """A row for each method, the fastest last. Raises ValueError where one does not answer as it says it does."""
    reference = tallies[subject.reference]
    rows = [_row(subject, name, tally, reference, tallies) for name, tally in tallies.items()]
    return sorted(rows, key=lambda row: -row.denoise_ms_p50)


def _row(subject: Subject, name: str, tally: Tally, reference: Tally, tallies: Mapping[str, Tally]) -> Row:
    successes, scores = tally.successes, tally.scores
    if tally.method.answers_of is not None:
        same = tallies[tally.method.answers_of].successes
        if any(success != same[scene] for scene, success in successes.items()):
            raise ValueError(f"{name} should answer as {tally.method.answers_of} does and did not")
        successes, scores = same, tallies[tally.method.answers_of].scores
    count, good = len(successes), sum(successes.values())
    lost = sum(reference.successes[scene] and not success for scene, success in successes.items())
    won = sum(success and not reference.successes[scene] for scene, success in successes.items())
    denoise_ms = tally.denoise_ms()
    denoise, beside = statistics.median(denoise_ms), statistics.median(reference.denoise_ms(tally.played))
    differences = [score - reference.scores[scene] for scene, score in scores.items()]
    return Row(
        tally.method.policy, name, subject.device, count, len(denoise_ms),
        good / count, *wilson_interval(good, count), lost, won, *paired_difference_interval(lost, won, count),
        denoise, percentile(denoise_ms, 95), statistics.median(tally.total_ms), percentile(tally.total_ms, 95),
        beside / denoise, statistics.fmean(tally.pruned),
        statistics.fmean(scores.values()), *(max(-1.0, min(1.0, end)) for end in mean_interval(differences)),
    )  # fmt: skip


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of the values that at least so many per cent of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def table(rows: Iterable[Row]) -> str:
    """For a terminal. The score, with the interval of its difference, where it is another than the success."""
    rows = list(rows)
    scored = any(abs(row.score - row.success) > 1e-9 for row in rows)
    head = f"{'method':<18}{'success, 95 %':>18}{'lost/won':>10}" + scored * f"{'score, difference':>23}"
    head += f"{'denoise ms p50/p95':>21}{'total ms p50/p95':>19}{'speedup':>9}{'reused':>8}"
    return "\n".join([head, *(_line(row, scored) for row in rows)])


def _line(row: Row, scored: bool) -> str:
    score = f"{row.score:.3f} {row.score_difference_low:+.3f} {row.score_difference_high:+.3f}"
    return (
        f"{row.method:<18}{f'{row.success:.1%} {row.low:.0%}-{row.high:.0%}':>18}{f'{row.lost}/{row.won}':>10}"
        + scored * f"{score:>23}"
        + f"{f'{row.denoise_ms_p50:.1f} / {row.denoise_ms_p95:.1f}':>21}"
        f"{f'{row.total_ms_p50:.1f} / {row.total_ms_p95:.1f}':>19}{row.speedup:>9.2f}{row.pruned:>8.1%}"
    )


def write_json(rows: Iterable[Row], out: Path) -> None:
    """A list of objects with the fields of `Row`."""
    text = json.dumps([asdict(row) for row in rows], indent=2) + "\n"
    replace_file(out, lambda path: path.write_text(text))


def plot(rows: Sequence[Row], out: Path) -> Figure:
    """Success against milliseconds of denoising, with intervals: written as a PNG, and returned."""
    several = len({row.device for row in rows}) > 1
    figure = Figure(figsize=(10, 6), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    labels = []
    for row in rows:
        errors = [[max(0.0, row.success - row.low)], [max(0.0, row.high - row.success)]]
        drawn = axes.errorbar(row.denoise_ms_p50, row.success, yerr=errors, fmt="o", markersize=5, capsize=3)
        text = f"{row.method} ({row.device})" if several else row.method
        labels.append(_Label(text, row.denoise_ms_p50, row.low, row.high, drawn[0].get_color()))
    axes.set(xscale="log", xlabel="denoising, ms a decision (median)", ylabel="success", ylim=(-0.1, 1.3))
    axes.set_yticks([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], labels=[f"{percent} %" for percent in (0, 20, 40, 60, 80, 100)])
    axes.margins(x=0.1)
    axes.grid(alpha=0.3)
    figure.canvas.draw()
    _label(axes, labels)
    replace_file(out, lambda path: figure.savefig(path, format="png", dpi=DPI))
    return figure


@dataclass(frozen=True)
class _Label:
    text: str
    x: float
    low: float
    high: float
    color: str


def _label(axes: Axes, labels: Sequence[_Label]) -> None:
    """Each label as close to an end of its interval as nothing else stands, on a line from there."""
    renderer = axes.figure.canvas.get_renderer()  # type: ignore[union-attr]
    taken = [_interval_box(axes, label) for label in labels]
    for label in sorted(labels, key=lambda label: label.x):
        for distance in range(8, 260, 6):
            if _placed(axes, renderer, label, distance, taken) or _placed(axes, renderer, label, -distance, taken):
                break


def _interval_box(axes: Axes, label: _Label) -> Bbox:
    (x, low), (_, high) = axes.transData.transform([(label.x, label.low), (label.x, label.high)])
    return Bbox([[x - 5, low - 5], [x + 5, high + 5]])


def _placed(axes: Axes, renderer: Any, label: _Label, distance: int, taken: list[Bbox]) -> bool:
    """Whether there was room so many points above the interval, or below it."""
    end, side = (label.high, "bottom") if distance > 0 else (label.low, "top")
    note = axes.annotate(
        label.text, (label.x, end), (0, distance), textcoords="offset points", ha="center", va=side, size=8,
        color=label.color, arrowprops={"arrowstyle": "-", "color": label.color, "lw": 0.5, "relpos": (0.5, 0.5)},
    )  # fmt: skip
    note.set_in_layout(False)
    note.update_positions(renderer)
    box = Text.get_window_extent(note, renderer).expanded(1.05, 1.15)  # without the line
    inside = axes.get_window_extent(renderer)
    if not (inside.y0 < box.y0 and box.y1 < inside.y1) or any(box.overlaps(other) for other in taken):
        note.remove()
        return False
    taken.append(box)
    return True
