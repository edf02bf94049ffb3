"""Episodes of Push-T by a policy over action sequences: draw a sequence, perform its first part, look again."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.contract.errors import SpecMismatchError
from minidiffuser_ros.policy.action_sequence import ActionObservation, ActionSequencePolicy
from minidiffuser_ros.simulation.push_t import FIELD, MAX_STEPS, PushT
from minidiffuser_ros.simulation.push_t_view import PushTView

VIEW = PushTView()
SEEDS_A_SCENE = 1000  # of decisions; more than an episode has steps


@dataclass(frozen=True)
class SequenceDecision:
    """actions [E, 2] to perform, px on the field; milliseconds of encoding and of denoising; share of reuse."""

    actions: NDArray[np.float64]
    encode_ms: float
    denoise_ms: float
    pruned: float


@dataclass(frozen=True)
class PushTRollout:
    """How an episode ended: coverage is the most that there was, steps all that were made."""

    seed: int
    success: bool
    coverage: float
    steps: int


def play(
    field: PushT,
    policy: ActionSequencePolicy,
    seed: int,
    watch: Callable[[SequenceDecision], object] = lambda decision: None,
    max_steps: int = MAX_STEPS,
) -> PushTRollout:
    """One scene until the block covers 95 % of its mark, at most `max_steps`.

    Equal policies and seeds give equal episodes on one machine. `watch` sees every decision before it is performed.
    Raises SpecMismatchError for a policy of another task.
    """
    require_push_t(policy)
    state = field.reset(seed)
    window = policy.config.model.obs_steps
    seen = deque([state] * window, maxlen=window)  # as in training, where nothing was before the start
    best = field.coverage
    while field.steps < max_steps and not field.success:
        decision = decide(policy, np.stack(seen), seed * SEEDS_A_SCENE + field.steps)
        watch(decision)
        for action in decision.actions[: max_steps - field.steps]:
            seen.append(field.step(np.clip(action, 0.0, FIELD)))
            best = max(best, field.coverage)
            if field.success:
                break
    return PushTRollout(seed, field.success, best, field.steps)


def decide(policy: ActionSequencePolicy, states: NDArray[np.float64], seed: int) -> SequenceDecision:
    """The next actions of a policy that has seen states [O, 5], oldest first, with the time that they take."""
    started = time.perf_counter()
    condition = policy.encode(ActionObservation(VIEW.see(states)))
    encoded = time.perf_counter()
    walk = policy.plan(condition)
    sequence = policy.draw(condition, walk, 1, seed)[0]
    denoised = time.perf_counter()
    actions = policy.first_actions(VIEW.onto_field(sequence, states[-1]))
    return SequenceDecision(actions, 1e3 * (encoded - started), 1e3 * (denoised - encoded), walk.pruned)


def require_push_t(policy: ActionSequencePolicy) -> None:
    """Raise SpecMismatchError unless the policy was trained on what `PushTView` shows and tells."""
    config = policy.config
    if config.features != VIEW.name or (config.model.state_dim, config.model.cameras) != (VIEW.num_features, 0):
        raise SpecMismatchError(
            f"this policy sees '{config.features}', {config.model.state_dim} numbers and {config.model.cameras}"
            f" cameras, Push-T shows '{VIEW.name}' and {VIEW.num_features} numbers: train one on its demonstrations"
        )
