"""The policy: an observation and a sentence in, candidates and the chosen keypose out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from minidiffuser_ros.contract.errors import CheckpointError, InstructionError, SpecMismatchError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.contract.observation import Observation, ObservationSpec
from minidiffuser_ros.diffusion.sampler import Denoiser, inference_timesteps, sample
from minidiffuser_ros.diffusion.schedule import NoiseSchedule
from minidiffuser_ros.geometry.rotation import quat_from_six
from minidiffuser_ros.model.config import POSITION
from minidiffuser_ros.model.instruction import InstructionEncoder
from minidiffuser_ros.model.mini_diffuser import Condition, Contexts, MiniDiffuser
from minidiffuser_ros.model.neck import REACH, BlockExecutor, run_block
from minidiffuser_ros.policy.checkpoint import PolicyConfig, load_checkpoint
from minidiffuser_ros.policy.inputs import PositionScale, ToolState, View, collate
from minidiffuser_ros.policy.known_instructions import KnownInstructions
from minidiffuser_ros.policy.rotation_bins import quat_from_bins
from minidiffuser_ros.pruning.reuse import pruned_steps
from minidiffuser_ros.pruning.units import PrunableUnits, neck_units

DENSITY_RADIUS = 0.02  # m: candidates within this distance support each other
HOLD_DISTANCE = 0.025  # m
HOLD_ANGLE_DEG = 15.0
ROTATION_SPREAD = 3.0**-0.5  # of each number in the columns of a rotation's matrix, over all rotations alike


@dataclass(frozen=True)
class Decision:
    """What the policy wants next. candidates: [N, 3] m; spread: rms distance in m from the chosen one.

    holds: the chosen keypose is where the tool already is, so the policy considers the task done.
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


@dataclass(frozen=True)
class Sampled:
    """Candidates for one observation: positions [N, 3] m on the policy's device, quats_wxyz [N, 4], openings [N]."""

    positions: Tensor
    quats_wxyz: NDArray[np.float64]
    openings: NDArray[np.float64]


class Policy:
    """A trained Mini-Diffuser with its instruction encoder, schedule and sampler, on one device."""

    def __init__(self, config: PolicyConfig, network: MiniDiffuser, device: str = "cpu") -> None:
        self.config = config
        self.device = device
        self.network = network.to(device).eval()
        self.encoder = InstructionEncoder()
        self.known = KnownInstructions(config.instructions, self.encoder)
        self.schedule = config.noise_schedule().to(device)
        self.scale = PositionScale(config.spec)

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
        view = View(
            observation.points, observation.colors, ToolState.of(observation), self.encoder.encode(instruction),
            ToolState.of(before) if before else None,
        )  # fmt: skip
        condition = self.network.encode(collate([view], self.spec).to(self.device))
        encoded = time.perf_counter()
        sampled = self.sample_keyposes(condition, seed)
        candidates = sampled.positions.double().cpu().numpy()
        keyposes = tuple(map(Keypose, candidates, sampled.quats_wxyz, sampled.openings))
        denoised = time.perf_counter()
        gaps = np.linalg.norm(candidates[:, None] - candidates[None], axis=-1)
        chosen = _densest(gaps)
        distance, angle = keyposes[chosen].distance_to(observation.tool_position, observation.tool_quat_wxyz)
        same_grip = keyposes[chosen].is_open == (observation.opening > 0.3)
        return Decision(
            keyposes[chosen],
            candidates,
            keyposes,
            chosen,
            float(np.sqrt(np.mean(gaps[chosen] ** 2))),
            distance < HOLD_DISTANCE and angle < HOLD_ANGLE_DEG and same_grip,
            1e3 * (encoded - started),
            1e3 * (denoised - encoded),
            self.config.sampler.num_inference_steps,
        )

    def sample_keyposes(self, condition: Condition, seed: int, mask: Tensor | None = None) -> Sampled:
        """Candidates for the one observation of `condition`; `mask` [K, U]: which branches to reuse, none if None."""
        if self.config.model.rotation == "bins":
            positions = self.sample_positions(condition, seed, mask)
            return Sampled(positions[0], *self.classified(condition, positions))
        gripper, steps = torch.empty(0), self._steps(condition, mask)

        def denoiser(noisy: Tensor, timesteps: Tensor) -> Tensor:
            nonlocal gripper  # of the last step, whose samples are the least noisy
            prediction, gripper = predict_and_grip(
                self.network, self.scale, self.schedule, condition, noisy, *next(steps)
            )
            return prediction

        keyposes = self._sample(denoiser, seed)[0]
        quats = quat_from_six(keyposes[:, POSITION:].cpu().numpy())
        return Sampled(keyposes[:, :POSITION], quats, _openings(gripper[0]))

    def sample_positions(self, condition: Condition, seed: int, mask: Tensor | None = None) -> Tensor:
        """Candidate positions [1, N, 3] in metres, of a network that diffuses nothing else."""
        steps = self._steps(condition, mask)

        def denoiser(noisy: Tensor, timesteps: Tensor) -> Tensor:
            return predict(self.network, self.scale, self.schedule, condition, noisy, *next(steps))

        return self._sample(denoiser, seed)

    @property
    def units(self) -> PrunableUnits:
        """What can be pruned of a walk of the sampler."""
        return neck_units(self.config.model, self.config.sampler.num_inference_steps)

    def _steps(self, condition: Condition, mask: Tensor | None) -> Iterator[tuple[Contexts, BlockExecutor]]:
        """What steers the network at each step of the sampler, computed for all of them at once; and what it skips."""
        steps = inference_timesteps(self.schedule.config.num_train_timesteps, self.config.sampler.num_inference_steps)
        executors = repeat(run_block) if mask is None else pruned_steps(self.units, mask)
        return zip(self.network.contexts_of_steps(condition, steps), executors, strict=False)

    def classified(self, condition: Condition, positions: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """quats_wxyz [N, 4] and openings [N] where rotation is classified, at positions [1, N, 3] in metres."""
        rotation, gripper = self.network.classify(condition, positions)
        quats = quat_from_bins(rotation[0].argmax(-1).cpu().numpy(), self.config.model.rotation_bins)
        return quats, _openings(gripper[0])

    def _sample(self, denoiser: Denoiser, seed: int) -> Tensor:
        """Samples [1, N, S], positions in metres, from the terminal marginal of each of their numbers' schedule."""
        c, generator = self.config, torch.Generator().manual_seed(seed)
        rotation = c.model.sample_size - POSITION
        mean = torch.tensor([c.position_mean] * POSITION + [0.0] * rotation)
        spread = torch.tensor([c.position_spread] * POSITION + [ROTATION_SPREAD] * rotation)
        shape = (1, c.num_candidates, c.model.sample_size)
        start = self.schedule.initial_noise(shape, mean, spread, generator)
        return self.scale.metric(sample(denoiser, self.schedule, c.sampler, start.to(self.device), generator))


def predict(
    network: MiniDiffuser,
    scale: PositionScale,
    schedule: NoiseSchedule,
    condition: Condition,
    noisy: Tensor,
    timesteps: Tensor | Contexts,
    execute: BlockExecutor = run_block,
) -> Tensor:
    """What the schedule's prediction type asks for [B, M, S], from noisy samples [B, M, S], positions in box units.

    The original is the noisy position moved by the network's displacement, which keeps the network invariant to
    translation; noise and velocities are displacements already, of a size that has nothing to do with metres. Of a
    rotation's numbers the network says what is asked for.
    """
    return _asked_for(scale, schedule, noisy, network.denoise(condition, scale.metric(noisy), timesteps, execute))


def predict_and_grip(
    network: MiniDiffuser,
    scale: PositionScale,
    schedule: NoiseSchedule,
    condition: Condition,
    noisy: Tensor,
    timesteps: Tensor | Contexts,
    execute: BlockExecutor = run_block,
) -> tuple[Tensor, Tensor]:
    """`predict` for a network whose rotation is diffused, and the gripper logits [B, M] from the same pass."""
    moved, gripper = network.denoise_and_grip(condition, scale.metric(noisy), timesteps, execute)
    return _asked_for(scale, schedule, noisy, moved), gripper


def _asked_for(scale: PositionScale, schedule: NoiseSchedule, noisy: Tensor, moved: Tensor) -> Tensor:
    """The network's answer [B, M, S] with its displacements as the position's schedule asks for them."""
    displacement = moved[..., :POSITION]
    if schedule.config.prediction_type == "sample":
        position = noisy[..., :POSITION] + displacement / scale.half.to(moved)
    else:
        position = displacement / REACH
    return torch.cat([position, moved[..., POSITION:]], dim=-1)


def _openings(logits: Tensor) -> NDArray[np.float64]:
    """Open or closed, [N], of gripper logits [N]."""
    openings: NDArray[np.float64] = (logits > 0).double().cpu().numpy()
    return openings


def _densest(gaps: NDArray[np.float64]) -> int:
    """The candidate with the most others close by, by a Gaussian kernel of the pairwise distances [N, N]."""
    return int(np.exp(-0.5 * (gaps / DENSITY_RADIUS) ** 2).sum(axis=1).argmax())
