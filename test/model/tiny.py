"""Every variant of the network at a size for tests, and an observation for it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from minidiffuser_ros.model.config import MiniDiffuserConfig, named_config
from minidiffuser_ros.model.mini_diffuser import TOOL_FEATURES, Condition, Inputs, MiniDiffuser

B, M, P = 2, 3, 80
SMALL = MiniDiffuserConfig(
    encoder_channels=(16, 24, 32, 32), decoder_channels=(16, 24, 32), head_channels=8, width=48, instruction_dim=20,
    patch_size=24,
)  # fmt: skip
VARIANTS = {
    "small": SMALL,
    "base": replace(
        named_config("mini_diffuser_base"), encoder_channels=(16, 24, 32, 32, 32), decoder_channels=(16, 24, 32, 32),
        encoder_heads=(2, 2, 4, 4, 4), decoder_heads=(2, 2, 4, 4), width=48, instruction_dim=20, patch_size=24,
    ),
    "without rope": replace(SMALL, rope=False),
    "with local query": replace(SMALL, local_query=True),
    "without geometry": replace(SMALL, attended_geometry=False),
    "experts": replace(SMALL, num_experts=4),
    "history": replace(SMALL, history=True),
    "flat": replace(
        SMALL, backbone="flat", encoder_channels=(24, 24), decoder_channels=(), neck_levels=(0, 1), head_levels=(1,),
    ),
    "diffuser actor": replace(
        named_config("diffuser_actor"), encoder_channels=(24, 24), head_channels=8, width=48, num_heads=4,
        neck_levels=(0, 1), instruction_dim=20,
    ),
    "diffused rotation": replace(SMALL, rotation="diffused", head_levels=()),
}  # fmt: skip


def tiny_network(variant: str) -> MiniDiffuser:
    """In eval mode, no parameter at a special value: FiLM starts at zero, which would hide a leak."""
    torch.manual_seed(0)
    network = MiniDiffuser(VARIANTS[variant]).eval()
    for parameter in network.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return network


def observation(seed: int = 0) -> Inputs:
    """Two clouds, the second with a shorter sentence."""
    g = torch.Generator().manual_seed(seed)
    points = torch.rand(B * P, 3, generator=g) * torch.tensor([0.1, 0.1, 0.05]) + torch.tensor([0.4, 0.0, 0.01])
    mask = torch.ones(B, 5, dtype=torch.bool)
    mask[1, 4] = False
    return Inputs(
        points, torch.rand(B * P, 3, generator=g) * 255, torch.arange(B).repeat_interleave(P),
        torch.rand(B, 3, generator=g), torch.rand(B, TOOL_FEATURES, generator=g),
        torch.randn(B, 5, 20, generator=g), mask, 0.0,
        torch.rand(B, 3, generator=g), torch.rand(B, TOOL_FEATURES, generator=g), torch.tensor([True, False]),
    )  # fmt: skip


def samples(network: MiniDiffuser | None = None, count: int = M) -> tuple[Tensor, Tensor]:
    """Noisy positions [B, count, 3] in m among the points, with rotations behind where it asks, and timesteps."""
    g = torch.Generator().manual_seed(1)
    positions = torch.rand(B, count, 3, generator=g) * 0.1 + torch.tensor([0.4, 0.0, 0.0])
    steps = torch.randint(0, 100, (B, count), generator=g)
    numbers = 3 if network is None else network.config.sample_size
    return torch.cat([positions, torch.randn(B, count, numbers - 3, generator=g)], dim=-1), steps


def answers(network: MiniDiffuser, condition: Condition, noisy: Tensor, steps: Tensor) -> list[Tensor]:
    """Everything that the network says of samples [B, M, S]: each [B, M, ...]."""
    if network.config.rotation == "diffused":
        return list(network.denoise_and_grip(condition, noisy, steps))
    return [network.denoise(condition, noisy, steps), *network.classify(condition, noisy)]
