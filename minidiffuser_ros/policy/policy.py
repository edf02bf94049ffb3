"""The policy: an observation and a sentence in, candidates and the chosen keypose out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from minidiffuser_ros.contract.errors import CheckpointError, InstructionError, SpecMismatchError
from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.contract.observation import Observation, ObservationSpec
from minidiffuser_ros.diffusion.sampler import sample
from minidiffuser_ros.diffusion.schedule import NoiseSchedule
from minidiffuser_ros.model.instruction import InstructionEncoder
from minidiffuser_ros.model.mini_diffuser import Condition, MiniDiffuser
from minidiffuser_ros.model.neck import REACH
from minidiffuser_ros.policy.checkpoint import PolicyConfig, load_checkpoint
from minidiffuser_ros.policy.inputs import PositionScale, View, collate
from minidiffuser_ros.policy.known_instructions import KnownInstructions
from minidiffuser_ros.policy.rotation_bins import quat_from_bins

DENSITY_RADIUS = 0.02  # m: candidates within this distance support each other
HOLD_DISTANCE = 0.025  # m
HOLD_ANGLE_DEG = 15.0


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


class Policy:
    """A trained Mini-Diffuser with its instruction encoder, schedule and sampler, on one device."""

    def __init__(self, config: PolicyConfig, network: MiniDiffuser, device: str = "cpu") -> None:
        self.config = config
        self.device = device
        self.network = network.to(device).eval()
        self.encoder = InstructionEncoder()
        self.known = KnownInstructions(config.instructions, self.encoder)
        self.schedule = NoiseSchedule(config.schedule).to(device)
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
    def decide(self, observation: Observation, instruction: str, seed: int = 0) -> Decision:
        """The next keypose. Equal inputs and seed give equal decisions.

        Raises SpecMismatchError for an observation of another spec and InstructionError for an unusable sentence.
        """
        self.known.require(instruction)
        differences = self.spec.differences(observation.spec)
        if differences:
            raise SpecMismatchError("the policy was trained on other observations: " + "; ".join(differences))
        started = time.perf_counter()
        view = View(
            observation.points, observation.colors, observation.tool_position, observation.tool_quat_wxyz,
            observation.opening, self.encoder.encode(instruction),
        )  # fmt: skip
        condition = self.network.encode(collate([view], self.spec).to(self.device))
        encoded = time.perf_counter()
        positions = self.sample_positions(condition, seed)
        keyposes = self._keyposes(condition, positions)
        denoised = time.perf_counter()
        candidates = positions[0].double().cpu().numpy()
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

    def sample_positions(self, condition: Condition, seed: int) -> Tensor:
        """Candidate positions [1, N, 3] in metres."""
        generator = torch.Generator().manual_seed(seed)
        noisy = self.schedule.initial_noise(
            (1, self.config.num_candidates, 3), self.config.position_mean, self.config.position_spread, generator
        ).to(self.device)

        def denoiser(noisy: Tensor, timesteps: Tensor) -> Tensor:
            return predict(self.network, self.scale, self.schedule, condition, noisy, timesteps)

        return self.scale.metric(sample(denoiser, self.schedule, self.config.sampler, noisy, generator))

    def _keyposes(self, condition: Condition, positions: Tensor) -> tuple[Keypose, ...]:
        rotation, gripper = self.network.classify(condition, positions)
        quats = quat_from_bins(rotation[0].argmax(-1).cpu().numpy(), self.config.model.rotation_bins)
        openings = (gripper[0] > 0).double().cpu().numpy()
        where = positions[0].double().cpu().numpy()
        return tuple(Keypose(p, q, o) for p, q, o in zip(where, quats, openings, strict=True))


def predict(
    network: MiniDiffuser,
    scale: PositionScale,
    schedule: NoiseSchedule,
    condition: Condition,
    noisy: Tensor,
    timesteps: Tensor,
) -> Tensor:
    """What the schedule's prediction type asks for [B, M, 3], from noisy positions [B, M, 3], all in box units.

    The original is the noisy position moved by the network's displacement, which keeps the network invariant to
    translation; noise and velocities are displacements already, of a size that has nothing to do with metres.
    """
    moved: Tensor = network.denoise(condition, scale.metric(noisy), timesteps)
    if schedule.config.prediction_type == "sample":
        return noisy + moved / scale.half.to(moved)
    return moved / REACH


def _densest(gaps: NDArray[np.float64]) -> int:
    """The candidate with the most others close by, by a Gaussian kernel of the pairwise distances [N, N]."""
    return int(np.exp(-0.5 * (gaps / DENSITY_RADIUS) ** 2).sum(axis=1).argmax())
