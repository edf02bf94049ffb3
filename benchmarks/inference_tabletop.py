"""The table-top tasks as a subject of `inference_harness`: every way to walk from noise to keypose candidates."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from inference_harness import Method, Played
from torch import Tensor

from minidiffuser_ros.contract.errors import CheckpointError, SpecMismatchError
from minidiffuser_ros.diffusion.sampler import SamplerConfig
from minidiffuser_ros.evaluation.rollout import Scene, roll_out
from minidiffuser_ros.model.mini_diffuser import Condition, Inputs
from minidiffuser_ros.policy.checkpoint import WEIGHTS
from minidiffuser_ros.policy.policy import DENSITY_RADIUS, Decision, Policy
from minidiffuser_ros.policy.pruned import PRUNER, PrunablePolicy, PrunedWalks, fingerprint
from minidiffuser_ros.policy.sampling import Walk
from minidiffuser_ros.pruning.pruner import REUSE, observation_embedding
from minidiffuser_ros.pruning.reuse import recorded_steps
from minidiffuser_ros.pruning.schedules import (
    block_adaptive_schedule,
    fixed_schedule,
    random_schedule,
    similarity_of,
    uniform_schedule,
)
from minidiffuser_ros.pruning.units import PrunableUnits
from minidiffuser_ros.simulation.tabletop import Tabletop, shared_world

DDPM = SamplerConfig("ddpm", 100)
REFERENCE, NAIVE = "ddpm-100", "ddpm-100 naive"
DDIM_STEPS = (50, 30, 10, 5, 4, 3, 2, 1)
ALSO_STEPS = (10, 5, 3, 2, 1)
NAIVE_SCENES = 2  # one takes as long as all others together
CALIBRATION_SEED = 150_000  # of scenes that are in nobody's test
Plan = Callable[[Condition], Walk]
AnyPlan = Callable[[Any], Walk]  # for policies of every kind


@dataclass(frozen=True)
class Choice:
    """What is asked for on the command line. episodes: scenes of each task; calibration: for schedules made of data."""

    tasks: Sequence[str]
    episodes: int
    seed: int
    calibration: int
    methods: Sequence[str] = ()


@dataclass(frozen=True)
class Fixed:
    """Schedules that do not look. intervals: of computing everything; updates: of a branch by BAC; rate: by chance."""

    intervals: tuple[int, int]
    updates: int
    rate: float


LONG, SHORT = Fixed((7, 11), 10, 0.91), Fixed((2, 3), 4, 0.6)


@dataclass(frozen=True)
class Way:
    """A method, the policy that it runs, and how that one's sampler goes."""

    policy: Policy
    plan: Plan
    method: Method


class TabletopSubject:
    """Ways to decide over the same scenes, the first of them the reference; `tabletop_subject` makes it of folders."""

    def __init__(
        self, name: str, device: str, identity: object, scenes: Sequence[Scene], ways: Mapping[str, Way]
    ) -> None:
        self.name, self.device, self.scenes = name, device, scenes
        self.reference = next(iter(ways))
        self.identity = json.dumps([identity, sorted(ways)])
        self.methods = {way: ways[way].method for way in ways}
        self._ways = ways
        self._world = shared_world(ways[self.reference].policy.spec)

    def play(self, method: str, scene: Scene) -> Played:
        """The episode, with the time of each of its decisions."""
        way, seen = self._ways[method], list[Decision]()
        way.policy.plan = way.plan
        success = roll_out(self._world, way.policy, scene, seen.append).success
        return Played.of(success, seen)


def tabletop_subject(folder: Path, also: Sequence[Path], device: str, choice: Choice) -> TabletopSubject:
    """One policy with all its methods, and others of the same tasks beside it.

    Raises CheckpointError for a folder without a policy and SpecMismatchError where they see the table differently.
    """
    policy = loaded(folder, device)
    one, whole = Method(folder.name), whole_walk(policy)
    reference = name_of(whole)
    ways = {name: Way(policy, plan, one) for name, plan in plans(policy, folder, choice).items()}
    naive = Method(folder.name, NAIVE_SCENES, reference)
    ways[f"{reference} naive"] = Way(policy, Reencoding(policy, whole), naive)
    for other in also:
        beside = loaded(other, device)
        if differences := beside.spec.differences(policy.spec):
            raise SpecMismatchError(f"{other} sees other observations than {folder}: " + "; ".join(differences))
        ways |= {
            f"{other.name}-{steps}": Way(beside, steady(Walk(SamplerConfig("ddim", steps))), Method(other.name))
            for steps in ALSO_STEPS
        }
    if choice.methods:
        ways = {name: way for name, way in ways.items() if name in (reference, *choice.methods)}
    scenes = [Scene(task, choice.seed + i) for i in range(choice.episodes) for task in choice.tasks]
    weights = [fingerprint(path) for path in (folder, folder / PRUNER, *also) if (path / WEIGHTS).exists()]
    return TabletopSubject(folder.name, device, [weights, choice.calibration], scenes, ways)


class Reencoding:
    """The plan of a walk that encodes the observation again before each step, as where they share one sequence."""

    def __init__(self, policy: Policy, whole: SamplerConfig) -> None:
        self._policy, self._inputs_of, self._whole = policy, policy.inputs, whole
        self._inputs: Inputs | None = None
        policy.inputs = self._remember  # type: ignore[method-assign]

    def _remember(self, *args: object) -> Inputs:
        self._inputs = self._inputs_of(*args)  # type: ignore[arg-type]
        return self._inputs

    def __call__(self, condition: Condition) -> Walk:
        assert self._inputs is not None
        for _ in range(self._whole.num_inference_steps - 1):
            self._policy.network.encode(self._inputs)
        return Walk(self._whole)


def steady(walk: Walk) -> AnyPlan:
    """The same walk for every observation."""
    return lambda condition: walk


def whole_walk(policy: Policy) -> SamplerConfig:
    """What others are compared with: DDPM, or of flow matching, which knows no such noise, the policy's own walk."""
    return policy.config.sampler if policy.config.schedule.beta_schedule == "flow_matching" else DDPM


def name_of(walk: SamplerConfig) -> str:
    """As in ddim-10."""
    return f"{walk.kind}-{walk.num_inference_steps}"


def plans(policy: Policy, folder: Path, choice: Choice) -> dict[str, Plan]:
    """The walks by name; schedules that are made from data see other scenes than the test."""
    whole = whole_walk(policy)
    fixed, units = LONG if whole == DDPM else SHORT, policy.sampler.units(whole)
    conditions = calibration(policy, choice.tasks, choice.calibration)
    similar = torch.stack([_similarity(policy, whole, condition, seed) for seed, condition in enumerate(conditions)])
    found: dict[str, Plan] = {name_of(whole): steady(Walk(whole))}
    found |= {
        f"ddim-{steps}": steady(Walk(SamplerConfig("ddim", steps)))
        for steps in DDIM_STEPS
        if steps < whole.num_inference_steps
    }
    return found | scheduled(whole, units, similar.mean(0), fixed) | pruned(policy, folder, conditions)


def scheduled(whole: SamplerConfig, units: PrunableUnits, similarity: Tensor, fixed: Fixed) -> dict[str, AnyPlan]:
    """Schedules that do not look; similarity [U, K, K], as `block_adaptive_schedule` asks for it."""
    masks = {f"uniform-{interval}": uniform_schedule(units, interval) for interval in fixed.intervals}
    masks[f"bac-{fixed.updates}-5"] = block_adaptive_schedule(units, similarity, fixed.updates)
    found = {name: steady(Walk(whole, mask, shared=False)) for name, mask in masks.items()}
    by_chance = random_schedule(units, fixed.rate, torch.Generator().manual_seed(0))
    return found | {f"random-{round(100 * fixed.rate)}": steady(Walk(whole, by_chance))}


def pruned(policy: PrunablePolicy, folder: Path, conditions: Sequence[Any]) -> dict[str, AnyPlan]:
    """The pruner beside the weights, and its mean over some conditions; says so where there is none."""
    try:
        walks = PrunedWalks.load(folder, policy)
    except CheckpointError as error:
        print(f"without the pruner: {error}")
        return {}
    return {"sag": walks.walk, "sag-fixed": steady(fixed_walk(walks, conditions))}


@torch.inference_mode()
def fixed_walk(walks: PrunedWalks, conditions: Sequence[Condition]) -> Walk:
    """What the pruner reuses on the average over some observations, for all, and as much of it."""
    embeddings = torch.cat([observation_embedding(condition) for condition in conditions])
    mean = torch.softmax(walks.pruner(embeddings), dim=-1)[..., REUSE].mean(0).cpu()
    rate = float(walks.pruner.masks(embeddings).float().mean())
    return Walk(walks.config.sampler, fixed_schedule(mean, rate), walks.config.shared)


@torch.inference_mode()
def calibration(policy: Policy, tasks: Sequence[str], count: int) -> list[Condition]:
    """Conditions of first views."""
    conditions, world = [], shared_world(policy.spec)
    for index in range(count):
        conditions.append(condition_of(policy, world, Scene(tasks[index % len(tasks)], CALIBRATION_SEED + index)))
    return conditions


@torch.inference_mode()
def condition_of(policy: Policy, world: Tabletop, scene: Scene) -> Condition:
    """What the policy makes of a scene that has just been laid out."""
    instruction = scene.lay_out(world)
    return policy.network.encode(policy.inputs(world.observe(), instruction))


@torch.inference_mode()
def _similarity(policy: Policy, whole: SamplerConfig, condition: Condition, seed: int) -> Tensor:
    outputs: list[dict[str, Tensor]] = []
    executors = list(recorded_steps(outputs, whole.num_inference_steps))
    policy.sampler.keyposes(condition, seed, Walk(whole, executors=executors))
    return similarity_of(policy.sampler.units(whole), outputs).cpu()


def loaded(folder: Path, device: str) -> Policy:
    """A policy whose encoding, on a GPU, ends when it is done: else its time would count as denoising."""
    policy = Policy.load(folder, device)
    if not device.startswith("cuda"):
        return policy
    encode = policy.network.encode

    def whole(inputs: Inputs) -> Condition:
        condition = encode(inputs)
        torch.cuda.synchronize(device)
        return condition

    policy.network.encode = whole  # type: ignore[method-assign]
    return policy


def densest(positions: Tensor) -> Tensor:
    """Of candidates [N, 3] the one that a policy chooses [3]: it has the most others close by."""
    kernel = torch.exp(-0.5 * (torch.cdist(positions, positions) / DENSITY_RADIUS) ** 2)
    return positions[kernel.sum(1).argmax()]


def default_tasks(folder: Path) -> list[str]:
    """Those of the policy's demonstrations. Raises CheckpointError where the folder does not tell."""
    try:
        return sorted(json.loads((folder / "training.json").read_text())["demonstrations"])
    except (OSError, ValueError, KeyError, TypeError):
        raise CheckpointError(
            f"{folder}/training.json does not name the tasks of its demonstrations: name --tasks"
        ) from None
