"""Numbers become a goal, or are refused with the code of everything that is wrong with them."""

from __future__ import annotations

import numpy as np
import pytest

from minidiffuser_ros.arm.goal import KeyposeGoal, Way, goal_from_numbers
from minidiffuser_ros.contract.errors import GoalRejectedError
from minidiffuser_ros.contract.refusal import Reason, codes_of
from minidiffuser_ros.geometry.rotation import POINTING_DOWN_WXYZ

PLACE, DOWN = (0.5, 0.0, 0.2), tuple(POINTING_DOWN_WXYZ)


def goal(
    position: tuple[float, ...] = PLACE, quat: tuple[float, ...] = DOWN, opening: float = 1.0, **rest: float
) -> KeyposeGoal:
    return goal_from_numbers(position, quat, opening, **rest)  # type: ignore[arg-type]


def test_numbers_arrive_as_they_were_given() -> None:
    made = goal_from_numbers(PLACE, DOWN, 0.4, stamp_ns=7, frame="x", way=2, approach_m=0.05, retreat_m=0.1)
    np.testing.assert_array_equal(made.keypose.position, PLACE)
    np.testing.assert_array_equal(made.keypose.quat_wxyz, DOWN)
    assert (made.keypose.opening, made.stamp_ns, made.frame) == (0.4, 7, "x")
    assert (made.way, made.approach_m, made.retreat_m) == (Way.PLANNED, 0.05, 0.1)
    assert made.problems() == []


@pytest.mark.parametrize(
    ("numbers", "code"),
    [
        ({"position": (0.5, float("nan"), 0.2)}, Reason.NOT_FINITE),
        ({"position": (0.5, 0.0, float("inf"))}, Reason.NOT_FINITE),
        ({"position": (0.5, 0.0)}, Reason.NOT_FINITE),
        ({"quat": (0.0, float("-inf"), 0.0, 0.0)}, Reason.NOT_FINITE),
        ({"quat": (0.0, 0.0, 0.0, 0.0)}, Reason.NOT_A_ROTATION),
        ({"quat": (0.0, 1.01, 0.0, 0.0)}, Reason.NOT_A_ROTATION),
        ({"opening": float("nan")}, Reason.NOT_FINITE),
        ({"opening": -0.01}, Reason.BAD_OPENING),
        ({"opening": 1.01}, Reason.BAD_OPENING),
        ({"position": (450.0, 10.0, 120.0)}, Reason.WRONG_UNIT),
        ({"approach_m": -0.01}, Reason.BAD_OFFSET),
        ({"approach_m": float("nan")}, Reason.BAD_OFFSET),
        ({"retreat_m": 80.0}, Reason.BAD_OFFSET),
        ({"way": 3}, Reason.UNKNOWN_WAY),
    ],
)
def test_numbers_that_are_no_goal_are_refused_with_their_code(numbers: dict[str, float], code: Reason) -> None:
    with pytest.raises(GoalRejectedError) as caught:
        goal(**numbers)  # type: ignore[arg-type]
    assert codes_of(caught.value.reasons) == [code]


def test_everything_wrong_is_told_at_once() -> None:
    with pytest.raises(GoalRejectedError) as caught:
        goal(position=(450.0, 0.0, 0.0), quat=(2.0, 0.0, 0.0, 0.0), opening=2.0, retreat_m=-1.0)
    assert set(codes_of(caught.value.reasons)) == {
        Reason.WRONG_UNIT, Reason.NOT_A_ROTATION, Reason.BAD_OPENING, Reason.BAD_OFFSET
    }  # fmt: skip
