"""One keypose goal from its check to its end: approach, move, settle, verify, drive the gripper, verify, retreat."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from minidiffuser_ros.arm.contact import ContactSettings, ContactThresholds
from minidiffuser_ros.arm.envelope import SafetyEnvelope
from minidiffuser_ros.arm.execution_settings import ExecutionSettings
from minidiffuser_ros.arm.goal import KeyposeGoal, Way
from minidiffuser_ros.arm.grip import Grip
from minidiffuser_ros.arm.outcome import (
    APPROACHING,
    CHECKING,
    GRIPPER,
    MOVING,
    PLANNING,
    RETREATING,
    SETTLING,
    VERIFYING,
    OnPhase,
)
from minidiffuser_ros.arm.protocol import Arm, ArmState, Array
from minidiffuser_ros.arm.route import LINE, Route, RouteChoice
from minidiffuser_ros.arm.settling import settle, verify_pose
from minidiffuser_ros.contract.errors import GoalRejectedError, MotionError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.contract.refusal import Reason, codes_of
from minidiffuser_ros.geometry.transform import pose_of

# After these the arm stands still and is as healthy as before: slower and from where it is now, it may succeed.
WORTH_A_RETRY = {str(reason) for reason in (Reason.POSE_MISSED, Reason.UNSETTLED, Reason.NO_TRAJECTORY)}


@dataclass(frozen=True)
class Setup:
    """What every goal is carried out with."""

    arm: Arm
    envelope: SafetyEnvelope
    routes: RouteChoice
    grip: Grip
    settings: ExecutionSettings
    contact: ContactSettings
    now_ns: Callable[[], int]
    objections: Callable[[], list[str]]
    settled_ns: int = 0  # 0: goals need not answer an observation taken after the last motion


@dataclass
class KeyposeRun:
    """One goal. attempts: motions begun towards it. there: the reading by which the goal was found reached."""

    setup: Setup
    goal: KeyposeGoal
    speed: float
    halt: threading.Event
    on_phase: OnPhase
    attempts: int = 0
    there: ArmState | None = field(default=None)

    def run(self) -> str:
        """Carry it out and say how it went. Raises GoalRejectedError before anything has moved, MotionError after."""
        self.on_phase(CHECKING)
        self._go(self._checked())
        setup, keypose = self.setup, self.goal.keypose
        self.on_phase(GRIPPER)
        text = setup.grip.drive(keypose.opening, self.halt)
        self.on_phase(VERIFYING)
        self.there = settle(setup.arm, setup.settings)
        verify_pose(keypose, self.there, setup.settings)
        if self.goal.retreat_m > 0.0:
            self._retreat()
            text += ", and retreated"
        again = f" at attempt {self.attempts}" if self.attempts > 1 else ""
        return f"reached the keypose{again}, {text}"

    def _checked(self) -> Route:
        """The route, once nothing is against the goal. Raises GoalRejectedError, ConnectionLostError."""
        setup, state = self.setup, self.setup.arm.state()
        reasons = [
            *setup.envelope.check_speed(self.speed),
            *setup.envelope.check_goal(self.goal, state, setup.now_ns(), setup.settled_ns),
        ]
        if reasons:
            raise GoalRejectedError(*reasons)
        return self._route(state)

    def _route(self, state: ArmState) -> Route:
        if self.goal.way is Way.PLANNED:
            self.on_phase(PLANNING)
        return self.setup.routes.choose(self.goal, state, self.speed, self.setup.grip.held_width)

    def _go(self, route: Route) -> None:
        """Move to the goal, again and slower after a failure that left the arm healthy. Raises MotionError."""
        while True:
            self.attempts += 1
            try:
                self._move(route)
                return
            except MotionError as error:
                retry = self._retry(error)
                if retry is None:
                    raise
                route = retry

    def _retry(self, error: MotionError) -> Route | None:
        """The route of another attempt, with the speed lowered; None where there is none to be made."""
        setup = self.setup
        worth = WORTH_A_RETRY.intersection(codes_of([error.reason]))
        if not worth or self.attempts > setup.settings.retries or self.halt.is_set():
            return None
        state = settle(setup.arm, setup.settings, must=False)
        if setup.objections() or setup.envelope.check_mode(state):
            return None
        self.speed *= setup.settings.retry_speed
        try:
            return self._route(state)
        except GoalRejectedError:
            return None

    def _move(self, route: Route) -> None:
        setup, stations = self.setup, route.stations
        first = next(iter(stations.values()))
        # A line without an approach is how a policy presses, pulls and pushes: the arm may meet something at its end.
        works = route.way == LINE and not self.goal.approach_m
        self.on_phase(MOVING)
        self._prepare(setup.contact.contact if works else setup.contact.transit)
        if route.path is not None:
            setup.arm.move_path(route.path, self.halt)
        else:
            setup.arm.move_line(first, self.speed, self.halt)
        if self.goal.approach_m > 0.0:
            start = Keypose(*pose_of(first), self.goal.keypose.opening)
            verify_pose(start, settle(setup.arm, setup.settings), setup.settings)
            self.on_phase(APPROACHING)
            self._work_along(stations["the goal"])
        self.on_phase(SETTLING)
        self.there = settle(setup.arm, setup.settings)
        setup.grip.check_kept(self.there.width)
        verify_pose(self.goal.keypose, self.there, setup.settings)

    def _retreat(self) -> None:
        setup, end = self.setup, self.goal.stations()["the end of the retreat"]
        self.on_phase(RETREATING)
        self._work_along(end)
        state = settle(setup.arm, setup.settings)
        setup.grip.check_kept(state.width)
        verify_pose(Keypose(*pose_of(end), self.goal.keypose.opening), state, setup.settings)

    def _work_along(self, tool: Array) -> None:
        """A straight line on which contact is to be expected."""
        setup = self.setup
        self._prepare(setup.contact.contact)
        setup.arm.move_line(tool, self.speed * setup.settings.approach_speed, self.halt)

    def _prepare(self, thresholds: ContactThresholds) -> None:
        self.setup.arm.prepare(thresholds, self.setup.contact.payload)
