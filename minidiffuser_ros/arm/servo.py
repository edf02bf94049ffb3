"""Follow twists for as long as somebody holds the deadman; brake when anything is missing.

A thread of its own talks to the arm, so whoever hands over a twist never waits. The arm itself holds each twist for
`HOLD_S` only and then slows down to rest: should this process hang, it stops by itself.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from minidiffuser_ros.arm.execution_settings import ExecutionSettings
from minidiffuser_ros.arm.executor import KeyposeExecutor
from minidiffuser_ros.arm.protocol import ArmMode, ArmState, Array
from minidiffuser_ros.arm.settling import SETTLE_PERIOD_S
from minidiffuser_ros.arm.twist import TwistCommand, TwistLimiter
from minidiffuser_ros.arm.watchdog import Deadman
from minidiffuser_ros.contract.errors import ConnectionLostError, GoalRejectedError, MinidiffuserError, MotionError

HOLD_S = 0.2
IDLE_S = 0.3  # of zero twists, after which the arm is held where it is
ATTEMPTS, PAUSE_S = 3, 0.2  # after a motion that could not be planned
TELL_PERIOD_S = 0.5
FOLLOWING = "follows twist_command"
Received = tuple[TwistCommand, float]  # and when it came


class _Readable(Protocol):
    def state(self) -> ArmState:
        """The newest reading. Raises ConnectionLostError."""
        ...


class TwistArm(_Readable, Protocol):
    """An arm whose tool can follow a twist."""

    def follow(self, twist: Array, hold_s: float, dynamics: float) -> None:
        """Take over a twist [6] in the base frame in place of the last one, and return at once.

        Unless the next one comes within `hold_s` the arm brakes. dynamics: fraction of full acceleration and jerk.
        Raises MotionError, ConnectionLostError, for what has gone wrong since the last call, too.
        """
        ...

    def end_following(self, dynamics: float) -> None:
        """Brake, and return when that has ended; harmless at rest. Raises MotionError, ConnectionLostError."""
        ...


@dataclass(frozen=True)
class ServoReport:
    """What the servo says of itself. following: whether the arm is in its hands. ended: it has come to rest just now.
    lost: the arm stopped answering.
    """

    message: str
    following: bool = False
    ended: bool = False
    lost: bool = False


class Servo:
    """Follows the newest twist while it is fresh, the deadman is alive, and `objections` has nothing against it.

    tell: called from the servo's thread whenever there is something new to say. The arm is borrowed from `goals`
    meanwhile: goals that would move it are refused, those of the gripper are not.
    """

    def __init__(
        self,
        arm: TwistArm,
        goals: KeyposeExecutor,
        limiter: TwistLimiter,
        deadman: Deadman,
        objections: Callable[[], list[str]],
        tell: Callable[[ServoReport], None],
    ) -> None:
        self._arm, self._goals, self._limiter, self._deadman = arm, goals, limiter, deadman
        self._objections, self._tell = objections, tell
        self._settings = limiter.settings
        self._news = threading.Event()
        self._newest: Received | None = None
        self._broken = False  # a motion has failed: the operator has to let go first
        self._said, self._said_at = "", float("-inf")
        self._active = self._closed = False
        self._thread = threading.Thread(target=self._run, name="servo", daemon=True)
        self._thread.start()

    @property
    def active(self) -> bool:
        """Whether the arm is in its hands."""
        return self._active

    def command(self, command: TwistCommand) -> None:
        """Take over a twist in place of the last one; returns at once."""
        now = time.monotonic()
        if self._newest is not None and now - self._newest[1] > self._settings.twist_timeout_s:
            self._broken = False
        self._newest = command, now
        self._news.set()

    def wait(self, timeout_s: float) -> bool:
        """Wait until the arm is not followed any more; returns whether that came true. Object first."""
        deadline = time.monotonic() + timeout_s
        while self._active and time.monotonic() < deadline:
            time.sleep(0.01)
        return not self._active

    def close(self, timeout_s: float = 4.0) -> bool:
        """Brake and end the thread; returns whether it has ended."""
        self._closed = True
        self._news.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # -- the thread

    def _run(self) -> None:
        while not self._closed:
            self._news.wait()
            self._news.clear()
            newest = self._newest
            reasons = self._reasons(newest)
            if self._closed or (not reasons and _is_zero(newest)):
                continue
            reasons = reasons or self._check_mode()
            try:
                if not reasons:
                    self._goals.lend(FOLLOWING)
                    self._said = ""
            except GoalRejectedError as error:
                reasons = [str(error)]
            if reasons:
                self._say(ServoReport("twist_command is not followed: " + "; ".join(reasons)))
                continue
            self._active = True
            try:
                report = self._session()
            finally:
                self._news.clear()  # those twists have been followed, or were too late
                self._goals.take_back()
                self._active = False
            self._say(report)

    def _check_mode(self) -> list[str]:
        """Reasons against beginning, from the arm itself."""
        try:
            mode = self._arm.state().mode
        except ConnectionLostError as error:
            return [str(error)]
        return [] if mode in (ArmMode.IDLE, ArmMode.MOVING) else [f"the arm is {mode.value}"]

    def _session(self) -> ServoReport:
        """From the first twist to rest."""
        self._say(ServoReport(FOLLOWING, following=True))
        try:
            while True:
                reasons = self._follow()
                self._arm.end_following(self._settings.dynamics)
                if not self._rest():
                    return ServoReport("stopped following twist_command: " + "; ".join(reasons), ended=True)
        except ConnectionLostError as error:
            return ServoReport(str(error), lost=True)
        except Exception as error:  # a defect, too, must leave the arm at rest and the next twists refused
            self._broken = True
            with contextlib.suppress(MinidiffuserError):
                self._arm.end_following(self._settings.dynamics)
            what = str(error) if isinstance(error, MinidiffuserError) else f"{type(error).__name__}: {error}"
            return ServoReport(f"stopped following twist_command: {what}; let go and try again", ended=True)

    def _follow(self) -> list[str]:
        """Follow until there is a reason not to; returns the reasons. Raises MotionError, ConnectionLostError."""
        period, failures, moved_at = 1.0 / self._settings.rate, 0, time.monotonic()
        due = time.monotonic()
        while True:
            newest = self._newest  # once: what is checked is what is followed
            reasons = self._reasons(newest)
            if reasons or newest is None:
                return reasons
            if not _is_zero(newest):
                moved_at = time.monotonic()
            elif time.monotonic() - moved_at > IDLE_S:
                return ["it is zero"]
            try:
                state = self._arm.state()
                limited = self._limiter.limit(newest[0].in_base(state.tool), state)
                self._arm.follow(limited.twist, HOLD_S, self._settings.dynamics)
                failures = 0
            except MotionError:
                failures += 1
                if failures >= ATTEMPTS:
                    raise
                time.sleep(PAUSE_S)
                continue
            self._say(ServoReport(_following(limited.held_by), following=True), TELL_PERIOD_S)
            due = max(due + period, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))

    def _rest(self) -> bool:
        """Wait for the arm to come to rest; True as soon as there is a twist to follow instead."""

        def wanted() -> bool:
            newest = self._newest
            return not self._reasons(newest) and not _is_zero(newest)

        return not came_to_rest(self._arm, self._goals.settings, wanted)

    def _reasons(self, newest: Received | None) -> list[str]:
        """Every reason against following this twist now."""
        if self._closed:
            return ["the arm is being let go of"]
        now, s = time.monotonic(), self._settings
        if newest is None or now - newest[1] > s.twist_timeout_s:
            return [f"no twist came within the last {s.twist_timeout_s:g} s"]
        broken = ["the last motion failed: let go for a moment"] if self._broken else []
        return [*self._objections(), *self._deadman.reasons(), *broken, *newest[0].problems(s.twist_timeout_s)]

    def _say(self, report: ServoReport, period_s: float = 0.0) -> None:
        """Tell what is new; `period_s` keeps what changes fast from being told too often."""
        now = time.monotonic()
        if report.ended or report.lost or (report.message != self._said and now - self._said_at >= period_s):
            self._said, self._said_at = report.message, now
            self._tell(report)


def came_to_rest(arm: _Readable, settings: ExecutionSettings, enough: Callable[[], bool] = lambda: False) -> bool:
    """Wait until two readings agree or the time for it is over; False as soon as it is `enough`.

    By positions: the velocities that a simulated arm reports at rest are noise. Raises ConnectionLostError.
    """
    deadline, before = time.monotonic() + settings.settle_timeout_s, arm.state().joints
    while time.monotonic() < deadline:
        time.sleep(SETTLE_PERIOD_S)
        if enough():
            return False
        joints = arm.state().joints
        if np.abs(joints - before).max() < settings.settle_step_rad:
            break
        before = joints
    return True


def _is_zero(newest: Received | None) -> bool:
    return newest is None or not np.any(newest[0].twist)


def _following(held_by: tuple[str, ...]) -> str:
    return FOLLOWING + (f", held back by {' and '.join(held_by)}" if held_by else "")
