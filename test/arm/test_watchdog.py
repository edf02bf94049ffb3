"""A watchdog is content exactly for its time after it was fed."""

from __future__ import annotations

import pytest

from minidiffuser_ros.arm.watchdog import Deadman, Watchdog, state_watchdog
from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.contract.refusal import Reason, codes_of


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_nothing_may_move_before_the_button_was_held_and_when_it_is_not_held_any_more() -> None:
    clock = Clock()
    deadman = Deadman(0.25, clock)
    assert codes_of(deadman.reasons()) == [Reason.NOT_ENABLED]
    deadman.hold(True)
    clock.now_s += 0.25
    assert deadman.reasons() == []
    clock.now_s += 0.01
    assert "0.25 s" in deadman.reasons()[0]
    deadman.hold(True)
    assert deadman.reasons() == []
    deadman.hold(False)
    assert codes_of(deadman.reasons()) == [Reason.NOT_ENABLED]


def test_a_state_that_is_read_again_and_again_is_fresh() -> None:
    clock = Clock()
    watchdog = state_watchdog(0.1, clock)
    for _ in range(5):
        watchdog.feed()
        clock.now_s += 0.09
        assert watchdog.reasons() == []
    clock.now_s += 0.02
    assert codes_of(watchdog.reasons()) == [Reason.STATE_STALE]


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, float("nan")])
def test_a_watchdog_without_a_time_is_refused(timeout_s: float) -> None:
    with pytest.raises(ConfigurationError, match="must be above 0 s"):
        Watchdog(timeout_s, Reason.STALE, "late")
