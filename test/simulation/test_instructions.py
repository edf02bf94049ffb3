"""Sentences and scenes belong together: every variation can be drawn, and its colours are on the table."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from minidiffuser_ros.simulation.tabletop import Tabletop
from minidiffuser_ros.simulation.tasks import TASKS
from minidiffuser_ros.simulation.world import BODIES, COLORS

VARIATIONS = [(task, variation) for task, kind in TASKS.items() for variation in range(kind.num_variations)]
GEOMS = {"push_button": [f"{name}_cap" for name in BODIES.buttons], "stack_blocks": list(BODIES.blocks)}


def named(sentence: str) -> list[str]:
    """The colours in a sentence, in the order of the words."""
    return [word for word in re.findall(r"[a-z]+", sentence) if word in COLORS]


def painted(world: Tabletop, geom: str) -> str:
    """The name of a geom's colour."""
    rgb = world.model.geom_rgba[world.model.geom(geom).id, :3]
    return min(COLORS, key=lambda name: float(np.abs(np.array(COLORS[name]) - rgb).max()))


def present(world: Tabletop, task: str) -> list[str]:
    """The geoms of the task's objects that lie on the table."""
    return [geom for geom in GEOMS[task] if world.data.geom(geom).xpos[0] > 0.0]


@pytest.mark.parametrize("task", TASKS)
def test_every_variation_is_drawn_by_some_seed_and_none_much_more_often(world: Tabletop, task: str) -> None:
    drawn: Counter[int] = Counter()
    for seed in range(400):
        world.reset(task, seed)
        drawn[world.task.variation] += 1
    count = TASKS[task].num_variations
    assert set(drawn) == set(range(count))
    assert max(drawn.values()) < 2.5 * 400 / count


@pytest.mark.parametrize(("task", "variation"), VARIATIONS)
def test_the_canonical_sentence_comes_first_and_paraphrases_follow(world: Tabletop, task: str, variation: int) -> None:
    sentence = world.reset(task, 0, variation)
    sentences = world.task.instructions()
    assert sentences[0] == sentence == world.task.instruction()
    assert len(set(sentences)) == len(sentences) >= 3


@pytest.mark.parametrize("variation", range(TASKS["push_button"].num_variations))
def test_every_paraphrase_names_the_colour_of_the_button_to_press_and_no_other(world: Tabletop, variation: int) -> None:
    for seed in range(5):
        world.reset("push_button", seed, variation)
        color = painted(world, GEOMS["push_button"][0])
        for sentence in world.task.instructions():
            assert named(sentence) == [color], sentence


@pytest.mark.parametrize("variation", range(TASKS["stack_blocks"].num_variations))
def test_every_paraphrase_says_which_block_goes_on_which(world: Tabletop, variation: int) -> None:
    for seed in range(5):
        world.reset("stack_blocks", seed, variation)
        top, bottom = (painted(world, name) for name in BODIES.blocks[:2])
        for sentence in world.task.instructions():
            # The block to be moved is named first, unless the sentence says which one is below.
            assert named(sentence) == ([bottom, top] if "below" in sentence else [top, bottom]), sentence


def test_no_sentence_belongs_to_two_variations(world: Tabletop) -> None:
    owners: dict[str, tuple[str, int]] = {}
    for task, variation in VARIATIONS:
        world.reset(task, 0, variation)
        for sentence in world.task.instructions():
            assert owners.setdefault(sentence, (task, variation)) == (task, variation)


@pytest.mark.parametrize("task", TASKS)
def test_no_two_objects_on_the_table_have_the_same_colour(world: Tabletop, task: str) -> None:
    for seed in range(60):
        world.reset(task, seed)
        colors = [painted(world, geom) for geom in present(world, task)]
        assert len(set(colors)) == len(colors) >= 3


@pytest.mark.parametrize("task", TASKS)
def test_every_colour_is_also_a_distractor(world: Tabletop, task: str) -> None:
    # Else a policy could know what to do from the picture alone.
    distractors = set()
    for seed in range(60):
        world.reset(task, seed)
        distractors |= {painted(world, geom) for geom in present(world, task)} - set(named(world.task.instruction()))
    assert distractors == set(COLORS)
