"""Refusals are sentences with a code."""

from __future__ import annotations

import pickle

from minidiffuser_ros.contract.errors import GoalRejectedError, MotionError
from minidiffuser_ros.contract.refusal import Reason, Refusal, codes_of

FAR = Refusal(Reason.TOO_FAR, "the goal is 2 m away")


def test_a_refusal_reads_as_its_sentence_and_carries_its_code():
    assert FAR == "the goal is 2 m away"
    assert f"{FAR}" == str(FAR)
    assert FAR.code == "too_far"


def test_codes_stand_once_each_in_order_and_plain_sentences_have_none():
    assert codes_of([FAR, "the weather is bad", Refusal(Reason.STALE, "old"), FAR]) == ["too_far", "stale"]


def test_a_rejection_says_all_reasons_and_keeps_their_codes():
    error = GoalRejectedError(FAR, "the weather is bad")
    assert str(error) == "the goal is 2 m away; the weather is bad"
    assert codes_of(error.reasons) == ["too_far"]


def test_errors_with_codes_survive_the_way_to_another_process():
    rejected, moved = pickle.loads(pickle.dumps((GoalRejectedError(FAR), MotionError(FAR))))
    assert codes_of(rejected.reasons) == codes_of([moved.reason]) == ["too_far"]
    assert str(rejected) == str(moved) == FAR
