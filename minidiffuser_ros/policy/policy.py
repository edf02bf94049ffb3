"""The policy: an observation and a sentence in, candidates and the chosen keypose out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from minidiffuser_ros.contract.errors import CheckpointError, InstructionError, SpecMismatchError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.contract.observation import Observation, ObservationSpec
from minidiffuser_ros.model.instruction import InstructionEncoder
from minidiffuser_ros.model.mini_diffuser import Condition, Inputs, MiniDiffuser
from minidiffuser_ros.policy.checkpoint import PolicyConfig, load_checkpoint
from minidiffuser_ros.policy.inputs import ToolState, View, collate
from minidiffuser_ros.policy.known_instructions import KnownInstructions
from minidiffuser_ros.policy.sampling import KeyposeSampler, Walk

DENSITY_RADIUS = 0.02  # m: candidates within this distance support each other
HOLD_DISTANCE = 0.025  # m
HOLD_ANGLE_DEG = 15.0


@dataclass(frozen=True)
class Decision:
    """What the policy wants next. candidates: [N, 3] m; spread: rms distance in m from the chosen one.

    holds: the chosen keypose is where the tool already is, so the policy considers the task done.
    steps: of the sampler; pruned: share of their branches that was reused instead of computed. sampler: `ddim`, `ddpm`,
    `flow`, or `sag` for a pruned walk. doubt: why the first answer was not believed, so that all of this is about a
    second one; empty where it was. denoise_ms has both. mask: which of its branches [K, U] the first answer reused,
    with their names; None where that walk was whole.
    """

    keypose: Keypose
    candidates: NDArray[np.float64]
    candidate_keyposes: tuple[Keypose, ...]
    chosen: int
    spread: float
    holds: bool
    encode_ms: float
    denoise_ms: float
    steps: int
    pruned: float = 0.0
    sampler: str = "ddim"
    mask: NDArray[np.bool_] | None = None
    doubt: str = ""
    branches: tuple[str, ...] = ()

    @property
    def fell_back(self) -> bool:
        """Whether there was a second answer."""
        return bool(self.doubt)


@dataclass(frozen=True)
class Proposal:
    """What one walk says: candidates [N, 3] m and their keyposes, the chosen one, all distances from it [N] m."""

    walk: Walk
    candidates: NDArray[np.float64]
    keyposes: tuple[Keypose, ...]
    chosen: int
    gaps: NDArray[np.float64]


@dataclass(frozen=True)
class Doubt:
    """Why a proposal is not believed, and the walk to take instead."""

    reason: str
    walk: Walk


class Policy:
    """A trained Mini-Diffuser with its instruction encoder, schedule and sampler, on one device.

    plan: how the sampler goes for an observation; replace it by that of a pruner (`PrunedWalks.walk`) or by your own.
    doubt: whether what came of it is believed; everything is, unless it is replaced. `FastPath` sets both.
    """

    def __init__(self, config: PolicyConfig, network: MiniDiffuser, device: str = "cpu") -> None:
        self.config = config
        self.device = device
        self.network = network.to(device).eval()
        self.encoder = InstructionEncoder()
        self.known = KnownInstructions(config.instructions, self.encoder)
        self.sampler = KeyposeSampler(config, self.network, device)
        self.plan: Callable[[Condition], Walk] = lambda condition: Walk(config.sampler)
        self.doubt: Callable[[Condition, Proposal], Doubt | None] = lambda condition, proposal: None

    @classmethod
    def load(cls, path: str | Path, device: str = "cpu") -> Policy:
        """From a checkpoint folder. Raises CheckpointError for a missing, incomplete or foreign one."""
        config, weights = load_checkpoint(Path(path))
        try:
            network = MiniDiffuser(config.model)
            network.load_state_dict(weights)
            return cls(config, network, device)
        except (RuntimeError, ValueError, InstructionError) as error:
            raise CheckpointError(
                f"the weights in {path} do not fit its config: {str(error).splitlines()[0]}"
            ) from None

    @property
    def spec(self) -> ObservationSpec:
        """The observations this policy was trained on."""
        return self.config.spec

    def inputs(self, observation: Observation, instruction: str, before: Observation | None = None) -> Inputs:
        """What the network encodes, on the policy's device; arguments as of `decide`, and nothing is checked."""
        view = View(
            observation.points, observation.colors, ToolState.of(observation), self.encoder.encode(instruction),
            ToolState.of(before) if before else None,
        )  # fmt: skip
        return collate([view], self.spec).to(self.device)

    @torch.inference_mode()
    def decide(
        self, observation: Observation, instruction: str, seed: int = 0, before: Observation | None = None
    ) -> Decision:
        """The next keypose. Equal inputs and seed give equal decisions.

        before: what was seen one keypose earlier, None at the first; only networks with `history` look at its tool.

        Raises SpecMismatchError for an observation of another spec and InstructionError for an unusable sentence.
        """
        self.known.require(instruction)
        differences = self.spec.differences(observation.spec)
        if differences:
            raise SpecMismatchError("the policy was trained on other observations: " + "; ".join(differences))
        started = time.perf_counter()
        condition = self.network.encode(self.inputs(observation, instruction, before))
        encoded = time.perf_counter()
        proposal = self.propose(condition, self.plan(condition), seed)
        doubt, first = self.doubt(condition, proposal), proposal.walk
        if doubt is not None:
            proposal = self.propose(condition, doubt.walk, seed)
        denoised = time.perf_counter()
        walk, chosen = proposal.walk, proposal.keyposes[proposal.chosen]
        return Decision(
            chosen,
            proposal.candidates,
            proposal.keyposes,
            proposal.chosen,
            float(np.sqrt(np.mean(proposal.gaps**2))),
            holds(chosen, ToolState.of(observation)),
            1e3 * (encoded - started),
            1e3 * (denoised - encoded),
            walk.sampler.num_inference_steps,
            walk.pruned,
            self._name_of(walk),
            None if first.mask is None else first.mask.cpu().numpy(),
            doubt.reason if doubt else "",
            self.sampler.units(first.sampler).names,
        )

    def propose(self, condition: Condition, walk: Walk, seed: int) -> Proposal:
        """What a walk says for the one observation of `condition`."""
        sampled = self.sampler.keyposes(condition, seed, walk)
        candidates = sampled.positions.double().cpu().numpy()
        keyposes = tuple(map(Keypose, candidates, sampled.quats_wxyz, sampled.openings))
        gaps = np.linalg.norm(candidates[:, None] - candidates[None], axis=-1)
        chosen = _densest(gaps)
        return Proposal(walk, candidates, keyposes, chosen, gaps[chosen])

    def _name_of(self, walk: Walk) -> str:
        if walk.mask is not None:
            return "sag"
        return "flow" if self.config.schedule.beta_schedule == "flow_matching" else walk.sampler.kind


def holds(keypose: Keypose, tool: ToolState) -> bool:
    """Whether a keypose asks for nothing but what the tool does already."""
    distance, angle = keypose.distance_to(tool.position, tool.quat_wxyz)
    return distance < HOLD_DISTANCE and angle < HOLD_ANGLE_DEG and keypose.is_open == (tool.opening > 0.3)


def _densest(gaps: NDArray[np.float64]) -> int:
    """The candidate with the most others close by, by a Gaussian kernel of the pairwise distances [N, N]."""
    return int(np.exp(-0.5 * (gaps / DENSITY_RADIUS) ** 2).sum(axis=1).argmax())
