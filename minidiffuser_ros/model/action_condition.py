"""What a network over action sequences knows of an observation: states as they are, images as found keypoints.

Legend: B conditions, O observation steps, S numbers of a state, V cameras, H x W pixels, C channels, D features.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minidiffuser_ros.contract.errors import ObservationError
from minidiffuser_ros.model.action_config import IMAGE_GROUP, ActionConfig


@dataclass(frozen=True)
class ActionInputs:
    """One batch of observations, oldest step first.

    states [B, O, S], each number scaled to about [-1, 1]; images [B, V, O, 3, H, W] RGB, uint8 or floats in [0, 1].
    None for what the network does not take.
    """

    states: Tensor | None = None
    images: Tensor | None = None

    def to(self, device: torch.device | str) -> ActionInputs:
        """The same batch on another device."""
        return replace(self, **{k: v.to(device) for k, v in vars(self).items() if isinstance(v, Tensor)})


class ObservationEncoder(nn.Module):
    """A batch of observations to features [B, width], Diffusion Policy's global condition.

    The window of states is flattened, each camera has an encoder of its own that sees all steps of the window, and
    everything is concatenated (Chi et al. 2023, "Visual encoder").
    """

    def __init__(self, config: ActionConfig) -> None:
        super().__init__()
        self.config = config
        widths = (config.state_dim * (1 if config.states_apart else config.obs_steps), *config.state_mlp)
        layers = [nn.Sequential(nn.Linear(a, b), nn.Mish()) for a, b in pairwise(widths)]
        self.state_mlp = nn.Sequential(*layers)
        self.cameras = nn.ModuleList(ImageEncoder(config) for _ in range(config.cameras))
        self.width = widths[-1] + config.cameras * config.obs_steps * config.camera_features
        self.step_width = widths[-1] + config.cameras * config.camera_features

    def forward(self, inputs: ActionInputs) -> Tensor:
        """Features [B, D]. Raises ObservationError for states or images of another shape than the configured."""
        self.require(inputs)
        states = [] if inputs.states is None else [self.state_mlp(inputs.states.flatten(1))]
        return torch.cat([*states, *(seen.flatten(1) for seen in self._seen(inputs))], dim=-1)

    def steps(self, inputs: ActionInputs) -> Tensor:
        """The same of each observation step by itself [B, O, step_width], for a network with `states_apart`."""
        self.require(inputs)
        states = [] if inputs.states is None else [self.state_mlp(inputs.states)]
        return torch.cat([*states, *self._seen(inputs)], dim=-1)

    def _seen(self, inputs: ActionInputs) -> list[Tensor]:
        """Of every camera [B, O, camera_features]."""
        if inputs.images is None:
            return []
        pairs = zip(self.cameras, inputs.images.unbind(1), strict=True)
        return [camera(images.flatten(0, 1)).unflatten(0, images.shape[:2]) for camera, images in pairs]

    def require(self, inputs: ActionInputs) -> None:
        """Raise ObservationError for states or images of another shape than the configured."""
        c = self.config
        expected = {
            "states": (c.obs_steps, c.state_dim) if c.state_dim else None,
            "images": (c.cameras, c.obs_steps, 3, *c.image_size) if c.cameras else None,
        }
        reasons = []
        for name, shape in expected.items():
            value: Tensor | None = getattr(inputs, name)
            found = None if value is None else tuple(value.shape[1:])
            if found != shape:
                reasons.append(f"{name} of one observation must be {_words(shape)}, got {_words(found)}")
        if inputs.images is not None and not (inputs.images.dtype == torch.uint8 or inputs.images.is_floating_point()):
            reasons.append(f"images must be uint8 or floats in [0, 1], got {inputs.images.dtype}")
        if reasons:
            raise ObservationError(reasons)


def _words(shape: tuple[int, ...] | None) -> str:
    return "none" if shape is None else str(list(shape))


class ImageEncoder(nn.Module):
    """Images [N, 3, H, W] to [N, camera_features]: residual network, spatial softmax, linear.

    A ResNet with GroupNorm, so that no image notices the others of its batch, and a spatial softmax in place of the
    mean over the image, so that places survive (Chi et al. 2023, "Visual encoder"). One strided convolution stands for
    the strided convolution and max pooling of ResNet-18.
    """

    def __init__(self, config: ActionConfig) -> None:
        super().__init__()
        channels, stride = config.image_channels, config.image_stride
        kernel = max(3, 2 * stride - 1)
        blocks: list[nn.Module] = []
        for last, width in zip((channels[0], *channels), channels, strict=False):
            blocks.append(ImageBlock(last, width, 2 if blocks else 1))
            blocks += [ImageBlock(width, width, 1) for _ in range(config.image_blocks - 1)]
        self.body = nn.Sequential(
            nn.Conv2d(3, channels[0], kernel, stride, kernel // 2, bias=False), _norm(channels[0]), nn.ReLU(), *blocks
        )
        self.scores = nn.Conv2d(channels[-1], config.keypoints, 1)
        self.out = nn.Linear(2 * config.keypoints, config.camera_features)

    def forward(self, images: Tensor) -> Tensor:
        """Images in [0, 255] if uint8, otherwise in [0, 1]."""
        weight = self.out.weight
        pixels = images.to(weight.dtype) / 127.5 if images.dtype == torch.uint8 else images.to(weight.dtype) * 2.0
        keypoints = expected_places(self.scores(self.body(pixels - 1.0)))
        out: Tensor = self.out(keypoints.flatten(1).to(weight.dtype))
        return out


class ImageBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut (He et al. 2016), with GroupNorm."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(channels, out, 3, stride, 1, bias=False), _norm(out), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(out, out, 3, padding=1, bias=False), _norm(out))
        same = stride == 1 and channels == out
        self.shortcut = (
            nn.Identity() if same else nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), _norm(out))
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, out, H / stride, W / stride]."""
        return F.relu(self.second(self.first(x)) + self.shortcut(x))


def expected_places(scores: Tensor) -> Tensor:
    """Spatial softmax (Levine et al. 2016): scores [..., H, W] to mean places [..., 2], x then y.

    -1 and 1 are the centres of the first and the last pixel.
    """
    height, width = scores.shape[-2:]
    weights = torch.softmax(scores.flatten(-2), dim=-1).unflatten(-1, (height, width))
    x = torch.linspace(-1.0, 1.0, width, dtype=weights.dtype, device=weights.device)
    y = torch.linspace(-1.0, 1.0, height, dtype=weights.dtype, device=weights.device)
    return torch.stack([(weights.sum(-2) * x).sum(-1), (weights.sum(-1) * y).sum(-1)], dim=-1)


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(channels // IMAGE_GROUP, channels)
