"""A trained policy on disk: `model.safetensors` beside `config.json`, nothing that could run code."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from minidiffuser_ros.contract.errors import CheckpointError, ConfigurationError
from minidiffuser_ros.contract.files import replace_file
from minidiffuser_ros.contract.observation import ObservationSpec
from minidiffuser_ros.diffusion.joint import JointSchedule
from minidiffuser_ros.diffusion.sampler import SamplerConfig, inference_timesteps
from minidiffuser_ros.diffusion.schedule import NoiseSchedule, ScheduleConfig
from minidiffuser_ros.model.config import POSITION, ROTATION, MiniDiffuserConfig
from minidiffuser_ros.policy.plain_values import from_plain

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config")
WEIGHTS, CONFIG = "model.safetensors", "config.json"
FORMAT = 1


@dataclasses.dataclass(frozen=True)
class PolicyConfig:
    """Everything that rebuilds a policy but its weights. instructions: every sentence of its demonstrations.

    rotation_schedule: of the network's rotation where that is diffused with the position, which has `schedule`; None
    where it is classified.
    """

    spec: ObservationSpec = dataclasses.field(default_factory=ObservationSpec)
    model: MiniDiffuserConfig = dataclasses.field(default_factory=MiniDiffuserConfig)
    schedule: ScheduleConfig = dataclasses.field(default_factory=ScheduleConfig)
    sampler: SamplerConfig = dataclasses.field(default_factory=SamplerConfig)
    num_candidates: int = 16
    position_mean: float = 0.0
    position_spread: float = 0.5
    instructions: tuple[str, ...] = ()
    rotation_schedule: ScheduleConfig | None = None

    def __post_init__(self) -> None:
        if self.num_candidates < 1 or self.position_spread <= 0:
            raise ConfigurationError(
                f"num_candidates must be at least 1 and position_spread above 0, "
                f"got {self.num_candidates} and {self.position_spread}"
            )
        if (self.rotation_schedule is not None) != (self.model.rotation == "diffused"):
            given = "none" if self.rotation_schedule is None else f"'{self.rotation_schedule.beta_schedule}'"
            raise ConfigurationError(
                f"a rotation_schedule belongs to a model with rotation 'diffused' and to no other, "
                f"got {given} with rotation '{self.model.rotation}'"
            )
        self.noise_schedule()
        inference_timesteps(self.schedule.num_train_timesteps, self.sampler.num_inference_steps)

    def noise_schedule(self) -> NoiseSchedule:
        """Of everything that is diffused."""
        if self.rotation_schedule is None:
            return NoiseSchedule(self.schedule)
        return JointSchedule([(self.schedule, POSITION), (self.rotation_schedule, ROTATION)])


def new_policy(
    model: MiniDiffuserConfig,
    spec: ObservationSpec | None = None,
    instructions: tuple[str, ...] = (),
    schedule: ScheduleConfig | None = None,
) -> PolicyConfig:
    """A policy with the schedules that its network is trained with, or the given one for all that is diffused.

    Where rotation is diffused they are 3D Diffuser Actor's, one each for position and rotation, over 100 steps.
    """
    basic = PolicyConfig(spec=spec or ObservationSpec(), instructions=instructions)
    if model.rotation == "bins":
        return dataclasses.replace(basic, model=model, schedule=schedule or basic.schedule)
    position = schedule or ScheduleConfig(beta_schedule="scaled_linear")
    rotation = schedule or ScheduleConfig(beta_schedule="squaredcos_cap_v2")
    return dataclasses.replace(basic, model=model, schedule=position, rotation_schedule=rotation)


def save_checkpoint(folder: Path, config: DataclassInstance, weights: dict[str, Tensor]) -> None:
    """Write weights, then the config; each under a temporary name that is renamed when complete.

    Weights are stored in half precision: half the download, and far below the noise of training.
    """
    stored = {name: tensor.detach().half().contiguous() for name, tensor in weights.items()}
    replace_file(folder / WEIGHTS, lambda path: save_file(stored, path))
    values = {name: value for name, value in dataclasses.asdict(config).items() if value is not None}
    text = json.dumps({"format": FORMAT, **values}, indent=2) + "\n"
    replace_file(folder / CONFIG, lambda path: path.write_text(text))


def load_checkpoint(folder: Path) -> tuple[PolicyConfig, dict[str, Tensor]]:
    """Read a checkpoint. Raises CheckpointError saying which folder and what is missing or foreign."""
    required = {"spec", "model", "schedule", "sampler"}
    return read_checkpoint(folder, PolicyConfig, required, "train one with `minidiffuser train`")


def read_checkpoint(
    folder: Path, kind: type[Config], required: set[str], advice: str
) -> tuple[Config, dict[str, Tensor]]:
    """Config and weights of a checkpoint whose config is of this kind and has at least the required fields.

    Raises CheckpointError saying which folder and what is missing or foreign; where a file is missing, with advice.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} is no checkpoint: it has no {name}; {advice}")
    try:
        values = json.loads((folder / CONFIG).read_text())
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            raise CheckpointError(f"{folder} was written by another version; this one reads format {FORMAT}")
        if missing := required - values.keys():
            raise ConfigurationError(f"{CONFIG} lacks {sorted(missing)}")
        return from_plain(kind, values), load_file(folder / WEIGHTS)
    except (ValueError, RecursionError, OSError, SafetensorError, ConfigurationError) as error:
        raise CheckpointError(f"{folder} is not a checkpoint of this package: {error}") from None
