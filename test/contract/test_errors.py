"""Every error that a user can fix can be caught as one kind, and says itself in one sentence."""

from __future__ import annotations

import inspect
import pickle

import pytest

from minidiffuser_ros.contract import errors
from minidiffuser_ros.contract.errors import MinidiffuserError, ObservationError

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_is_a_minidiffuser_error_and_says_when_it_is_raised(kind: type[Exception]) -> None:
    assert issubclass(kind, MinidiffuserError)
    assert (kind.__doc__ or "").strip()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_no_error_passes_for_a_mistake_in_the_code(kind: type[Exception]) -> None:
    assert not issubclass(kind, ValueError | TypeError | KeyError | RuntimeError | OSError)


def test_a_missing_observation_names_every_cause_in_one_line() -> None:
    error = ObservationError(["camera 'front' gave no image", "the tool pose is unknown"])
    assert error.reasons == ["camera 'front' gave no image", "the tool pose is unknown"]
    assert str(error) == "no observation: camera 'front' gave no image; the tool pose is unknown"


def test_an_observation_error_says_the_same_after_the_way_through_another_process() -> None:
    error = ObservationError(["no depth from front", "joint states are silent"])
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error)
    assert copy.reasons == error.reasons
