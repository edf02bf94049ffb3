"""Demonstrations of dense actions: episodes of states and actions as files, and windows of them as batches.

A file `episode_NNNNN.npz` has `states` [N, S] and `actions` [N, A] in the task's units, both at equal times: action n
is what was commanded on seeing state n.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from minidiffuser_ros.contract.errors import ConfigurationError, EpisodeError
from minidiffuser_ros.model.action_condition import ActionInputs
from minidiffuser_ros.policy.action_sequence import ActionPolicyConfig
from minidiffuser_ros.simulation.push_t import state_features

MAX_NUMBERS = 10**8  # of one array: a few kilobytes may unpack to more than any memory
Features = Callable[[NDArray[np.float64]], NDArray[np.float32]]
"""States [N, S] as recorded → what the policy sees of them [N, F]."""


@dataclass(frozen=True)
class SequenceEpisode:
    """states [N, F] as the policy sees them, actions [N, A], both in the task's units."""

    states: NDArray[np.float32]
    actions: NDArray[np.float32]


def load_sequences(folder: Path, features: Features | None = None) -> list[SequenceEpisode]:
    """All episodes of a folder in the order of their names. Raises EpisodeError naming what cannot be used."""
    paths = sorted(folder.glob("episode_*.npz"))
    if len(paths) < 2:
        raise EpisodeError(f"{folder} holds {len(paths)} files episode_NNNNN.npz, at least 2 are needed")
    episodes = [_load(path, features) for path in paths]
    for path, episode in zip(paths, episodes, strict=True):
        sizes = [(e.states.shape[1], e.actions.shape[1]) for e in (episodes[0], episode)]
        if sizes[0] != sizes[1]:
            raise EpisodeError(f"{path} has states and actions of {sizes[1]} numbers, {paths[0].name} of {sizes[0]}")
    return episodes


def named_features(name: str) -> Features | None:
    """What a policy of a task sees of its states. Raises ConfigurationError naming those there are."""
    if name == "none":
        return None
    if name == "push_t":
        return state_features
    raise ConfigurationError(f"no features are called '{name}'; there are none and push_t")


def split_sequences(
    episodes: Sequence[SequenceEpisode], fraction: float = 0.1
) -> tuple[list[SequenceEpisode], list[SequenceEpisode]]:
    """Episodes to learn from and held-out ones: the first of each 1 / fraction is held out, whole."""
    every = max(2, round(1 / fraction))
    return [e for i, e in enumerate(episodes) if i % every], [e for i, e in enumerate(episodes) if i % every == 0]


@dataclass(frozen=True)
class SequenceBatch:
    """B observations and what the expert did: actions [B, T, A] in [-1, 1], from the oldest observed step on."""

    inputs: ActionInputs
    actions: Tensor


class SequenceSet:
    """Steps of some episodes as examples: the window of states up to each, and the actions from its beginning.

    Before an episode's beginning its first state and action are repeated. The last steps of an episode are no examples
    where an action that is performed before the next look would lie beyond its end: repeating the last one there
    teaches to stand still where the work was about to end. (Diffusion Policy leaves out the same ones.)
    """

    def __init__(self, episodes: Sequence[SequenceEpisode], config: ActionPolicyConfig) -> None:
        model = config.model
        found, wanted = (episodes[0].states.shape[1], episodes[0].actions.shape[1]), (model.state_dim, model.action_dim)
        if found != wanted or model.cameras:
            raise ConfigurationError(
                f"the episodes have states and actions of {found} numbers, the policy of {wanted}"
                f"{' and cameras' if model.cameras else ''}: name the features that it was trained with"
            )
        self._states = config.states.normalise(_joined([e.states for e in episodes])).float()
        self._actions = config.actions.normalise(_joined([e.actions for e in episodes])).float()
        windows, sequences, first = [], [], 0
        for episode in episodes:
            last = first + len(episode.states) - 1
            performed = min(config.action_steps, model.horizon - model.obs_steps + 1)
            latest = max(first, last - performed + 1)
            begin = torch.arange(first, latest + 1).unsqueeze(1) - (model.obs_steps - 1)
            windows.append((begin + torch.arange(model.obs_steps)).clamp(first, last))
            sequences.append((begin + torch.arange(model.horizon)).clamp(first, last))
            first = last + 1
        self._windows, self._sequences = torch.cat(windows), torch.cat(sequences)

    def __len__(self) -> int:
        return len(self._windows)

    def batch(self, indices: Sequence[int] | NDArray[np.int64]) -> SequenceBatch:
        """Some examples together."""
        rows = torch.as_tensor(indices, dtype=torch.long)
        return SequenceBatch(ActionInputs(self._states[self._windows[rows]]), self._actions[self._sequences[rows]])

    def action_moments(self) -> tuple[float, float]:
        """Mean and spread of the normalised actions."""
        return float(self._actions.mean()), float(self._actions.std())


def _joined(parts: list[NDArray[np.float32]]) -> Tensor:
    return torch.from_numpy(np.concatenate(parts).astype(np.float64))


def _load(path: Path, features: Features | None) -> SequenceEpisode:
    try:
        with np.load(path, allow_pickle=False) as archive:
            sizes = {info.filename.removesuffix(".npy"): info.file_size for info in archive.zip.infolist()}
            if too_large := [n for n in ("states", "actions") if sizes.get(n, 0) > 4 * MAX_NUMBERS]:
                raise ValueError(f"{too_large} unpack to more than {4 * MAX_NUMBERS} bytes")
            states, actions = (np.asarray(archive[name], dtype=np.float64) for name in ("states", "actions"))
        fits = states.ndim == actions.ndim == 2 and len(states) == len(actions) > 0
        if not fits or not (np.isfinite(states).all() and np.isfinite(actions).all()):
            raise ValueError(
                f"'states' and 'actions' must be finite and [N, S] and [N, A] of one N above 0, "
                f"are {list(states.shape)} and {list(actions.shape)}"
            )
        seen = states if features is None else features(states)
    except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError, zipfile.BadZipFile) as error:
        raise EpisodeError(
            f"{path} is no episode of states and actions ({error}): delete it and make it again"
        ) from None
    return SequenceEpisode(np.asarray(seen, dtype=np.float32), actions.astype(np.float32))
