"""The decision loop: look, decide, check, move, look again. Free of ROS; what it touches is handed in.

arm idle → observation stamped after the arm settled → decide → validate → approve → execute → success? → …
A pause holds it before a look and before a motion; what was seen before its end is looked at anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from minidiffuser_ros.contract.errors import (
    ConnectionLostError,
    GoalRejectedError,
    MinidiffuserError,
    MotionError,
    ObservationError,
)
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.contract.observation import Observation
from minidiffuser_ros.policy.supervision import Answer, Pacing
from minidiffuser_ros.policy.validation import ValidationSettings, goal_problems

if TYPE_CHECKING:
    from minidiffuser_ros.policy.policy import Decision

HOLDS_THAT_END_A_RUN = 2
# A refused goal, or a motion that missed, may be answered by another sample once before the run ends.
ATTEMPTS_PER_KEYPOSE = 2


class Ending(Enum):
    """Why a run ended."""

    SUCCESS_REPORTED = "success reported"
    POLICY_HOLDS = "policy holds"
    KEYPOSES_SPENT = "keyposes spent"
    GOAL_REFUSED = "goal refused"
    MOTION_FAILED = "motion failed"
    NO_OBSERVATION = "no observation"
    CONNECTION_LOST = "connection lost"
    CANCELLED = "cancelled"
    NOT_APPROVED = "not approved"
    DRY_RUN = "dry run"
    FAILED = "failed"


# What an error means for the run, wherever it came up.
ENDINGS: tuple[tuple[type[MinidiffuserError], Ending], ...] = (
    (ConnectionLostError, Ending.CONNECTION_LOST),
    (ObservationError, Ending.NO_OBSERVATION),
    (MotionError, Ending.MOTION_FAILED),
    (GoalRejectedError, Ending.GOAL_REFUSED),
)


class Stage(Enum):
    """What the loop is doing, as told in the feedback of the action."""

    PAUSED = "paused"
    OBSERVING = "observing"
    INFERRING = "inferring"
    WAITING_FOR_APPROVAL = "waiting_for_approval"
    MOVING = "moving"


@dataclass(frozen=True)
class DecisionRecord:
    """One decision and what became of it; times in milliseconds, `spread` in metres.

    sampler, steps, pruned: of the walk that the keypose comes from, `fell_back` where it was a second one.
    """

    index: int
    keypose: Keypose
    stamp_ns: int
    candidates: int
    spread: float
    steps: int
    observe_ms: float
    lift_ms: float
    encode_ms: float
    denoise_ms: float
    move_ms: float = 0.0
    holds: bool = False
    sampler: str = ""
    pruned: float = 0.0
    fell_back: bool = False


@dataclass(frozen=True)
class RunResult:
    """The outcome of a run: `message` is one sentence for people, `ending` the same for programs."""

    success: bool
    ending: Ending
    message: str
    decisions: tuple[DecisionRecord, ...] = ()


@dataclass(frozen=True)
class Surroundings:
    """Everything the loop touches. All calls may block; `cancelled` is asked between them.

    settled_at_ns() -> when the arm came to rest, waiting until it is idle. observe(not_before_ns) ->
    (observation, lift_ms). decide(observation, instruction, seed, what was seen before the last motion, if any).
    approve(decision) -> whether the goal may be sent, waiting for a person where one is asked, until there is a pause.
    execute(keypose) returns after the verified arrival. success_reported() -> None where nothing judges the task. They
    raise the errors of `contract.errors`.
    For those who watch: on_stage when one begins, on_decision before the checks, on_goal after them and before
    anything moves, on_record when a decision has had its effect.
    """

    settled_at_ns: Callable[[], int]
    observe: Callable[[int], tuple[Observation, float]]
    decide: Callable[[Observation, str, int, Observation | None], Decision]
    approve: Callable[[Decision], Answer]
    execute: Callable[[Keypose], None]
    success_reported: Callable[[], bool | None]
    cancelled: Callable[[], bool] = lambda: False
    dry_run: Callable[[], bool] = lambda: False
    pacing: Pacing = field(default_factory=Pacing)
    on_stage: Callable[[Stage, int], None] = lambda stage, index: None
    on_decision: Callable[[DecisionRecord, Decision, Observation], None] = lambda record, decision, observation: None
    on_goal: Callable[[DecisionRecord], None] = lambda record: None
    on_record: Callable[[DecisionRecord], None] = lambda record: None
    now_ns: Callable[[], int] = time.time_ns


@dataclass
class _Ended(Exception):
    """Leaves the loop from any depth."""

    ending: Ending
    message: str
    success: bool = False


@dataclass
class DecisionLoop:
    """Performs one instruction; an instance serves one run."""

    surroundings: Surroundings
    validation: ValidationSettings = field(default_factory=ValidationSettings)
    _records: list[DecisionRecord] = field(default_factory=list)
    _before: Observation | None = None  # seen before the last motion

    def run(self, instruction: str, max_keyposes: int, seed: int) -> RunResult:
        """Decide and move until the task is done or something ends the run; errors become its message."""
        try:
            holds = 0
            for index in range(max_keyposes):
                holds = holds + 1 if self._advance(instruction, seed, index) else 0
                self._end_if_done(holds)
            raise _Ended(Ending.KEYPOSES_SPENT, f"the task is not done after {max_keyposes} keyposes")
        except _Ended as end:
            ending, message, success = end.ending, end.message, end.success
        except MinidiffuserError as error:
            ending, message, success = self._ending_of(error), str(error), False
        return RunResult(success, ending, message, tuple(self._records))

    def _ending_of(self, error: MinidiffuserError) -> Ending:
        if self.surroundings.cancelled():
            return Ending.CANCELLED
        return next((ending for kind, ending in ENDINGS if isinstance(error, kind)), Ending.FAILED)

    def _advance(self, instruction: str, seed: int, index: int) -> bool:
        """One keypose, decided and reached; returns whether the policy chose to hold still instead."""
        attempt, refusal, ending = 0, "", Ending.GOAL_REFUSED
        while attempt < ATTEMPTS_PER_KEYPOSE:
            settled_at_ns, observation, decision, record = self._decide(instruction, seed, index, attempt)
            if self._overtaken(observation):
                continue
            if record.holds:
                self._keep(record)
                self.surroundings.pacing.moved()
                return True
            problems = goal_problems(
                decision.keypose, observation, self.validation, settled_at_ns, self.surroundings.now_ns()
            )
            ending, refusal = Ending.GOAL_REFUSED, "the keypose was refused: " + "; ".join(problems)
            if not problems:
                self.surroundings.on_goal(record)
                answer = self._ask(decision, record)
                if self._overtaken(observation):
                    continue
                if answer is Answer.NONE:
                    raise _Ended(Ending.NOT_APPROVED, "the keypose was not approved in time, nothing moved")
                ending, refusal = Ending.NOT_APPROVED, "the keypose was rejected"
                if answer is Answer.YES:
                    ending, refusal = self._reach(record, observation, decision.keypose)
                    if not refusal:
                        return False
            attempt += 1
        raise _Ended(ending, f"{refusal} ({ATTEMPTS_PER_KEYPOSE} samples tried)")

    def _overtaken(self, observation: Observation) -> bool:
        """Whether a pause has come or gone since this was seen, so that it is to be looked at anew."""
        pacing = self.surroundings.pacing
        return pacing.holds or observation.stamp_ns < pacing.ended_ns

    def _reach(self, record: DecisionRecord, observation: Observation, keypose: Keypose) -> tuple[Ending, str]:
        """Move there; returns why another sample is to be tried, an empty sentence where it was reached."""
        start, earlier, self._before = time.perf_counter(), self._before, observation
        self._enter(Stage.MOVING, record.index)
        try:
            self.surroundings.execute(keypose)
            self._keep(replace(record, move_ms=_milliseconds_since(start)))
        except GoalRejectedError as error:
            self._before = earlier  # nothing moved
            return Ending.GOAL_REFUSED, str(error)
        except MotionError as error:
            self._keep(replace(record, move_ms=_milliseconds_since(start)))
            self.surroundings.pacing.moved()
            # A push can do its work without arriving exactly.
            self._end_if_done(holds=0)
            return Ending.MOTION_FAILED, str(error)
        self.surroundings.pacing.moved()
        return Ending.MOTION_FAILED, ""

    def _decide(
        self, instruction: str, seed: int, index: int, attempt: int
    ) -> tuple[int, Observation, Decision, DecisionRecord]:
        """Look and infer; the seed differs for every decision and attempt, and is the same in a repeated run."""
        around = self.surroundings
        if around.pacing.holds:
            self._enter(Stage.PAUSED, index)
            around.pacing.wait(around.cancelled, around.now_ns)
        self._enter(Stage.OBSERVING, index)
        settled_at_ns = max(around.settled_at_ns(), around.pacing.ended_ns)
        start = time.perf_counter()
        observation, lift_ms = around.observe(settled_at_ns)
        observe_ms = max(_milliseconds_since(start) - lift_ms, 0.0)
        self._enter(Stage.INFERRING, index)
        sample_seed = int(np.random.SeedSequence([seed, index, attempt]).generate_state(1)[0])
        decision = around.decide(observation, instruction, sample_seed, self._before)
        record = DecisionRecord(
            index=index,
            keypose=decision.keypose,
            stamp_ns=observation.stamp_ns,
            candidates=len(decision.candidates),
            spread=decision.spread,
            steps=decision.steps,
            observe_ms=observe_ms,
            lift_ms=lift_ms,
            encode_ms=decision.encode_ms,
            denoise_ms=decision.denoise_ms,
            holds=decision.holds,
            sampler=decision.sampler,
            pruned=decision.pruned,
            fell_back=decision.fell_back,
        )
        around.on_decision(record, decision, observation)
        return settled_at_ns, observation, decision, record

    def _ask(self, decision: Decision, record: DecisionRecord) -> Answer:
        around = self.surroundings
        if around.dry_run():
            self._keep(record)
            raise _Ended(Ending.DRY_RUN, "dry run: the keypose was published, nothing moved")
        self._enter(Stage.WAITING_FOR_APPROVAL, record.index)
        answer = around.approve(decision)
        self._check_cancelled()
        return answer

    def _keep(self, record: DecisionRecord) -> None:
        self._records.append(record)
        self.surroundings.on_record(record)

    def _end_if_done(self, holds: int) -> None:
        self._check_cancelled()
        reported = self.surroundings.success_reported()
        if reported:
            raise _Ended(
                Ending.SUCCESS_REPORTED, f"done after {len(self._records)} decisions: the task reports success", True
            )
        if holds < HOLDS_THAT_END_A_RUN:
            return
        if reported is None:
            raise _Ended(Ending.POLICY_HOLDS, "done in the policy's view: it chose to hold still twice", True)
        raise _Ended(Ending.POLICY_HOLDS, "the policy holds still, but the task does not report success")

    def _enter(self, stage: Stage, index: int) -> None:
        self._check_cancelled()
        self.surroundings.on_stage(stage, index)

    def _check_cancelled(self) -> None:
        if self.surroundings.cancelled():
            raise _Ended(Ending.CANCELLED, "cancelled on request")


def _milliseconds_since(start: float) -> float:
    return (time.perf_counter() - start) * 1e3
