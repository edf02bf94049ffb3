"""A policy acts on sentences like those of its demonstrations and refuses the others."""

from __future__ import annotations

import pytest

from minidiffuser_ros.contract.errors import InstructionError
from minidiffuser_ros.model.instruction import InstructionEncoder
from minidiffuser_ros.policy.known_instructions import KnownInstructions
from minidiffuser_ros.simulation.tasks import make_task


@pytest.fixture(scope="module")
def encoder() -> InstructionEncoder:
    return InstructionEncoder()


@pytest.fixture(scope="module")
def known(encoder: InstructionEncoder) -> KnownInstructions:
    sentences = []
    for name in ("push_button", "stack_pair"):
        task = make_task(name)
        for variation in range(task.num_variations):
            task.variation = variation
            sentences += task.instructions()
    return KnownInstructions(sentences, encoder)


@pytest.mark.parametrize(
    "sentence",
    [
        "push the red button",
        "shove the blue button",
        "please put the green block on the red one",
        "Push the RED button!",
    ],
)
def test_sentences_of_the_tasks_in_other_words_are_let_through(known: KnownInstructions, sentence: str) -> None:
    known.require(sentence)


@pytest.mark.parametrize("sentence", ["open the drawer", "make me a coffee", "juggle", "qwertz uiop", "dance with me"])
def test_anything_else_is_refused_with_the_nearest_sentence_that_is_known(
    known: KnownInstructions, sentence: str
) -> None:
    with pytest.raises(InstructionError, match=rf"not trained on anything like '{sentence}'.*ask for something like '"):
        known.require(sentence)


@pytest.mark.parametrize(("sentence", "reason"), [("  ", "empty"), ("push " * 40, "tokens, at most 32")])
def test_sentences_that_are_none_are_refused_before_they_are_compared(
    known: KnownInstructions, sentence: str, reason: str
) -> None:
    with pytest.raises(InstructionError, match=reason):
        known.require(sentence)


def test_a_policy_that_knows_no_sentences_refuses_none(encoder: InstructionEncoder) -> None:
    KnownInstructions((), encoder).require("open the drawer")
