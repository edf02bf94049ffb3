"""Attention of the condition stream, and the literal form of the two-level attention.

Legend: B conditions, M samples per condition, L tokens a sample, V condition tokens, H heads, D head width.
`two_level.py` never builds the (M L + V)^2 mask; `reference_attention` does and is the oracle in tests.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def plain_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """softmax(q k^T) v for query [B, H, Q, D], key and value [B, H, V, D], mask [B, V], True = use.

    The fused kernel's bf16 backward on the CPU takes four to ten times as long as these three products
    (torch 2.13): it is used everywhere else.
    """
    allowed = mask[:, None, None, :]
    if query.dtype != torch.bfloat16 or query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
    logits = (query @ key.transpose(-1, -2)) * query.shape[-1] ** -0.5
    return torch.softmax(logits.masked_fill(~allowed, float("-inf")), dim=-1) @ value


def reference_mask(num_samples: int, length: int, num_shared: int) -> Tensor:
    """The mask of eq. 12 [M L + V, M L + V], True = may attend: samples first, then shared tokens."""
    block = torch.block_diag(*[torch.ones(length, length)] * num_samples).bool()
    top = torch.cat([block, torch.ones(num_samples * length, num_shared, dtype=torch.bool)], dim=1)
    bottom = torch.cat(
        [
            torch.zeros(num_shared, num_samples * length, dtype=torch.bool),
            torch.ones(num_shared, num_shared, dtype=torch.bool),
        ],
        dim=1,
    )
    return torch.cat([top, bottom])


def reference_attention(query: Tensor, key: Tensor, value: Tensor, num_samples: int, length: int) -> Tensor:
    """Literal masked attention over the concatenated sequence [B, M L + V, H, D]: slow, for tests."""
    allowed = reference_mask(num_samples, length, query.shape[1] - num_samples * length)
    logits = torch.einsum("bqhd,bkhd->bhqk", query, key) * query.shape[-1] ** -0.5
    weights = torch.softmax(logits.masked_fill(~allowed, float("-inf")), dim=-1)
    return torch.einsum("bhqk,bkhd->bqhd", weights, value)
