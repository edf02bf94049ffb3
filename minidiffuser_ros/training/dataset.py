"""Demonstrations in memory, split by episode, and augmented batches of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from minidiffuser_ros.contract.errors import EpisodeError
from minidiffuser_ros.contract.observation import ObservationSpec
from minidiffuser_ros.episodes.cache import is_cache, load_cache
from minidiffuser_ros.episodes.catalog import npz_files, recordings
from minidiffuser_ros.episodes.demonstration import Demonstration, load_demonstration
from minidiffuser_ros.geometry.rotation import matrix_from_quat, quat_from_yaw, quat_multiply
from minidiffuser_ros.model.instruction import InstructionEncoder
from minidiffuser_ros.model.mini_diffuser import Inputs
from minidiffuser_ros.policy.inputs import ToolState, View, collate
from minidiffuser_ros.policy.rotation_bins import bins_from_quat
from minidiffuser_ros.training.config import Augmentation


@dataclass(frozen=True)
class Batch:
    """Inputs with B targets: positions [B, 3] m, quats_wxyz [B, 4] and their bins [B, 3], openings [B]."""

    inputs: Inputs
    positions: Tensor
    quats_wxyz: Tensor
    bins: Tensor
    openings: Tensor
    tasks: tuple[str, ...]


class DemonstrationSet:
    """All steps of some demonstrations; a sample is (episode, step).

    encode: sentence -> token embeddings [T, D]; `InstructionEncoder` unless another one is given.
    """

    def __init__(
        self, demonstrations: Sequence[Demonstration], num_bins: int, encode: Callable[[str], Tensor] | None = None
    ) -> None:
        if not demonstrations:
            raise EpisodeError("there are no demonstrations: make some with `minidiffuser demos`")
        self.spec: ObservationSpec = demonstrations[0].spec
        for other in demonstrations:
            if differences := self.spec.differences(other.spec):
                raise EpisodeError("demonstrations of different observation specs: " + "; ".join(differences))
        self._demonstrations = demonstrations
        self._starts = [np.concatenate([[0], np.cumsum(d.counts)]) for d in demonstrations]
        self.samples = [(e, t) for e, d in enumerate(demonstrations) for t in range(len(d.counts))]
        self._num_bins = num_bins
        self._encode = encode or InstructionEncoder().encode

    def __len__(self) -> int:
        return len(self.samples)

    def episodes_per_task(self) -> dict[str, int]:
        """How many demonstrations of each task."""
        return dict(sorted(Counter(d.task for d in self._demonstrations).items()))

    def instructions(self) -> list[str]:
        """Every sentence that occurs, once."""
        return sorted({sentence for d in self._demonstrations for sentence in d.instructions})

    def token_mean(self) -> Tensor:
        """Mean token embedding [D] of all sentences: they cluster tightly, and only differences carry meaning."""
        return torch.cat([self._encode(sentence) for sentence in self.instructions()]).mean(0)

    def task_of(self, index: int) -> str:
        """The task that a sample belongs to."""
        return self._demonstrations[self.samples[index][0]].task

    def tool_of(self, index: int) -> ToolState:
        """The tool that a sample is seen with."""
        episode, step = self.samples[index]
        d = self._demonstrations[episode]
        return ToolState(d.tool[step, :3], d.tool[step, 3:], float(d.openings[step]))

    def batch(
        self,
        indices: Sequence[int],
        rngs: Sequence[np.random.Generator] | None = None,
        augmentation: Augmentation | None = None,
    ) -> Batch:
        """Collate samples; with a generator for each augmented and with random paraphrases, without as they are."""
        draws = [None] * len(indices) if rngs is None else rngs
        used = augmentation or Augmentation()
        parts = [self._sample(*self.samples[i], rng, used) for i, rng in zip(indices, draws, strict=True)]
        targets = np.array([target for _, target, _ in parts])
        return Batch(
            collate([view for view, _, _ in parts], self.spec),
            torch.tensor(targets[:, :3], dtype=torch.float32),
            torch.tensor(targets[:, 3:7], dtype=torch.float32),
            torch.from_numpy(bins_from_quat(targets[:, 3:7], self._num_bins)),
            torch.tensor(targets[:, 7], dtype=torch.float32),
            tuple(task for _, _, task in parts),
        )

    def _sample(
        self, episode: int, step: int, rng: np.random.Generator | None, augmentation: Augmentation
    ) -> tuple[View, NDArray[np.float64], str]:
        d = self._demonstrations[episode]
        rows = slice(self._starts[episode][step], self._starts[episode][step + 1])
        points, colors, target = d.points[rows], d.colors[rows], d.targets[step]
        tools = d.tool[max(0, step - 1) : step + 1]
        sentence = d.instructions[0]
        if rng is not None:
            sentence = d.instructions[rng.integers(len(d.instructions))]
            points, colors, tools, target = augment(points, colors, tools, target, self.spec, rng, augmentation)
        states = [
            ToolState(tool[:3], tool[3:], float(opening))
            for tool, opening in zip(tools, d.openings[max(0, step - 1) : step + 1], strict=True)
        ]
        before = states[0] if step else None
        return View(points, colors, states[-1], self._encode(sentence), before), target, d.task


def augment(
    points: NDArray[np.float32],
    colors: NDArray[np.uint8],
    tool: NDArray[np.float64],
    target: NDArray[np.float64],
    spec: ObservationSpec,
    rng: np.random.Generator,
    augmentation: Augmentation,
) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float64], NDArray[np.float64]]:
    """Turn about the workspace's centre and shift along the table, then jitter and drop points.

    tool is position and quat_wxyz [..., 7]; target position, quat_wxyz and opening [8].
    """
    center = 0.5 * (np.array(spec.workspace_min) + np.array(spec.workspace_max))
    quat = quat_from_yaw(np.deg2rad(rng.uniform(-augmentation.yaw_deg, augmentation.yaw_deg)))
    turn = matrix_from_quat(quat)
    shift = np.array([*rng.uniform(-augmentation.shift, augmentation.shift, 2), 0.0])

    def move(p: NDArray[np.floating]) -> NDArray[np.float64]:
        moved: NDArray[np.float64] = (p - center) @ turn.T + center + shift
        return moved

    keep = rng.random(len(points)) >= rng.uniform(0.0, augmentation.dropout)
    jittered = move(points[keep]) + rng.normal(0.0, augmentation.jitter, (int(keep.sum()), 3))
    return (
        jittered.astype(np.float32),
        colors[keep],
        np.concatenate([move(tool[..., :3]), quat_multiply(quat, tool[..., 3:])], axis=-1),
        np.concatenate([move(target[:3]), quat_multiply(quat, target[3:7]), target[7:]]),
    )


def load_split(
    folder: Path, num_bins: int, validation_fraction: float = 0.05
) -> tuple[DemonstrationSet, DemonstrationSet]:
    """Training and held-out sets from a cache, or from a folder of demonstrations.

    Whole episodes go one way or the other: in the order of their names, as files and cache share it, the first of
    each 1 / validation_fraction is held out.
    """
    if is_cache(folder):
        demonstrations = load_cache(folder)
    else:
        if recordings(folder):
            raise EpisodeError(
                f"{folder} holds recorded episodes, which training reads from a cache: build one with "
                f"`minidiffuser episodes cache {folder} --out FOLDER` and name that"
            )
        demonstrations = [load_demonstration(path) for path in npz_files(folder).values()]
    if len(demonstrations) < 2:
        raise EpisodeError(
            f"{folder} holds {len(demonstrations)} demonstrations, at least 2 are needed: run `minidiffuser demos`"
        )
    every = max(2, round(1 / validation_fraction))
    held_out = [d for i, d in enumerate(demonstrations) if i % every == 0]
    kept = [d for i, d in enumerate(demonstrations) if i % every]
    return DemonstrationSet(kept, num_bins), DemonstrationSet(held_out, num_bins)
