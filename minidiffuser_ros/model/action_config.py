"""Sizes of the networks over action sequences, and those by name: U-Nets and transformers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from minidiffuser_ros.contract.errors import ConfigurationError, require_positive

POSITIVE = (
    "horizon", "action_dim", "obs_steps", "image_size", "image_channels", "image_blocks", "image_stride",
    "keypoints", "camera_features",
)  # fmt: skip
IMAGE_GROUP = 16
"""Channels that the image encoder normalises together, as Diffusion Policy has it."""


@dataclass(frozen=True)
class ActionConfig:
    """What every network over action sequences has: its actions, and what it makes of an observation.

    An observation is a window of `obs_steps` states of `state_dim` numbers, images of `cameras` cameras of
    `image_size` (height, width) pixels, or both. state_mlp: widths of layers over the flattened window, of a
    transformer over each state by itself; none as published. image_channels, image_blocks: stages of a residual
    network, each but the first halving the image, and blocks in a stage; image_stride: of the convolution before them.
    keypoints, camera_features: what the spatial softmax finds in an image and what is told of it. The defaults are
    Diffusion Policy's for PushT from images (Chi et al. 2023).
    """

    states_apart: ClassVar[bool] = False  # whether `state_mlp` sees each state by itself

    horizon: int = 16
    action_dim: int = 2
    obs_steps: int = 2
    state_dim: int = 2
    state_mlp: tuple[int, ...] = ()
    cameras: int = 1
    image_size: tuple[int, int] = (96, 96)
    image_channels: tuple[int, ...] = (64, 128, 256, 512)
    image_blocks: int = 2
    image_stride: int = 4
    keypoints: int = 32
    camera_features: int = 64

    def __post_init__(self) -> None:
        require_positive(self, POSITIVE + (("state_mlp",) if self.state_mlp else ()))
        if min(self.state_dim, self.cameras) < 0 or self.state_dim + self.cameras == 0:
            raise ConfigurationError(
                "an observation needs states or images: state_dim and cameras must be at least 0 and not both 0, "
                f"got {self.state_dim} and {self.cameras}"
            )
        if self.state_mlp and not self.state_dim:
            raise ConfigurationError(f"state_mlp needs a state_dim above 0, got {self.state_mlp} without states")
        if self.cameras:
            self._check_images()

    def _check_images(self) -> None:
        if any(c % IMAGE_GROUP for c in self.image_channels):
            raise ConfigurationError(f"image_channels must be multiples of {IMAGE_GROUP}, got {self.image_channels}")
        shrinks = self.image_stride * 2 ** (len(self.image_channels) - 1)
        if min(self.image_size) <= shrinks:
            raise ConfigurationError(
                f"image_size must be above {shrinks}, by which image_stride and image_channels shrink it, "
                f"got {self.image_size}"
            )


@dataclass(frozen=True)
class ActionUNetConfig(ActionConfig):
    """The temporal U-Net, finest level first; the defaults are Diffusion Policy's for PushT from images.

    channels, kernel, groups (of GroupNorm), step_width (of the embedded diffusion step).
    """

    channels: tuple[int, ...] = (256, 512, 1024)
    kernel: int = 5
    groups: int = 8
    step_width: int = 256

    def __post_init__(self) -> None:
        require_positive(self, ("channels", "kernel", "groups", "step_width"))
        super().__post_init__()
        if self.kernel % 2 == 0 or self.step_width % 2:
            raise ConfigurationError(f"kernel must be odd and step_width even, got {self.kernel} and {self.step_width}")
        if any(c % self.groups for c in self.channels):
            raise ConfigurationError(f"groups must divide channels {self.channels}, got {self.groups}")
        halvings = len(self.channels) - 1
        if self.horizon % 2**halvings:
            raise ConfigurationError(
                f"horizon must be a multiple of {2**halvings}, because {len(self.channels)} channels halve it "
                f"{halvings} times, got {self.horizon}"
            )


@dataclass(frozen=True)
class ActionTransformerConfig(ActionConfig):
    """The transformer; the defaults are Diffusion Policy's (Chi et al. 2023, "time-series diffusion transformer").

    width, num_heads, num_layers, mlp_ratio: of the decoder. dropout: of what each branch adds.
    """

    states_apart: ClassVar[bool] = True

    width: int = 256
    num_heads: int = 4
    num_layers: int = 8
    mlp_ratio: int = 4
    dropout: float = 0.0

    def __post_init__(self) -> None:
        require_positive(self, ("width", "num_heads", "num_layers", "mlp_ratio"))
        super().__post_init__()
        if self.width % 2 or self.width % self.num_heads:
            raise ConfigurationError(
                f"width must be even and divisible by num_heads, got {self.width} with {self.num_heads} heads"
            )
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigurationError(f"dropout must lie in [0, 1), got {self.dropout}")


NAMED_ACTION_CONFIGS = {
    "action_unet": ActionUNetConfig(),
    "action_unet_small": ActionUNetConfig(
        image_channels=(16, 32, 64), image_blocks=1, image_stride=2, keypoints=16, camera_features=32,
        channels=(32, 64), step_width=64,
    ),
}  # fmt: skip
NAMED_TRANSFORMER_CONFIGS = {
    "action_transformer": ActionTransformerConfig(),
    "action_transformer_small": ActionTransformerConfig(
        image_channels=(16, 32, 64), image_blocks=1, image_stride=2, keypoints=16, camera_features=32, width=128,
    ),
}  # fmt: skip


def named_action_config(name: str) -> ActionUNetConfig:
    """The U-Net of that name. Raises ConfigurationError naming those there are."""
    if name not in NAMED_ACTION_CONFIGS:
        raise _unknown(name, NAMED_ACTION_CONFIGS)
    return NAMED_ACTION_CONFIGS[name]


def named_sequence_config(name: str) -> ActionUNetConfig | ActionTransformerConfig:
    """The network of that name, of either kind. Raises ConfigurationError naming those there are."""
    known: dict[str, ActionUNetConfig | ActionTransformerConfig] = {**NAMED_TRANSFORMER_CONFIGS, **NAMED_ACTION_CONFIGS}
    if name not in known:
        raise _unknown(name, known)
    return known[name]


def _unknown(name: str, known: Iterable[str]) -> ConfigurationError:
    return ConfigurationError(f"no network over action sequences is called '{name}'; there are {', '.join(known)}")
