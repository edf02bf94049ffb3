"""The baseline that learns nothing: the keypose of the demonstrated moment that looks most alike.

After VINN (Pari et al. 2022), with k = 1 and without a learned representation: a moment is a coarse map of colours,
the tool, and the sentence. It can be as good as its nearest demonstration, and tells how far the test scenes are from
those.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from minidiffuser_ros.contract.keypose import Keypose
from minidiffuser_ros.contract.observation import Observation, ObservationSpec
from minidiffuser_ros.episodes.demonstration import Demonstration
from minidiffuser_ros.model.instruction import InstructionEncoder
from minidiffuser_ros.policy.inputs import ToolState
from minidiffuser_ros.policy.policy import Decision, holds

CELL = 0.03  # m
PROJECTED = 256  # numbers that stand for the map: distances survive a random projection (Johnson-Lindenstrauss)
TOOL_REACH = 0.1  # m: a tool so far away differs as much as another map does on average


class NearestNeighbour:
    """Looks up demonstrated moments whose sentence is the given one, or else the most similar one."""

    def __init__(self, demonstrations: Sequence[Demonstration]) -> None:
        self._spec = demonstrations[0].spec
        low, high = np.array(self._spec.workspace_min), np.array(self._spec.workspace_max)
        self._low, self._cells = low, np.ceil((high - low) / CELL).astype(int)
        rng = np.random.default_rng(0)
        self._projection = rng.normal(size=(4 * int(self._cells.prod()), PROJECTED)).astype(np.float32)
        self._encoder = InstructionEncoder()
        self._sentences: dict[str, list[int]] = {}
        maps, tools, targets = [], [], []
        for demonstration in demonstrations:
            starts = np.concatenate([[0], np.cumsum(demonstration.counts)])
            for step, (begin, end) in enumerate(pairwise(starts)):
                for sentence in demonstration.instructions:
                    self._sentences.setdefault(sentence, []).append(len(maps))
                maps.append(self._map(demonstration.points[begin:end], demonstration.colors[begin:end]))
                tools.append(np.r_[demonstration.tool[step, :3], TOOL_REACH * demonstration.openings[step]])
                targets.append(demonstration.targets[step])
        self._maps, self._tools, self._targets = np.stack(maps), np.stack(tools), np.stack(targets)
        apart = np.linalg.norm(self._maps - self._maps[rng.permutation(len(maps))], axis=1).mean()
        self._map_scale = float(apart) or 1.0
        self._meanings = {sentence: self._meaning(sentence) for sentence in self._sentences}

    @property
    def spec(self) -> ObservationSpec:
        """The observations of the demonstrations."""
        return self._spec

    def decide(
        self, observation: Observation, instruction: str, seed: int = 0, before: Observation | None = None
    ) -> Decision:
        """As `Policy.decide`, with one candidate."""
        started = time.perf_counter()
        index = self._nearest(observation, instruction)
        target = self._targets[index]
        keypose = Keypose(target[:3], target[3:7], float(target[7]))
        stays = holds(keypose, ToolState.of(observation))
        milliseconds = 1e3 * (time.perf_counter() - started)
        return Decision(keypose, keypose.position[None], (keypose,), 0, 0.0, stays, milliseconds, 0.0, 0)

    def _nearest(self, observation: Observation, instruction: str) -> int:
        rows = np.array(self._sentences[self._known(instruction)])
        seen = self._map(observation.points, observation.colors)
        tool = np.r_[observation.tool_position, TOOL_REACH * observation.opening]
        maps = np.linalg.norm(self._maps[rows] - seen, axis=1) / self._map_scale
        tools = np.linalg.norm(self._tools[rows] - tool, axis=1) / TOOL_REACH
        return int(rows[np.argmin(maps + tools)])

    def _known(self, instruction: str) -> str:
        if instruction in self._sentences:
            return instruction
        meant = self._meaning(instruction)
        return max(self._meanings, key=lambda sentence: float(self._meanings[sentence] @ meant))

    def _meaning(self, sentence: str) -> NDArray[np.float32]:
        mean: NDArray[np.float32] = self._encoder.encode(sentence).mean(0).numpy()
        return mean / np.linalg.norm(mean)

    def _map(self, points: NDArray[np.float32], colors: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Which cells are occupied, and their mean colours, projected [PROJECTED]."""
        cells = np.clip(((points - self._low) / CELL).astype(int), 0, self._cells - 1)
        flat = np.ravel_multi_index(tuple(cells.T), tuple(self._cells))
        occupied, inverse, counts = np.unique(flat, return_inverse=True, return_counts=True)
        sums = np.zeros((len(occupied), 3))
        np.add.at(sums, inverse, colors / 255.0)
        values = np.concatenate([np.ones((len(occupied), 1)), sums / counts[:, None]], axis=1).astype(np.float32)
        rows = self._projection.reshape(-1, 4, PROJECTED)[occupied]
        projected: NDArray[np.float32] = np.einsum("nc,ncp->p", values, rows) / np.sqrt(PROJECTED)
        return projected
