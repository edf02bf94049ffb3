"""Laws of pausing, stepping and rejecting, on the small world of the decision loop."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from test_loop import SECOND, TARGET, Choice, World, keypose, steps_towards_target

from minidiffuser_ros.contract.errors import GoalRejectedError, MotionError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.policy.loop import Ending, Stage
from minidiffuser_ros.policy.supervision import Answer, Pacing

START = [0.4, 0.0, 0.2]


def wandering() -> World:
    return World(decide=lambda seed: Choice(keypose(START)))


class Person:
    """Does what `acts` says each time the run stands still, 30 s after it began to; leaving ends the run."""

    def __init__(self, world: World, *acts: str) -> None:
        self.world, self.pacing, self.acts, self.stages = world, Pacing(), list(acts), list[Stage]()
        self.has_left = False

    def on_stage(self, stage: Stage, index: int) -> None:
        self.stages.append(stage)
        if stage is not Stage.PAUSED:
            return
        self.world.now_ns += 30 * SECOND
        act = self.acts.pop(0)
        if act == "step":
            assert self.pacing.step()
        elif act == "resume":
            self.pacing.resume(self.world.now_ns)
        else:
            self.has_left = True

    def run(self, **changes: Any) -> Any:
        return self.world.run(pacing=self.pacing, on_stage=self.on_stage, cancelled=lambda: self.has_left, **changes)


def test_nothing_is_looked_at_decided_or_moved_during_a_pause() -> None:
    person = Person(wandering(), "leave")
    person.pacing.pause()
    result = person.run()
    assert result.ending is Ending.CANCELLED
    assert person.stages == [Stage.PAUSED]
    assert person.world.observed_from == person.world.executed == []


def test_a_motion_under_way_is_finished_and_no_other_begins() -> None:
    person = Person(wandering(), "leave")
    person.world.on_execute = lambda goal: person.pacing.pause()
    assert person.run().ending is Ending.CANCELLED
    assert len(person.world.executed) == 1
    assert person.stages[-2:] == [Stage.MOVING, Stage.PAUSED]


@pytest.mark.parametrize("act", ["resume", "step"])
def test_every_picture_that_is_acted_on_was_taken_after_the_pause(act: str) -> None:
    person = Person(wandering(), act, "resume")
    person.pacing.pause()
    person.run(max_keyposes=1)
    assert person.world.observed_from == [130 * SECOND]


def test_what_was_seen_before_a_pause_is_looked_at_anew_even_if_the_pause_is_over() -> None:
    world = wandering()
    pacing = Pacing()

    def pause_for_a_moment(stage: Stage, index: int) -> None:
        if stage is Stage.INFERRING and len(world.observed_from) == 1:
            pacing.pause()
            world.now_ns += SECOND
            pacing.resume(world.now_ns)

    result = world.run(max_keyposes=1, pacing=pacing, on_stage=pause_for_a_moment)
    assert len(world.executed) == len(result.decisions) == 1
    assert len(world.observed_from) == 2
    assert world.observed_from[1] == pacing.ended_ns
    assert world.seeds[0] == world.seeds[1]  # the same decision, not another sample


def test_a_step_is_exactly_one_keypose() -> None:
    person = Person(wandering(), "step", "step", "leave")
    person.pacing.pause()
    assert person.run().ending is Ending.CANCELLED
    assert len(person.world.executed) == 2
    assert person.stages.count(Stage.PAUSED) == 3


def test_a_goal_that_was_refused_leaves_the_step_to_the_next_sample() -> None:
    def refuse_first(goal: Keypose) -> None:
        if len(person.world.seeds) == 1:
            raise GoalRejectedError("out of reach")

    person = Person(wandering(), "step", "leave")
    person.world.on_execute = refuse_first
    person.pacing.pause()
    person.run()
    assert len(person.world.executed) == 1


def test_a_motion_that_missed_uses_the_step_up() -> None:
    def miss(goal: Keypose) -> None:
        moved.append(goal)
        raise MotionError("stopped 12 mm short")

    moved: list[Keypose] = []
    person = Person(wandering(), "step", "leave")
    person.world.on_execute = miss
    person.pacing.pause()
    person.run()
    assert len(moved) == 1
    assert person.stages[-1] is Stage.PAUSED


def test_a_run_that_is_done_ends_although_it_is_paused() -> None:
    world = World()
    world.decide = steps_towards_target(world)
    pacing = Pacing()
    world.on_execute = lambda goal: pacing.pause() if goal.position[2] == TARGET[2] else None
    assert world.run(pacing=pacing).ending is Ending.SUCCESS_REPORTED


def test_a_pause_withdraws_the_question_and_nothing_moves_on_its_answer() -> None:
    person = Person(wandering(), "leave")

    def approve_too_late(decision: Any) -> Answer:
        person.pacing.pause()
        return Answer.YES

    assert person.run(approve=approve_too_late).ending is Ending.CANCELLED
    assert person.world.executed == []


def test_a_rejected_keypose_is_answered_by_another_sample_of_a_new_look() -> None:
    world, answers = wandering(), [Answer.NO, Answer.YES]
    world.run(max_keyposes=1, approve=lambda decision: answers.pop(0))
    assert len(world.executed) == 1
    assert len(set(world.seeds)) == len(world.observed_from) == 2


def test_two_rejections_in_a_row_end_the_run() -> None:
    world = wandering()
    result = world.run(approve=lambda decision: Answer.NO)
    assert result.ending is Ending.NOT_APPROVED
    assert "rejected" in result.message
    assert world.executed == []


def test_a_step_needs_a_pause_and_is_not_kept_for_later() -> None:
    pacing = Pacing()
    assert not pacing.step()
    pacing.pause()
    assert pacing.step()
    assert not pacing.step()
    pacing.pause()  # again: takes the step back
    assert pacing.holds
    pacing.wait(lambda: True, lambda: 0)
    assert pacing.holds
    assert pacing.step()
    pacing.begin()
    pacing.wait(lambda: True, lambda: 0)
    assert pacing.holds


def test_who_waits_goes_on_when_another_thread_resumes() -> None:
    pacing = Pacing()
    pacing.pause()
    threading.Timer(0.1, pacing.resume, (5,)).start()
    started = time.monotonic()
    pacing.wait(lambda: time.monotonic() - started > 10.0, lambda: 0)
    assert time.monotonic() - started < 10.0
    assert pacing.ended_ns == 5
