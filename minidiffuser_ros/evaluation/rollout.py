"""One episode of a policy or of the expert in the directly stepped world."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from minidiffuser_ros.contract.errors import MotionError, ObservationError
from minidiffuser_ros.policy.policy import Policy
from minidiffuser_ros.simulation.tabletop import Tabletop


@lru_cache(maxsize=1)
def shared_policy(checkpoint: Path) -> Policy:
    """The policy of this process, on one thread: the other cores have their own processes."""
    torch.set_num_threads(1)
    return Policy.load(checkpoint)


@dataclass(frozen=True)
class Rollout:
    """How one episode ended. `reason` is empty on success."""

    task: str
    seed: int
    instruction: str
    success: bool
    keyposes: int
    reason: str


def roll_out_expert(world: Tabletop, task: str, seed: int) -> Rollout:
    """The scripted expert's keyposes, executed blindly."""
    instruction = world.reset(task, seed)
    keyposes = world.expert()
    try:
        for keypose in keyposes:
            world.execute(keypose)
    except MotionError as error:
        return Rollout(task, seed, instruction, False, len(keyposes), str(error))
    success = world.success()
    return Rollout(task, seed, instruction, success, len(keyposes), "" if success else "the expert failed")


def roll_out(world: Tabletop, policy: Policy, task: str, seed: int) -> Rollout:
    """The policy until the rule holds, it holds still twice, nothing is seen, or the keyposes are spent.

    A goal that cannot be reached costs a keypose; the next sample may be another one.
    """
    instruction = world.reset(task, seed)
    limit, holds, reason = world.task.max_keyposes, 0, "keyposes spent"
    before = None
    for index in range(limit):
        try:
            observation = world.observe()
            decision = policy.decide(observation, instruction, seed * 100 + index, before)
            holds = holds + 1 if decision.holds else 0
            if holds == 2:
                reason = "held still before the task was done"
                break
            world.execute(decision.keypose)
            before = before if decision.holds else observation  # as in the loop, where a hold moves nothing
        except ObservationError as error:
            reason = str(error)
            break
        except MotionError:
            continue  # another sample from the same place: the graph tries once more, too
        if world.success():
            return Rollout(task, seed, instruction, True, index + 1, "")
    return Rollout(task, seed, instruction, False, index + 1, reason)
