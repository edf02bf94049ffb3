"""Several quantities diffused as one state, each on a schedule of its own, all at the same timestep.

3D Diffuser Actor (Ke et al. 2024, sec. III-B) noises a keypose's position and its rotation in this way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from minidiffuser_ros.contract.errors import ConfigurationError
from minidiffuser_ros.diffusion.schedule import NoiseSchedule, ScheduleConfig


class JointSchedule(NoiseSchedule):
    """Tables [K, D]: every number of the state has signal and sigma of its part, else it is a `NoiseSchedule`.

    parts: (schedule, how many numbers) in the order of the state; `config` is the first one's. Samplers walk all parts
    through the same timesteps, each by its own tables. Raises ConfigurationError for parts of different lengths.
    """

    def __init__(self, parts: Sequence[tuple[ScheduleConfig, int]]) -> None:
        steps = [config.num_train_timesteps for config, _ in parts]
        if not parts or len(set(steps)) > 1 or any(size < 1 for _, size in parts):
            raise ConfigurationError(
                f"what is diffused together needs the same num_train_timesteps and at least one number each, "
                f"got {steps} timesteps for {[size for _, size in parts]} numbers"
            )
        self._configs = tuple(parts)
        self.config = parts[0][0]
        self.sizes = [size for _, size in parts]
        self.parts = [NoiseSchedule(config) for config, _ in parts]
        self.signal = self._by_number([part.signal for part in self.parts])
        self.sigma = self._by_number([part.sigma for part in self.parts])

    def to(self, device: torch.device | str) -> JointSchedule:
        """The same schedule with its tables on another device."""
        moved = JointSchedule(self._configs)
        moved.parts = [part.to(device) for part in self.parts]
        moved.signal, moved.sigma = self.signal.to(device), self.sigma.to(device)
        return moved

    def coefficients(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """signal and sigma of every number: [..., D] for timesteps [...]."""
        return self.signal.to(timesteps.device)[timesteps], self.sigma.to(timesteps.device)[timesteps]

    def target(self, original: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the denoiser should return, each part after its own prediction type, [..., D]."""
        return self._of_parts(lambda part, a, b: (part.target(a, b, timesteps),), original, noise)[0]

    def original(self, prediction: Tensor, noisy: Tensor, timesteps: Tensor) -> Tensor:
        """The original that a prediction implies, each part after its own prediction type, [..., D]."""
        return self._of_parts(lambda part, a, b: (part.original(a, b, timesteps),), prediction, noisy)[0]

    def _of_parts(
        self, function: Callable[[NoiseSchedule, Tensor, Tensor], tuple[Tensor, ...]], first: Tensor, second: Tensor
    ) -> list[Tensor]:
        """The results of a function of two states [..., D], computed part by part."""
        numbers = zip(self.parts, first.split(self.sizes, dim=-1), second.split(self.sizes, dim=-1), strict=True)
        results = [function(*part) for part in numbers]
        return [torch.cat(values, dim=-1) for values in zip(*results, strict=True)]

    def _by_number(self, tables: Sequence[Tensor]) -> Tensor:
        """Tables [K] of the parts as one [K, D]."""
        return torch.stack(list(tables), dim=-1).repeat_interleave(torch.tensor(self.sizes), dim=-1)
