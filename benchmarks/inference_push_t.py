"""Push-T as a subject of `inference_harness`: every way to walk from noise to a sequence of actions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from inference_harness import Method, Played
from inference_tabletop import (
    ALSO_STEPS,
    CALIBRATION_SEED,
    DDIM_STEPS,
    DDPM,
    LONG,
    NAIVE,
    NAIVE_SCENES,
    REFERENCE,
    pruned,
    scheduled,
    steady,
)
from torch import Tensor

from minidiffuser_ros.diffusion.sampler import SamplerConfig, inference_timesteps
from minidiffuser_ros.evaluation.push_t import SequenceDecision, decide, play, require_push_t
from minidiffuser_ros.model.action_condition import ActionInputs
from minidiffuser_ros.model.action_transformer import TransformerCondition
from minidiffuser_ros.policy.action_sequence import ActionSequencePolicy
from minidiffuser_ros.policy.checkpoint import WEIGHTS
from minidiffuser_ros.policy.pruned import PRUNER, fingerprint
from minidiffuser_ros.policy.sampling import Walk
from minidiffuser_ros.pruning.reuse import recorded_steps
from minidiffuser_ros.pruning.schedules import similarity_of
from minidiffuser_ros.simulation.push_t import COVERAGE_OF_SUCCESS, PushT
from minidiffuser_ros.simulation.push_t_demonstrations import FIRST_TEST_SEED

Plan = Callable[[Any], Walk]


@dataclass(frozen=True)
class PushTChoice:
    """What is asked for on the command line. seed: of the first scene, None for that of tests."""

    episodes: int
    seed: int | None
    calibration: int
    methods: Sequence[str] = ()


@dataclass(frozen=True)
class _Way:
    policy: ActionSequencePolicy
    plan: Plan
    method: Method


class PushTSubject:
    """Ways to decide over the same scenes; `push_t_subject` makes it of folders."""

    reference = REFERENCE

    def __init__(
        self, name: str, device: str, identity: object, scenes: Sequence[int], ways: Mapping[str, _Way]
    ) -> None:
        self.name, self.device, self.scenes = name, device, scenes
        self.identity = json.dumps([identity, sorted(ways)])
        self.methods = {way: ways[way].method for way in ways}
        self._ways = ways
        self._field = PushT()

    def play(self, method: str, scene: int) -> Played:
        """The episode, with the time of each of its decisions.

        The score is the task's own reward: the most that was covered, as a share of what success asks for.
        """
        way, seen = self._ways[method], list[SequenceDecision]()
        way.policy.plan = way.plan
        end = play(self._field, way.policy, scene, seen.append)
        return Played.of(end.success, seen, min(1.0, end.coverage / COVERAGE_OF_SUCCESS))


def push_t_subject(folder: Path, also: Sequence[Path], device: str, choice: PushTChoice) -> PushTSubject:
    """One policy with all its methods, and others beside it.

    Raises CheckpointError for a folder without a policy and SpecMismatchError for one of another task.
    """
    policy = _loaded(folder, device)
    ways = {name: _Way(policy, plan, Method(folder.name)) for name, plan in _plans(policy, folder, choice).items()}
    ways[NAIVE] = _Way(policy, Reencoding(policy), Method(folder.name, NAIVE_SCENES, REFERENCE))
    for other in also:
        beside = _loaded(other, device)
        ways |= {
            f"{other.name}-{steps}": _Way(beside, steady(walk), Method(other.name))
            for steps, walk in ((n, _walk(beside, "ddim", n)) for n in ALSO_STEPS)
        }
    if choice.methods:
        ways = {name: way for name, way in ways.items() if name in (REFERENCE, *choice.methods)}
    first = FIRST_TEST_SEED if choice.seed is None else choice.seed
    weights = [fingerprint(path) for path in (folder, folder / PRUNER, *also) if (path / WEIGHTS).exists()]
    return PushTSubject(
        folder.name, device, [weights, choice.calibration], range(first, first + choice.episodes), ways
    )  # fmt: skip


class Reencoding:
    """The plan of a walk that makes the condition's keys and values again at each step, of all its tokens."""

    def __init__(self, policy: ActionSequencePolicy) -> None:
        self._policy, self._encode = policy, policy.network.encode
        self._inputs: ActionInputs | None = None
        policy.network.encode = self._remember  # type: ignore[method-assign, assignment]

    def _remember(self, inputs: ActionInputs) -> Any:
        self._inputs = inputs
        return self._encode(inputs)

    @torch.inference_mode()
    def __call__(self, condition: Any) -> Walk:
        assert self._inputs is not None
        network, walk = self._policy.network, _walk(self._policy, "ddpm", DDPM.num_inference_steps)
        steps = inference_timesteps(self._policy.schedule.config.num_train_timesteps, DDPM.num_inference_steps)
        for step in steps:
            again = self._encode(self._inputs)
            if isinstance(again, TransformerCondition):
                network.contexts(again, torch.full((1, 1), step, device=self._policy.device))
        return walk


def _plans(policy: ActionSequencePolicy, folder: Path, choice: PushTChoice) -> dict[str, Plan]:
    """The walks by name; schedules that are made from data see other scenes than the test."""
    whole = _walk(policy, "ddpm", DDPM.num_inference_steps)
    sampler, units = whole.sampler, policy.sampler.units(whole.sampler)
    conditions = calibration(policy, choice.calibration)
    similarity = torch.stack([_similarity(policy, sampler, c, seed) for seed, c in enumerate(conditions)])
    found = {REFERENCE: steady(whole)}
    found |= {f"ddim-{steps}": steady(_walk(policy, "ddim", steps)) for steps in DDIM_STEPS}
    return found | scheduled(sampler, units, similarity.mean(0), LONG) | pruned(policy, folder, conditions)


def _walk(policy: ActionSequencePolicy, kind: Any, steps: int) -> Walk:
    """The policy's own way to clip, whatever the steps."""
    return Walk(SamplerConfig(kind, steps, policy.config.sampler.clip_sample))


@torch.inference_mode()
def calibration(policy: ActionSequencePolicy, count: int) -> list[Any]:
    """Conditions of moments on the way of the policy itself, one of each scene, spread over the episode."""
    field, found = PushT(), []
    for index in range(count):
        last: Any = None

        def plan(condition: Any) -> Walk:
            nonlocal last
            last = condition
            return _walk(policy, "ddim", 10)

        policy.plan = plan
        play(field, policy, CALIBRATION_SEED + index, max_steps=policy.config.action_steps * (1 + 2 * (index % 8)))
        found.append(last)
    return found


@torch.inference_mode()
def _similarity(policy: ActionSequencePolicy, sampler: SamplerConfig, condition: Any, seed: int) -> Tensor:
    outputs: list[dict[str, Tensor]] = []
    executors = list(recorded_steps(outputs, sampler.num_inference_steps))
    policy.draw(condition, Walk(sampler, executors=executors), 1, seed)
    return similarity_of(policy.sampler.units(sampler), outputs).cpu()


def _loaded(folder: Path, device: str) -> ActionSequencePolicy:
    """A policy of this task whose encoding, on a GPU, ends when it is done; its first decision is behind it."""
    policy = ActionSequencePolicy.load(folder, device)
    require_push_t(policy)
    if device.startswith("cuda"):
        encode = policy.network.encode

        def whole(inputs: ActionInputs) -> Any:
            condition = encode(inputs)
            torch.cuda.synchronize(device)
            return condition

        policy.network.encode = whole  # type: ignore[method-assign, assignment]
    window = policy.config.model.obs_steps
    decide(policy, np.stack([PushT().reset(CALIBRATION_SEED)] * window), 0)
    return policy
