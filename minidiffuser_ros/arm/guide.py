"""Lead the arm by hand: it gives way to every push and stands where it is left, while a deadman is kept alive."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from minidiffuser_ros.arm.executor import KeyposeExecutor
from minidiffuser_ros.arm.protocol import ArmState
from minidiffuser_ros.arm.servo import ServoReport, came_to_rest
from minidiffuser_ros.arm.watchdog import Deadman
from minidiffuser_ros.contract.errors import ConnectionLostError, GoalRejectedError, MinidiffuserError

GUIDED = "is led by hand"
PERIOD_S = 0.02


class GuidedArm(Protocol):
    """An arm that can be made to give way."""

    def state(self) -> ArmState:
        """The newest reading. Raises ConnectionLostError."""
        ...

    def begin_guiding(self) -> None:
        """Give way from now on, and return at once. Raises MotionError, ConnectionLostError."""
        ...

    def guiding_ended(self) -> bool:
        """Whether the arm has stopped giving way by itself. Raises MotionError for its reason, ConnectionLostError."""
        ...

    def end_guiding(self) -> None:
        """Stand still; harmless when it does. Raises MotionError, ConnectionLostError."""
        ...


class HandGuide:
    """Makes the arm give way while the deadman is alive and `objections` has nothing against it.

    tell: called with what happens, from the guide's thread. Goals that would move the arm are refused meanwhile.
    """

    def __init__(
        self,
        arm: GuidedArm,
        goals: KeyposeExecutor,
        deadman: Deadman,
        objections: Callable[[], list[str]],
        tell: Callable[[ServoReport], None],
    ) -> None:
        self._arm, self._goals, self._deadman = arm, goals, deadman
        self._objections, self._tell = objections, tell
        self._wanted = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def active(self) -> bool:
        """Whether the arm gives way, or is just coming to rest."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Give way from now on; returns at once. Raises GoalRejectedError, MotionError, ConnectionLostError."""
        if self.active:
            return
        reasons = self._reasons()
        reasons += self._goals.envelope.check_mode(self._arm.state())
        if reasons:
            raise GoalRejectedError(*reasons)
        self._goals.lend(GUIDED)
        self._wanted.set()
        try:
            self._arm.begin_guiding()
        except MinidiffuserError:
            self._goals.take_back()
            raise
        self._thread = threading.Thread(target=self._run, name="guide", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 4.0) -> bool:
        """Stand still; returns whether the arm does."""
        self._wanted.clear()
        deadline = time.monotonic() + timeout_s
        while self.active and time.monotonic() < deadline:
            time.sleep(0.01)
        return not self.active

    def _run(self) -> None:
        self._tell(ServoReport(f"the arm {GUIDED}", following=True))
        try:
            why = self._watch()
            self._arm.end_guiding()
            came_to_rest(self._arm, self._goals.settings)
            report = ServoReport(f"the arm stands still: {why}", ended=True)
        except ConnectionLostError as error:
            report = ServoReport(str(error), lost=True)
        except MinidiffuserError as error:
            report = ServoReport(f"the arm stands still: {error}", ended=True)
        finally:
            self._goals.take_back()
        self._tell(report)

    def _watch(self) -> str:
        """Wait for the end of it; returns the reason."""
        while self._wanted.is_set():
            if reasons := self._reasons():
                return "; ".join(reasons)
            if self._arm.guiding_ended():
                return "it stopped by itself"
            time.sleep(PERIOD_S)
        return "it was told to"

    def _reasons(self) -> list[str]:
        return self._objections() + self._deadman.reasons()
