"""The picture of a mask shows every branch of every step once, and what became of it."""

from __future__ import annotations

import numpy as np
import pytest

from minidiffuser_ros.pruning.picture import COMPUTED, DOUBTED, REUSED, TALL, MaskRow, draw_masks

BRANCHES = ("0.attention", "0.mlp", "1.attention", "1.mlp")


def cells(picture: np.ndarray, color: tuple[int, int, int]) -> int:
    """Area of a colour."""
    return int((picture == color).all(-1).sum())


@pytest.mark.parametrize("steps", [1, 10, 100])
def test_the_area_of_each_colour_is_the_share_of_what_it_stands_for(steps: int) -> None:
    mask = np.random.default_rng(0).random((steps, len(BRANCHES))) < 0.7
    picture = np.asarray(draw_masks([MaskRow("decision 1", mask, BRANCHES)]))
    areas = [cells(picture, REUSED), cells(picture, COMPUTED["attention"]), cells(picture, COMPUTED["mlp"])]
    counts = [mask.sum(), (~mask[:, ::2]).sum(), (~mask[:, 1::2]).sum()]
    area = sum(areas) / mask.size
    np.testing.assert_allclose(areas, np.array(counts) * area, rtol=1e-6)


def test_steps_go_to_the_right_and_branches_down() -> None:
    mask = np.ones((10, len(BRANCHES)), bool)
    mask[9, 0] = False
    picture = np.asarray(draw_masks([MaskRow("", mask, BRANCHES)]))
    rows, columns = np.nonzero((picture == COMPUTED["attention"]).all(-1))
    reused = np.nonzero((picture == REUSED).all(-1))
    assert columns.min() > np.quantile(reused[1], 0.85)
    assert rows.max() < reused[0].min() + TALL


def test_a_doubted_decision_says_why_in_red_and_every_decision_has_its_block() -> None:
    mask = np.ones((6, len(BRANCHES)), bool)
    rows = [MaskRow("decision 1", mask, BRANCHES), MaskRow("decision 2", mask, BRANCHES, "scatter 0.2 m")]
    one, two = np.asarray(draw_masks(rows[:1])), np.asarray(draw_masks(rows))
    assert cells(one, DOUBTED) == 0 < cells(two, DOUBTED)
    assert cells(two, REUSED) == 2 * cells(one, REUSED)
