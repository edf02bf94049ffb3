"""One episode of a policy or of the expert in the directly stepped world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import torch

from minidiffuser_ros.contract.errors import MotionError, ObservationError
from minidiffuser_ros.contract.observation import Observation
from minidiffuser_ros.policy.policy import Decision, Policy
from minidiffuser_ros.simulation.failures import HELD_STILL, NOTHING_SEEN, TIMEOUT, UNREACHABLE, failure_of
from minidiffuser_ros.simulation.shifts import shift_named
from minidiffuser_ros.simulation.tabletop import Tabletop


class Decides(Protocol):
    """What can be rolled out: a `Policy`, or a baseline that answers as one."""

    def decide(
        self, observation: Observation, instruction: str, seed: int = 0, before: Observation | None = None
    ) -> Decision:
        """As `Policy.decide`."""


@lru_cache(maxsize=1)
def shared_policy(checkpoint: Path) -> Policy:
    """The policy of this process, on one thread: the other cores have their own processes."""
    torch.set_num_threads(1)
    return Policy.load(checkpoint)


@dataclass(frozen=True)
class Scene:
    """What is laid out: a task, the seed of everything random, and the name of a shift."""

    task: str
    seed: int
    shift: str = "none"

    def lay_out(self, world: Tabletop) -> str:
        """The sentence. Raises UnknownTaskError."""
        return world.reset(self.task, self.seed, shift=shift_named(self.shift))


@dataclass(frozen=True)
class Rollout:
    """How one episode ended. `failure` is one of `simulation.failures`, `reason` a sentence; both empty on success."""

    task: str
    seed: int
    instruction: str
    success: bool
    keyposes: int
    failure: str
    reason: str


def roll_out_expert(world: Tabletop, scene: Scene) -> Rollout:
    """The scripted expert's keyposes."""
    instruction, count, otherwise, reason = scene.lay_out(world), 0, TIMEOUT, "the expert failed"
    try:
        for keypose in world.expert():
            world.execute(keypose)
            count += 1
    except MotionError as error:
        otherwise, reason = UNREACHABLE, str(error)
    if world.success():
        return Rollout(scene.task, scene.seed, instruction, True, count, "", "")
    return Rollout(scene.task, scene.seed, instruction, False, count, failure_of(world, otherwise), reason)


def roll_out(
    world: Tabletop, policy: Decides, scene: Scene, watch: Callable[[Decision], object] = lambda decision: None
) -> Rollout:
    """The policy until the rule holds, it holds still twice, nothing is seen, or the keyposes are spent.

    A goal that cannot be reached costs a keypose; the next sample may be another one. `watch` sees every decision
    before it is executed.
    """
    instruction = scene.lay_out(world)
    limit, holds = world.task.max_keyposes, 0
    before = None
    otherwise, reason = TIMEOUT, "keyposes spent"
    for index in range(limit):
        try:
            observation = world.observe()
            decision = policy.decide(observation, instruction, scene.seed * 100 + index, before)
            watch(decision)
            holds = holds + 1 if decision.holds else 0
            if holds == 2:
                otherwise, reason = HELD_STILL, "held still before the task was done"
                break
            world.execute(decision.keypose)
            otherwise, reason = TIMEOUT, "keyposes spent"
            before = before if decision.holds else observation  # as in the loop, where a hold moves nothing
        except ObservationError as error:
            otherwise, reason = NOTHING_SEEN, str(error)
            break
        except MotionError as error:  # another sample from the same place: the graph tries once more, too
            otherwise, reason = UNREACHABLE, str(error)
            continue
        if world.success():
            return Rollout(scene.task, scene.seed, instruction, True, index + 1, "", "")
    return Rollout(scene.task, scene.seed, instruction, False, index + 1, failure_of(world, otherwise), reason)
