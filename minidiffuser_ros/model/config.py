"""Sizes and features of a Mini-Diffuser, and those that have a name: `NAMED_CONFIGS`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from minidiffuser_ros.contract.errors import ConfigurationError, require_positive

SerializedOrder = Literal["z", "z-transposed", "hilbert", "hilbert-transposed"]

Backbone = Literal["unet", "flat"]
RotationOutput = Literal["bins", "diffused"]

POSITION, ROTATION = 3, 6  # numbers of a diffused keypose: the position, then two columns of the rotation's matrix

POSITIVE = (
    "grid_size", "encoder_channels", "head_channels", "patch_size", "width", "num_heads", "mlp_ratio",
    "instruction_dim", "rope_scale", "rope_base", "rotation_bins",
)  # fmt: skip


@dataclass(frozen=True)
class MiniDiffuserConfig:
    """Finest level first in every tuple. Lengths in metres, `rope_scale` in rad per metre.

    The defaults are `mini_diffuser_small`, what two CPU cores train. Without `encoder_heads` and `decoder_heads` a
    head has `head_channels` channels. position_linear: a linear layer after the position encoding's convolution.
    mlp_before_text: an MLP between a block's self-attention and its attention to the instruction as well as after.
    serialized_orders: one a level, in a new order every pass of training.
    rope, local_query and attended_geometry (where the attended points lie relative to the sample) switch parts of
    the neck. num_experts: MLPs of each neck block between which the noise level chooses `active_experts`; 0 for one
    MLP that serves all. history: one more token, the tool one keypose earlier.

    backbone `flat`: no U-Net but one grid of `grid_size`, a block of global attention for each of `encoder_channels`,
    which are then equal, and no decoder; `neck_levels` and `head_levels` count these blocks.

    rotation `diffused`: position and rotation are denoised together and the gripper is read from the same token
    (3D Diffuser Actor); no `head_levels`, and `rotation_bins` means nothing.
    """

    grid_size: float = 0.008
    encoder_channels: tuple[int, ...] = (32, 64, 96, 128)
    decoder_channels: tuple[int, ...] = (48, 64, 96)
    head_channels: int = 16
    patch_size: int = 128
    width: int = 96
    num_heads: int = 4
    neck_levels: tuple[int, ...] = (3, 2, 1, 0, 0)
    head_levels: tuple[int, ...] = (1, 0)
    mlp_ratio: int = 2
    instruction_dim: int = 768
    dropout: float = 0.0
    rope_scale: float = 100.0
    rope_base: float = 100.0
    rotation_bins: int = 72
    encoder_heads: tuple[int, ...] = ()
    decoder_heads: tuple[int, ...] = ()
    stem_kernel: int = 3
    position_linear: bool = False
    patch_qk_norm: bool = False
    mlp_before_text: bool = False
    serialized_orders: tuple[SerializedOrder, ...] = ("z",)
    rope: bool = True
    local_query: bool = False
    attended_geometry: bool = True
    num_experts: int = 0
    active_experts: int = 2
    backbone: Backbone = "unet"
    history: bool = False
    rotation: RotationOutput = "bins"

    @property
    def sample_size(self) -> int:
        """Numbers of one sample: 3, or 9 where rotation is diffused with the position."""
        return POSITION + (ROTATION if self.rotation == "diffused" else 0)

    def __post_init__(self) -> None:
        require_positive(self, POSITIVE)
        if self.width % self.num_heads or 360 % self.rotation_bins:
            raise ConfigurationError(
                f"num_heads must divide width {self.width} and rotation_bins must divide 360, "
                f"got {self.num_heads} and {self.rotation_bins}"
            )
        if self.rope and self.width // self.num_heads < 6:
            raise ConfigurationError(
                f"rope turns three axes and needs heads of at least 6 channels, got {self.width // self.num_heads}"
            )
        if self.num_experts < 0 or (self.num_experts and not 1 <= self.active_experts <= self.num_experts):
            raise ConfigurationError(
                f"active_experts must lie in 1 ... num_experts {self.num_experts}, got {self.active_experts}"
            )
        if self.stem_kernel < 1 or self.stem_kernel % 2 == 0:
            raise ConfigurationError(f"stem_kernel must be odd, got {self.stem_kernel}")
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigurationError(f"dropout must lie in [0, 1), got {self.dropout}")
        unknown = set(self.serialized_orders) - set(get_args(SerializedOrder))
        if unknown or not self.serialized_orders:
            raise ConfigurationError(
                f"serialized_orders must be some of {get_args(SerializedOrder)}, got {self.serialized_orders}"
            )
        if self.rotation not in get_args(RotationOutput):
            raise ConfigurationError(f"rotation must be one of {get_args(RotationOutput)}, got '{self.rotation}'")
        if self.rotation == "diffused" and self.head_levels:
            raise ConfigurationError(
                f"rotation 'diffused' has no classification heads and needs head_levels (), got {self.head_levels}"
            )
        self._check_levels()

    def _check_levels(self) -> None:
        if self.backbone not in get_args(Backbone):
            raise ConfigurationError(f"backbone must be one of {get_args(Backbone)}, got '{self.backbone}'")
        if self.backbone == "unet" and len(self.decoder_channels) != len(self.encoder_channels) - 1:
            raise ConfigurationError(
                f"decoder_channels must have one level less than encoder_channels {self.encoder_channels}, "
                f"got {self.decoder_channels}"
            )
        if self.backbone == "flat" and (self.decoder_channels or len(set(self.encoder_channels)) != 1):
            raise ConfigurationError(
                "a flat backbone has equal encoder_channels and no decoder_channels, "
                f"got {self.encoder_channels} and {self.decoder_channels}"
            )
        if self.backbone == "flat" and (self.position_linear or self.patch_qk_norm or self.mlp_before_text):
            raise ConfigurationError(
                "position_linear, patch_qk_norm and mlp_before_text belong to the unet, got True with backbone 'flat'"
            )
        for name in ("encoder", "decoder"):
            channels, heads = getattr(self, f"{name}_channels"), getattr(self, f"{name}_heads")
            if heads and (len(heads) != len(channels) or any(c % h for c, h in zip(channels, heads, strict=True))):
                raise ConfigurationError(f"{name}_heads must divide {name}_channels {channels}, got {heads}")
        for name in ("neck_levels", "head_levels"):
            if not all(0 <= level < len(self.encoder_channels) for level in getattr(self, name)):
                raise ConfigurationError(
                    f"{name} must lie in 0 ... {len(self.encoder_channels) - 1}, got {getattr(self, name)}"
                )


MINI_DIFFUSER_BASE = MiniDiffuserConfig(
    grid_size=0.01,
    encoder_channels=(36, 72, 144, 192, 384),
    decoder_channels=(72, 72, 144, 192),
    encoder_heads=(2, 4, 8, 16, 32),
    decoder_heads=(4, 4, 8, 16),
    patch_size=120,
    width=72,
    num_heads=4,
    neck_levels=(4, 3, 2, 1, 0),
    head_levels=(0,),
    mlp_ratio=4,
    dropout=0.1,
    rope_base=10000.0,
    stem_kernel=5,
    position_linear=True,
    patch_qk_norm=True,
    mlp_before_text=True,
    local_query=True,
    serialized_orders=("z", "z-transposed", "hilbert", "hilbert-transposed"),
)
"""The published sizes, for clouds of at most 4000 points on a 1 cm grid."""

DIFFUSER_ACTOR = MiniDiffuserConfig(
    encoder_channels=(120, 120, 120, 120),
    decoder_channels=(),
    head_channels=15,
    width=120,
    num_heads=8,
    neck_levels=(0, 1, 2, 3),
    head_levels=(),
    mlp_ratio=4,
    attended_geometry=False,
    backbone="flat",
    rotation="diffused",
)
"""3D Diffuser Actor's layers with the non-invasive attention (v2 sec. IV-D2): 120 channels, 8 heads, rotary in 3-D,
FiLM by noise and observation. What Mini-Diffuser adds to the neck is off; depth and cells are this package's."""

NAMED_CONFIGS = {
    "mini_diffuser_small": MiniDiffuserConfig(),
    "mini_diffuser_base": MINI_DIFFUSER_BASE,
    "diffuser_actor": DIFFUSER_ACTOR,
}


def named_config(name: str) -> MiniDiffuserConfig:
    """The configuration of that name. Raises ConfigurationError naming those there are."""
    if name not in NAMED_CONFIGS:
        raise ConfigurationError(f"no network is called '{name}'; there are {', '.join(NAMED_CONFIGS)}")
    return NAMED_CONFIGS[name]
