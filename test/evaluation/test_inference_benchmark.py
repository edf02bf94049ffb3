"""Laws of `benchmarks/inference_harness.py` and of what is reported of its plays."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from inference_harness import Method, Played, compare
from inference_report import Row, percentile, plot, rows_of, table, write_json

from minidiffuser_ros.contract.errors import ConfigurationError


@dataclass
class Counting:
    """Three scenes; `half` fails every second one and is twice as fast, `slow` answers as `whole` and plays one."""

    name: str = "counting"
    device: str = "cpu"
    identity: str = "1"
    reference: str = "whole"
    scenes: Sequence[int] = (0, 1, 2)
    stops_after: int = 100
    played: list[tuple[str, int]] = field(default_factory=list)

    @property
    def methods(self) -> dict[str, Method]:
        return {"whole": Method("a"), "half": Method("b"), "slow": Method("a", scenes=1, answers_of="whole")}

    def play(self, method: str, scene: int) -> Played:
        if len(self.played) == self.stops_after:
            raise KeyboardInterrupt
        self.played.append((method, scene))
        ms = {"whole": 8.0, "half": 4.0, "slow": 80.0}[method] * (1.0 + scene)  # others begin to use the machine
        return Played(method != "half" or scene % 2 == 0, [ms, ms], [ms + 1.0, ms + 2.0], [0.5, 0.7])


def test_every_method_plays_every_scene_in_an_order_that_turns_around() -> None:
    subject = Counting()
    tallies = compare(subject)
    timed = [*subject.played]
    for name in ("whole", "half"):
        timed.remove((name, 0))  # the one that warms up
    assert sorted(timed) == sorted([("slow", 0), *((name, scene) for scene in range(3) for name in ("whole", "half"))])
    assert [name for name, scene in timed if scene == 1] == ["whole", "half"]
    assert [name for name, scene in timed if scene == 2] == ["half", "whole"]
    assert tallies["half"].successes == {"0": True, "1": False, "2": True}
    assert tallies["whole"].denoise_ms() == [8.0, 8.0, 16.0, 16.0, 24.0, 24.0]


def test_a_stopped_comparison_goes_on_and_ends_as_one_that_was_not(tmp_path: Path) -> None:
    log, whole = tmp_path / "plays.jsonl", compare(Counting())
    with pytest.raises(KeyboardInterrupt):
        compare(Counting(stops_after=5), log)
    (kept,) = tmp_path.iterdir()
    with kept.open("a") as file:
        file.write('{"method": "ha')  # a kill amid a line
    rest = Counting()
    assert compare(rest, log) == whole
    assert len(rest.played) < len(Counting().scenes) * 3
    again = Counting(stops_after=0)
    assert compare(again, log) == whole


def test_plays_of_another_policy_are_refused_and_other_devices_have_files_of_their_own(tmp_path: Path) -> None:
    log = tmp_path / "plays.jsonl"
    compare(Counting(), log)
    with pytest.raises(ConfigurationError, match="is of another policy or other methods: name another file"):
        compare(Counting(identity="2"), log)
    compare(Counting(identity="2", device="cuda"), log)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plays-cpu.jsonl", "plays-cuda.jsonl"]


def rows(subject: Counting | None = None) -> dict[str, Row]:
    subject = subject or Counting()
    return {row.method: row for row in rows_of(subject, compare(subject))}


def test_a_row_is_held_against_the_reference_over_the_same_scenes() -> None:
    found = rows()
    half, slow = found["half"], found["slow"]
    assert (half.success, half.lost, half.won, half.episodes) == (pytest.approx(2 / 3), 1, 0, 3)
    assert half.low < half.success < half.high
    assert half.difference_low < -1 / 3 < half.difference_high
    assert half.speedup == pytest.approx(16.0 / 8.0)
    assert half.pruned == pytest.approx(0.6)
    # Slow, and known to answer as the reference does: its success is that of all scenes, its time that of one.
    assert (slow.success, slow.episodes, slow.decisions, slow.policy) == (1.0, 3, 2, "a")
    assert slow.speedup == pytest.approx(8.0 / 80.0)


def test_a_method_that_does_not_answer_as_it_says_is_found_out() -> None:
    class Lying(Counting):
        def play(self, method: str, scene: int) -> Played:
            played = super().play(method, scene)
            return replace(played, success=False) if method == "slow" else played

    with pytest.raises(ValueError, match="slow should answer as whole does"):
        rows(Lying())


def test_the_file_has_what_the_table_shows_for_every_method(tmp_path: Path) -> None:
    found = rows()
    write_json(found.values(), tmp_path / "rows.json")
    values = json.loads((tmp_path / "rows.json").read_text())
    wanted = {
        "policy",
        "method",
        "device",
        "success",
        "low",
        "high",
        "denoise_ms_p50",
        "total_ms_p50",
        "speedup",
        "pruned",
    }
    assert all(wanted <= row.keys() for row in values)
    assert [row["method"] for row in values] == ["slow", "whole", "half"]
    text = table(found.values())
    assert all(name in text for name in ("slow", "66.7%", "1/0", "60.0%"))


def test_percentiles_are_values_that_were_measured() -> None:
    assert percentile([3.0, 1.0, 2.0], 95) == 3.0
    assert percentile(range(1, 101), 95) == 95
    assert percentile([7.0], 5) == 7.0


def test_labels_of_a_plot_do_not_overlap(tmp_path: Path) -> None:
    from matplotlib.text import Annotation, Text

    one = rows()["whole"]
    crowd = [
        Row(**{**vars(one), "method": f"method-{i}", "denoise_ms_p50": 40.0 + 0.5 * i, "device": "cpu"})
        for i in range(14)
    ]
    figure = plot(crowd, tmp_path / "plot.png")
    labels = [child for child in figure.axes[0].get_children() if isinstance(child, Annotation)]
    assert sorted(label.get_text() for label in labels) == sorted(row.method for row in crowd)
    boxes = [Text.get_window_extent(label) for label in labels]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    inside = figure.axes[0].get_window_extent()
    assert all(inside.y0 < box.y0 and box.y1 < inside.y1 for box in boxes)
    assert (tmp_path / "plot.png").stat().st_size > 10_000


def test_a_task_that_can_be_done_halfway_is_scored_and_one_that_cannot_by_its_success() -> None:
    @dataclass
    class Halfway(Counting):
        def play(self, method: str, scene: int) -> Played:
            return replace(super().play(method, scene), score={"whole": 1.0, "half": 0.5 + 0.1 * scene}.get(method))

    found, plain = ({row.method: row for row in rows_of(s, compare(s))} for s in (Halfway(), Counting()))
    assert found["half"].score == pytest.approx(0.6)
    assert found["half"].score_difference_low < -0.4 < found["half"].score_difference_high
    assert found["slow"].score == found["whole"].score == 1.0
    assert plain["half"].score == pytest.approx(plain["half"].success)
    assert "score" in table(found.values())
    assert "score" not in table(plain.values())
