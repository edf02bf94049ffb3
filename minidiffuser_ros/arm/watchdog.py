"""Something that has to be heard of again and again; when it falls silent there is a reason against every motion."""

from __future__ import annotations

import time
from collections.abc import Callable

from minidiffuser_ros.arm.twist import ServoSettings
from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.contract.refusal import Reason, Refusal

SILENT = float("-inf")
Clock = Callable[[], float]


class Watchdog:
    """Content for `timeout_s` after each `feed`; before the first it is not. Any thread may feed and ask.

    code, sentence: the reason while it is not content; `{timeout_s:g}` in the sentence becomes the number.
    """

    def __init__(self, timeout_s: float, code: Reason, sentence: str, clock_s: Clock = time.monotonic) -> None:
        if not timeout_s > 0.0:
            raise ConfigurationError(f"a watchdog's timeout must be above 0 s, got {timeout_s}")
        self.timeout_s = timeout_s
        self._code, self._sentence, self._clock_s = code, sentence, clock_s
        self._fed_s = SILENT

    def feed(self) -> None:
        """It was heard of just now."""
        self._fed_s = self._clock_s()

    def silence(self) -> None:
        """It said that it is over: not content until it is fed again."""
        self._fed_s = SILENT

    def reasons(self) -> list[Refusal]:
        """The reason against any motion, where it was not heard of for too long."""
        if self._clock_s() - self._fed_s <= self.timeout_s:
            return []
        return [Refusal(self._code, self._sentence.format(timeout_s=self.timeout_s))]


class Deadman(Watchdog):
    """A button that somebody has to keep pressing: each word that it is held counts for `timeout_s`."""

    def __init__(self, timeout_s: float = ServoSettings.enable_timeout_s, clock_s: Clock = time.monotonic) -> None:
        sentence = "`enable` was not true within the last {timeout_s:g} s"
        super().__init__(timeout_s, Reason.NOT_ENABLED, sentence, clock_s)

    def hold(self, held: bool) -> None:
        """It is held, or was let go of."""
        if held:
            self.feed()
        else:
            self.silence()


def state_watchdog(timeout_s: float, clock_s: Clock = time.monotonic) -> Watchdog:
    """Fed with every reading of the arm: nothing may be decided on a state older than `timeout_s`."""
    sentence = "the arm's last reading is more than {timeout_s:g} s old: is the connection to it slow or lost?"
    return Watchdog(timeout_s, Reason.STATE_STALE, sentence, clock_s)
