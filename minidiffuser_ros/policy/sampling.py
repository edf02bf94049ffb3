"""Candidates for one observation: the walk of the sampler, whole or pruned, over the network of a policy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from minidiffuser_ros.diffusion.sampler import Denoiser, SamplerConfig, inference_timesteps, sample
from minidiffuser_ros.diffusion.schedule import NoiseSchedule
from minidiffuser_ros.geometry.rotation import quat_from_six
from minidiffuser_ros.model.config import POSITION
from minidiffuser_ros.model.mini_diffuser import Condition, Contexts, MiniDiffuser
from minidiffuser_ros.model.neck import REACH, BlockExecutor, run_block
from minidiffuser_ros.policy.checkpoint import PolicyConfig
from minidiffuser_ros.policy.inputs import PositionScale
from minidiffuser_ros.policy.rotation_bins import quat_from_bins
from minidiffuser_ros.pruning.reuse import pruned_steps
from minidiffuser_ros.pruning.units import PrunableUnits, neck_units

ROTATION_SPREAD = 3.0**-0.5  # of each number in the columns of a rotation's matrix, over all rotations alike


@dataclass(frozen=True)
class Sampled:
    """Candidates for one observation: positions [N, 3] m on the policy's device, quats_wxyz [N, 4], openings [N]."""

    positions: Tensor
    quats_wxyz: NDArray[np.float64]
    openings: NDArray[np.float64]


@dataclass(frozen=True)
class Walk:
    """How the sampler goes, and which branches of each step it reuses instead of computing: mask [K, U], or nothing.

    shared: reused is what any branch of the kind computed last, else what the same branch did. executors: one for each
    step, instead of those that follow from the mask.
    """

    sampler: SamplerConfig
    mask: Tensor | None = None
    shared: bool = True
    executors: Iterable[BlockExecutor] | None = None

    @property
    def pruned(self) -> float:
        """Share of the branches that is reused."""
        return 0.0 if self.mask is None else float(self.mask.float().mean())

    def steps(self, units: PrunableUnits | None) -> Iterator[BlockExecutor]:
        """What each step computes and what it reuses; units: of this walk, None where nothing of it is pruned."""
        if self.executors is not None:
            return iter(self.executors)
        if self.mask is None or units is None:
            return repeat(run_block)
        return pruned_steps(units, self.mask, self.shared)


class PrunableSampler(Protocol):
    """What a pruner needs of a policy's sampler; `network` encodes inputs, and has `contexts_of_steps`."""

    network: Any
    schedule: NoiseSchedule
    device: str

    def units(self, sampler: SamplerConfig) -> PrunableUnits:
        """What can be pruned of a walk."""

    def start(self, batch_size: int, num_samples: int, generator: torch.Generator) -> Tensor:
        """Where walks begin [B, M, S], in the units of diffusion."""

    def predict(self, condition: Any, noisy: Tensor, context: Any, execute: BlockExecutor) -> Tensor:
        """What the schedule's prediction type asks for [B, M, S], from samples [B, M, S] that are all at one step."""

    def expert(self, batch: Any) -> Tensor:
        """What the expert did [B, ...], in the units of diffusion."""


def walk_together(
    sampler: PrunableSampler,
    config: SamplerConfig,
    condition: Any,
    executors: Iterable[BlockExecutor],
    count: int,
    generator: torch.Generator,
) -> Tensor:
    """One walk for each of `count` observations: where it ends [B, 1, S], in the units of diffusion.

    executors: one for each step. Equal generators give equal noise, at the start and on the way.
    """
    timesteps = inference_timesteps(sampler.schedule.config.num_train_timesteps, config.num_inference_steps)
    with torch.no_grad():
        contexts = sampler.network.contexts_of_steps(condition, timesteps)
    steps = zip(contexts, executors, strict=False)

    def denoiser(noisy: Tensor, timesteps: Tensor) -> Tensor:
        return sampler.predict(condition, noisy, *next(steps))

    start = sampler.start(count, 1, generator)
    return sample(denoiser, sampler.schedule, config, start.to(sampler.device), generator)


class KeyposeSampler:
    """Draws candidates with a network and its schedule, on the network's device. Equal seeds, equal candidates."""

    def __init__(self, config: PolicyConfig, network: MiniDiffuser, device: str) -> None:
        self.config, self.network, self.device = config, network, device
        self._start = config.noise_schedule()  # on the host, where the noise is drawn that a walk starts from
        self.schedule = self._start.to(device)
        self.scale = PositionScale(config.spec).to(device)

    def units(self, sampler: SamplerConfig) -> PrunableUnits:
        """What can be pruned of a walk."""
        return neck_units(self.config.model, sampler.num_inference_steps)

    def start(self, batch_size: int, num_samples: int, generator: torch.Generator) -> Tensor:
        """Where walks of positions begin [B, M, 3], in box units."""
        shape, c = (batch_size, num_samples, POSITION), self.config
        return self.schedule.initial_noise(shape, c.position_mean, c.position_spread, generator)

    def predict(self, condition: Condition, noisy: Tensor, context: Contexts, execute: BlockExecutor) -> Tensor:
        """`predict` below, with this network."""
        return predict(self.network, self.scale, self.schedule, condition, noisy, context, execute)

    def expert(self, batch: Any) -> Tensor:
        """The expert's positions [B, 3] in box units, of a `training.dataset.Batch`."""
        return self.scale.normalise(batch.positions.to(self.device))

    def keyposes(self, condition: Condition, seed: int, walk: Walk | None = None) -> Sampled:
        """Candidates for the one observation of `condition`; the walk is the policy's own unless another is given."""
        if self.config.model.rotation == "bins":
            positions = self.positions(condition, seed, walk)
            return Sampled(positions[0], *self.classified(condition, positions))
        steps = self._steps(condition, walk)
        gripper = torch.empty(0)

        def denoiser(noisy: Tensor, timesteps: Tensor) -> Tensor:
            nonlocal gripper  # of the last step, whose samples are the least noisy
            known = (self.network, self.scale, self.schedule, condition, noisy)
            prediction, gripper = predict_and_grip(*known, *next(steps))
            return prediction

        keyposes = self._sample(denoiser, seed, walk)[0]
        quats = quat_from_six(keyposes[:, POSITION:].cpu().numpy())
        return Sampled(keyposes[:, :POSITION], quats, _openings(gripper[0]))

    def positions(self, condition: Condition, seed: int, walk: Walk | None = None) -> Tensor:
        """Candidate positions [1, N, 3] in metres, of a network that diffuses nothing else."""
        steps = self._steps(condition, walk)

        def denoiser(noisy: Tensor, timesteps: Tensor) -> Tensor:
            return predict(self.network, self.scale, self.schedule, condition, noisy, *next(steps))

        return self._sample(denoiser, seed, walk)

    def classified(self, condition: Condition, positions: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """quats_wxyz [N, 4] and openings [N] where rotation is classified, at positions [1, N, 3] in metres."""
        rotation, gripper = self.network.classify(condition, positions)
        quats = quat_from_bins(rotation[0].argmax(-1).cpu().numpy(), self.config.model.rotation_bins)
        return quats, _openings(gripper[0])

    def corrections(self, condition: Condition, positions: Tensor) -> Tensor:
        """How far the whole network would move each of these positions [1, N, 3] m at the least noisy step, [1, N] m.

        Of a whole walk's end it is all but nothing; of a walk that went astray it is about the error. One step's time.
        Only for a network that diffuses nothing else.
        """
        scaled = self.scale.normalise(positions)
        step = torch.zeros(positions.shape[:-1], dtype=torch.long, device=positions.device)
        noisy = self.schedule.coefficients(step)[0] * scaled
        prediction = predict(self.network, self.scale, self.schedule, condition, noisy, step)
        original, _ = self.schedule.split(prediction, noisy, step)
        distances: Tensor = torch.linalg.vector_norm(self.scale.metric(original) - positions, dim=-1)
        return distances

    def _steps(self, condition: Condition, walk: Walk | None) -> Iterator[tuple[Contexts, BlockExecutor]]:
        """What steers the network at each step, computed for all steps at once; and what it skips."""
        walk = walk or Walk(self.config.sampler)
        steps = inference_timesteps(self.schedule.config.num_train_timesteps, walk.sampler.num_inference_steps)
        executors = walk.steps(self.units(walk.sampler))
        return zip(self.network.contexts_of_steps(condition, steps), executors, strict=False)

    def _sample(self, denoiser: Denoiser, seed: int, walk: Walk | None) -> Tensor:
        """Samples [1, N, S], positions in metres, from the terminal marginal of each of their numbers' schedule."""
        c, generator = self.config, torch.Generator().manual_seed(seed)
        rotation = c.model.sample_size - POSITION
        mean = torch.tensor([c.position_mean] * POSITION + [0.0] * rotation)
        spread = torch.tensor([c.position_spread] * POSITION + [ROTATION_SPREAD] * rotation)
        shape = (1, c.num_candidates, c.model.sample_size)
        start = self._start.initial_noise(shape, mean, spread, generator).to(self.device)
        sampler = walk.sampler if walk else c.sampler
        return self.scale.metric(sample(denoiser, self.schedule, sampler, start, generator))


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
