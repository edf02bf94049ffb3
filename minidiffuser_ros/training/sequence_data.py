"""Demonstrations of dense actions: episodes of states and actions as files, and windows of them as batches.

A file `episode_NNNNN.npz` has `states` [N, S] and `actions` [N, A] in the task's units, both at equal times: action n
is what was commanded on seeing state n. `starts` [R] are the first steps of runs that do not follow from each other,
where there is more than the one that begins at 0.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from minidiffuser_ros.contract.errors import ConfigurationError, EpisodeError
from minidiffuser_ros.model.action_condition import ActionInputs
from minidiffuser_ros.policy.action_sequence import ActionPolicyConfig, ValueRange
from minidiffuser_ros.simulation.push_t_view import PushTView

MAX_NUMBERS = 10**8  # of one array: a few kilobytes may unpack to more than any memory


class SequenceView(Protocol):
    """What a policy sees of a task's states, and the frame that its actions are told in; see `named_view`."""

    def see(self, states: NDArray[np.floating]) -> NDArray[np.float64]:
        """States [..., S] as recorded → what the policy sees of them [..., F]."""

    def into_frame(self, actions: NDArray[np.floating], states: NDArray[np.floating]) -> NDArray[np.float64]:
        """Actions [..., T, A] → the same as seen from states [..., S], one for every sequence."""


@dataclass(frozen=True)
class SequenceEpisode:
    """states [N, S] and actions [N, A] in the task's units; the first steps of its runs, beginning with 0."""

    states: NDArray[np.float32]
    actions: NDArray[np.float32]
    starts: tuple[int, ...] = (0,)

    @property
    def runs(self) -> list[range]:
        """The steps of each."""
        return [range(*ends) for ends in pairwise((*self.starts, len(self.states)))]


def load_sequences(folder: Path) -> list[SequenceEpisode]:
    """All episodes of a folder in the order of their names. Raises EpisodeError naming what cannot be used."""
    paths = sorted(folder.glob("episode_*.npz"))
    if len(paths) < 2:
        raise EpisodeError(f"{folder} holds {len(paths)} files episode_NNNNN.npz, at least 2 are needed")
    episodes = [_load(path) for path in paths]
    for path, episode in zip(paths, episodes, strict=True):
        sizes = [(e.states.shape[1], e.actions.shape[1]) for e in (episodes[0], episode)]
        if sizes[0] != sizes[1]:
            raise EpisodeError(f"{path} has states and actions of {sizes[1]} numbers, {paths[0].name} of {sizes[0]}")
    return episodes


def named_view(name: str) -> SequenceView | None:
    """How a policy sees a task; None where it sees states and tells actions as they were recorded.

    Raises ConfigurationError naming those there are.
    """
    if name == "none":
        return None
    if name == PushTView.name:
        return PushTView()
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

    Before the beginning of a run its first state and action are repeated. The last steps of a run are no examples
    where an action that is performed before the next look would lie beyond its end: repeating the last one there
    teaches to stand still where the work was about to end. (Diffusion Policy leaves out the same ones.)
    """

    def __init__(self, episodes: Sequence[SequenceEpisode], config: ActionPolicyConfig) -> None:
        model, view = config.model, named_view(config.features)
        states, actions = (np.concatenate([getattr(e, name) for e in episodes]) for name in ("states", "actions"))
        seen = states if view is None else view.see(states)
        found, wanted = (seen.shape[1], actions.shape[1]), (model.state_dim, model.action_dim)
        if found != wanted or model.cameras:
            raise ConfigurationError(
                f"the episodes have states and actions of {found} numbers, the policy of {wanted}"
                f"{' and cameras' if model.cameras else ''}: it was trained on those of another task"
            )
        windows, sequences = _examples(episodes, model.obs_steps, model.horizon, config.action_steps)
        told = actions[sequences] if view is None else view.into_frame(actions[sequences], states[windows[:, -1]])
        self._states = config.states.normalise(torch.from_numpy(seen.astype(np.float64))).float()
        self._actions = config.actions.normalise(torch.from_numpy(told.astype(np.float64))).float()
        self._windows = torch.from_numpy(windows)

    def __len__(self) -> int:
        return len(self._windows)

    def batch(self, indices: Sequence[int] | NDArray[np.int64]) -> SequenceBatch:
        """Some examples together."""
        rows = torch.as_tensor(indices, dtype=torch.long)
        return SequenceBatch(ActionInputs(self._states[self._windows[rows]]), self._actions[rows])

    def action_moments(self) -> tuple[float, float]:
        """Mean and spread of the normalised actions."""
        return float(self._actions.mean()), float(self._actions.std())

    def ranges(self) -> tuple[ValueRange, ValueRange]:
        """Of the normalised actions and states."""
        return ValueRange.of(self._actions.numpy()), ValueRange.of(self._states.numpy())


def _examples(
    episodes: Sequence[SequenceEpisode], obs_steps: int, horizon: int, action_steps: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the joined episodes: the windows of states [E, O] and the sequences of actions [E, T]."""
    windows, sequences, first = [], [], 0
    performed = min(action_steps, horizon - obs_steps + 1)
    for run in (run for episode in episodes for run in episode.runs):
        last = first + len(run) - 1
        begin = np.arange(first, max(first, last - performed + 1) + 1)[:, None] - (obs_steps - 1)
        windows.append((begin + np.arange(obs_steps)).clip(first, last))
        sequences.append((begin + np.arange(horizon)).clip(first, last))
        first = last + 1
    return np.concatenate(windows), np.concatenate(sequences)


def _load(path: Path) -> SequenceEpisode:
    try:
        with np.load(path, allow_pickle=False) as archive:
            sizes = {info.filename.removesuffix(".npy"): info.file_size for info in archive.zip.infolist()}
            if too_large := [n for n in ("states", "actions", "starts") if sizes.get(n, 0) > 4 * MAX_NUMBERS]:
                raise ValueError(f"{too_large} unpack to more than {4 * MAX_NUMBERS} bytes")
            states, actions = (np.asarray(archive[name], dtype=np.float64) for name in ("states", "actions"))
            starts = np.asarray(archive.get("starts", [0]))
        fits = states.ndim == actions.ndim == 2 and len(states) == len(actions) > 0
        if not fits or not (np.isfinite(states).all() and np.isfinite(actions).all()):
            raise ValueError(
                f"'states' and 'actions' must be finite and [N, S] and [N, A] of one N above 0, "
                f"are {list(states.shape)} and {list(actions.shape)}"
            )
        ordered = starts.ndim == 1 and starts.dtype.kind == "i" and (np.diff([*starts, len(states)]) > 0).all()
        if not ordered or starts[0] != 0:
            raise ValueError(f"'starts' must be rising numbers of steps that begin with 0, are {starts.tolist()!r:.60}")
    except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError, zipfile.BadZipFile) as error:
        raise EpisodeError(
            f"{path} is no episode of states and actions ({error}): delete it and make it again"
        ) from None
    return SequenceEpisode(states.astype(np.float32), actions.astype(np.float32), tuple(map(int, starts)))
