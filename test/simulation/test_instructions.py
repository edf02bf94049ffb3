"""Sentences and scenes belong together: every variation can be drawn, and is asked for by sentences of its own."""

from __future__ import annotations

from collections import Counter

from minidiffuser_ros.simulation.tabletop import Tabletop
from minidiffuser_ros.simulation.tasks import TASKS


def sentences(world: Tabletop, task: str, variation: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Those of training and those held out."""
    world.reset(task, seed, variation)
    return list(world.task.instructions()), list(world.task.held_out_instructions())


def test_every_variation_of_training_is_drawn_by_some_seed_and_none_much_more_often(world: Tabletop, task: str) -> None:
    kind = TASKS[task]
    kept = set(range(kind.num_variations)) - kind.held_out
    count = 12 * len(kept)
    drawn: Counter[int] = Counter()
    for seed in range(count):
        world.reset(task, seed)
        drawn[world.task.variation] += 1
    assert set(drawn) == kept
    assert len(kept) == 1 or max(drawn.values()) < 3 * count / len(kept)


def test_the_canonical_sentence_comes_first_and_others_follow(world: Tabletop, task: str) -> None:
    for variation in range(TASKS[task].num_variations):
        sentence = world.reset(task, 0, variation)
        said = world.task.instructions()
        assert said[0] == sentence == world.task.instruction()
        assert len(set(said)) == len(said) >= 3


def test_a_variation_is_asked_for_by_the_same_sentences_whatever_the_seed(world: Tabletop, task: str) -> None:
    for variation in range(TASKS[task].num_variations):
        assert sentences(world, task, variation, seed=0) == sentences(world, task, variation, seed=1)


def test_no_sentence_belongs_to_two_variations_and_none_is_both_said_and_held_out(world: Tabletop) -> None:
    owners: dict[str, tuple[str, int, str]] = {}
    for task, kind in TASKS.items():
        for variation in range(kind.num_variations):
            said, unheard = sentences(world, task, variation)
            assert unheard
            for use, group in (("training", said), ("held out", unheard)):
                for sentence in group:
                    owner = (task, variation, use)
                    assert owners.setdefault(sentence, owner) == owner, sentence
