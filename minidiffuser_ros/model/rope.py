"""3-D rotary position encoding: attention logits that depend on relative position only.

Legend: ... any leading axes, H heads, D head width. A third of D turns with x, y and z each; what does not
divide stays unrotated. `scale` is in radians per metre for the fastest frequency.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rope_angles(positions: Tensor, head_dim: int, scale: float, base: float) -> tuple[Tensor, Tensor]:
    """cos and sin [..., 3 F] for positions [..., 3] in metres, F = head_dim // 6 frequencies per axis."""
    count = head_dim // 6
    exponent = torch.arange(count, device=positions.device, dtype=torch.float32) / max(count, 1)
    frequencies = scale * base ** (-exponent)
    angles = (positions.float().unsqueeze(-1) * frequencies).flatten(-2)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, angles: tuple[Tensor, Tensor], heads: int = -2) -> Tensor:
    """Turn x [..., H, D] by the angles [..., 3 F] of its positions; the same turn for every head, axis `heads` of x."""
    cos, sin = (a.unsqueeze(heads).to(x.dtype) for a in angles)
    width = cos.shape[-1]
    first, second, rest = x[..., :width], x[..., width : 2 * width], x[..., 2 * width :]
    return torch.cat([first * cos - second * sin, first * sin + second * cos, rest], dim=-1)
